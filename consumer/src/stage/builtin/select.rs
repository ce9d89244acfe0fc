//! `grep` and `identity`: items as they are.

use regex::Regex;
use serde::Deserialize;

use super::super::{Item, Role, StageContext, StageInput, lines};
use super::tally::Nothing;
use super::text::Text;
use crate::handler::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    pattern: Text,
    #[serde(default)]
    invert: bool,
}

/// Which items are meant.
pub(super) struct Selector {
    regex: Regex,
    invert: bool,
}

impl Selector {
    pub(super) fn new(ctx: &StageContext, pattern: &str, invert: bool) -> Result<Self, Failure> {
        let unfit = |error| Failure::fatal(format!("the pattern of {} does not fit: {error}", ctx.task.kind()));
        let regex = Regex::new(pattern).map_err(unfit)?;
        Ok(Self { regex, invert })
    }

    pub(super) fn takes(&self, item: Item<'_>) -> bool {
        self.regex.is_match(&item.text()) != self.invert
    }
}

pub(super) fn grep(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    match input {
        StageInput::Values(parts) => Ok(parts.concat()),
        StageInput::Groups(_) => Err(ctx.misuse("it selects items, not keys; use identity")),
        StageInput::Chunk(_) => {
            let Pattern { pattern, invert } = ctx.parse_args()?;
            let selector = Selector::new(ctx, &pattern, invert)?;
            let mut out = Vec::new();
            input.each(ctx, |_, item| {
                if selector.takes(item) {
                    item.write(&mut out)?;
                }
                Ok(())
            })?;
            Ok(out)
        }
    }
}

pub(super) fn identity(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let Nothing {} = ctx.parse_args()?;
    let mut out = Vec::new();
    match input {
        StageInput::Values(parts) => return Ok(parts.concat()),
        StageInput::Groups(groups) if ctx.role == Role::Combine => groups.each(|group| {
            for value in group.values() {
                lines::push_pair(&mut out, group.key.as_json(), value);
            }
            Ok(())
        })?,
        StageInput::Chunk(_) | StageInput::Groups(_) => input.each(ctx, |_, item| item.write(&mut out))?,
    }
    Ok(out)
}
