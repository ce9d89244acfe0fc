//! `sum`, `count`, `min`, `max`: one number out of many.

use workyard_shared::job::Number;
use workyard_shared::job::builtin::{Counted, Field};

use super::super::{Item, StageContext, StageInput, lines};
use super::number::{Sum, number_in};
use super::select::Selector;
use super::{fields, shown};
use crate::handler::Failure;

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Sum,
    Count,
    Min,
    Max,
}

/// One number so far.
struct Tally {
    of: Of,
    sum: Sum,
    best: Option<Number>,
}

pub(super) fn sum(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    tally(Of::Sum, ctx, input)
}

pub(super) fn count(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    tally(Of::Count, ctx, input)
}

pub(super) fn min(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    tally(Of::Min, ctx, input)
}

pub(super) fn max(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    tally(Of::Max, ctx, input)
}

fn tally(of: Of, ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut total = Tally::new(of);
    match input {
        StageInput::Chunk(_) if of == Of::Count => count_items(ctx, input, &mut total.sum)?,
        StageInput::Chunk(_) => {
            let Field { field } = ctx.parse_args()?;
            input.each(ctx, |number, item| {
                let value = match &field {
                    Some(name) => fields::of(number, item, name)?,
                    None => item,
                };
                total.add(&format_args!("item {number}"), value)
            })?;
        }
        StageInput::Values(_) => {
            // Counts of parts are summed; the sums, least and greatest of parts are what they are.
            let mut hint = "";
            if of == Of::Count {
                total.of = Of::Sum;
                hint = " (as a reduce, count adds up counts; to count what matches, map with count and its pattern)";
            }
            input.each(ctx, |number, item| {
                let added = total.add(&format_args!("value {number}"), item);
                added.map_err(|failure| Failure::fatal(failure.message + hint))
            })?;
        }
        StageInput::Groups(groups) => {
            groups.each(|group| {
                ctx.check()?;
                let key = group.key.as_json();
                let mut total = Tally::new(of);
                for value in group.values() {
                    total.add(&format_args!("a value of key {key}"), Item::Json(value))?;
                }
                if let Some(json) = total.json()? {
                    lines::push_pair(&mut out, key, &json);
                }
                Ok(())
            })?;
            return Ok(out);
        }
    }
    if let Some(json) = total.json()? {
        lines::push_json(&mut out, &json);
    }
    Ok(out)
}

/// Counts the items that are meant; without arguments all of them.
fn count_items(ctx: &StageContext, input: &StageInput, count: &mut Sum) -> Result<(), Failure> {
    let args: Counted = ctx.parse_args()?;
    let pattern = args.pattern.as_deref();
    let selector = pattern
        .map(|pattern| Selector::new(ctx, pattern, args.invert))
        .transpose()?;
    input.each(ctx, |number, item| {
        let value = match &args.field {
            Some(name) => fields::maybe(number, item, name)?,
            None => Some(item),
        };
        // A field that is not there is not counted, whatever the pattern.
        match value {
            Some(value) if selector.as_ref().is_none_or(|selector| selector.takes(value)) => count.add(Number::Int(1)),
            _ => Ok(()),
        }
    })
}

impl Tally {
    fn new(of: Of) -> Self {
        Self {
            of,
            sum: Sum::default(),
            best: None,
        }
    }

    fn add(&mut self, what: &std::fmt::Arguments<'_>, value: Item<'_>) -> Result<(), Failure> {
        if self.of == Of::Count {
            return self.sum.add(Number::Int(1));
        }
        let number =
            number_in(value).ok_or_else(|| Failure::fatal(format!("{what} is no number: {}", shown(value))))?;
        match self.of {
            Of::Sum | Of::Count => self.sum.add(number)?,
            Of::Min => self.best = Some(self.best.map_or(number, |best| best.min(number))),
            Of::Max => self.best = Some(self.best.map_or(number, |best| best.max(number))),
        }
        Ok(())
    }

    /// `None`: there is no least or greatest of nothing.
    fn json(self) -> Result<Option<String>, Failure> {
        match self.of {
            Of::Sum | Of::Count => self.sum.json().map(Some),
            Of::Min | Of::Max => Ok(self.best.map(Number::json)),
        }
    }
}
