//! Functions of jobs that need no code: the table of docs/jobs.md.
//!
//! Invariant: what a function cannot do with its input or its arguments fails the task for good and says why.

mod fields;
mod number;
mod select;
mod tables;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod top;
mod words;

use std::sync::Arc;

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
    let stage = Pure::new(folds_parts, move |ctx: &StageContext, input: StageInput| {
        function(ctx, &input)
    });
    Some(Arc::new(stage))
}

/// A beginning of an item, for messages.
fn shown(item: Item<'_>) -> String {
    item.text().chars().take(60).collect()
}
