//! `grep` and `identity`: items as they are.

use regex::Regex;
use workyard_shared::job::builtin::{self, Pattern};

use super::super::{Item, Role, StageContext, StageInput, lines};
use super::unexpected;
use crate::handler::Failure;

/// Which items are meant.
pub(super) struct Selector {
    regex: Regex,
    invert: bool,
}

impl Selector {
    pub(super) fn new(ctx: &StageContext, pattern: &str, invert: bool) -> Result<Self, Failure> {
        let regex = builtin::regex(ctx.task.kind(), pattern).map_err(Failure::fatal)?;
        Ok(Self { regex, invert })
    }

    pub(super) fn takes(&self, item: Item<'_>) -> bool {
        self.regex.is_match(&item.text()) != self.invert
    }
}

pub(super) fn grep(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    match input {
        StageInput::Values(parts) => Ok(parts.concat()),
        StageInput::Groups(_) => Err(unexpected(ctx)),
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
