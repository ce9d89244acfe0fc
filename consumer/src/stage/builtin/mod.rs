//! Functions of jobs that need no code: the table of docs/jobs.md.
//!
//! What they can be used for, and with which arguments, `workyard_shared` checks, for submitters too. Invariant: what a
//! function cannot do with its input or its arguments fails the task for good and says why.

mod fields;
mod number;
mod select;
mod tables;
mod tally;
#[cfg(test)]
mod tests;
mod top;
mod words;

use std::sync::Arc;

use serde_json::value::RawValue;
use workyard_shared::job::builtin;

use super::blocking::Pure;
use super::{Item, Stage, StageContext, StageInput};
use crate::handler::Failure;

type Function = fn(&StageContext, &StageInput) -> Result<Vec<u8>, Failure>;

/// The built-in function of this kind.
pub(super) fn find(kind: &str) -> Option<Arc<dyn Stage>> {
    // Whether a part of a sequence may be reduced first, and the function.
    let (folds_parts, function): (bool, Function) = match kind {
        "word-count" => (false, words::count_words),
        "line-count" => (false, words::count_lines),
        "grep" => (false, select::grep),
        "identity" => (false, select::identity),
        "sum" => (true, tally::sum),
        "count" => (true, tally::count),
        "min" => (true, tally::min),
        "max" => (true, tally::max),
        "top-n" => (true, top::top),
        "histogram" => (false, tables::histogram),
        "sum-by-key" => (true, tables::sum_by_key),
        _ => return None,
    };
    let stage = Pure::linear(folds_parts, move |ctx: &StageContext, input: StageInput| {
        check(ctx)?;
        function(ctx, &input)
    });
    Some(Arc::new(stage))
}

fn check(ctx: &StageContext) -> Result<(), Failure> {
    builtin::check(ctx.task.kind(), ctx.role, ctx.is_keyed(), &ctx.args).map_err(Failure::fatal)
}

/// The failure of an input that is not the function's. [`check`] has told by then what it cannot be used for.
fn unexpected(ctx: &StageContext) -> Failure {
    ctx.misuse("this is not its input")
}

/// What to do about a value of a fold that is a pair; nothing about any other.
fn pair_hint(item: Item<'_>) -> &'static str {
    let is_pair = match item {
        Item::Json(json) => json.starts_with('[') && serde_json::from_str::<(&RawValue, &RawValue)>(json).is_ok(),
        Item::Text(_) => false,
    };
    if is_pair {
        " (pairs are for the keyed form: --keyed)"
    } else {
        ""
    }
}

/// A beginning of an item, for messages.
fn shown(item: Item<'_>) -> String {
    item.text().chars().take(60).collect()
}
