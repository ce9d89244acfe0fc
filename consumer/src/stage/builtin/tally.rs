//! `sum`, `count`, `min`, `max`: one number out of many.

use serde::Deserialize;

use super::super::{Item, StageContext, StageInput, lines};
use super::number::{Number, Sum};
use super::{fields, shown};
use crate::handler::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    field: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

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
        StageInput::Chunk(_) if ctx.is_keyed() => return Err(ctx.misuse("it gives one number and no pairs")),
        StageInput::Chunk(_) => {
            let Field { field } = ctx.parse_args()?;
            input.each(ctx, |number, item| total.map(number, item, field.as_deref()))?;
        }
        StageInput::Values(_) => {
            let Nothing {} = ctx.parse_args()?;
            // Counts of parts are summed; the sums, least and greatest of parts are what they are.
            if of == Of::Count {
                total.of = Of::Sum;
            }
            input.each(ctx, |number, item| total.add(&format_args!("value {number}"), item))?;
        }
        StageInput::Groups(groups) => {
            let Nothing {} = ctx.parse_args()?;
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

impl Tally {
    fn new(of: Of) -> Self {
        Self {
            of,
            sum: Sum::default(),
            best: None,
        }
    }

    fn map(&mut self, number: u64, item: Item<'_>, field: Option<&str>) -> Result<(), Failure> {
        let value = match field {
            None => item,
            // What is not there is not counted, but it has no number that could be left out of a sum.
            Some(name) if self.of == Of::Count => match fields::maybe(number, item, name)? {
                Some(value) => value,
                None => return Ok(()),
            },
            Some(name) => fields::of(number, item, name)?,
        };
        self.add(&format_args!("item {number}"), value)
    }

    fn add(&mut self, what: &std::fmt::Arguments<'_>, value: Item<'_>) -> Result<(), Failure> {
        if self.of == Of::Count {
            self.sum.add(Number::Int(1));
            return Ok(());
        }
        let number =
            Number::of(value).ok_or_else(|| Failure::fatal(format!("{what} is no number: {}", shown(value))))?;
        match self.of {
            Of::Sum | Of::Count => self.sum.add(number),
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
