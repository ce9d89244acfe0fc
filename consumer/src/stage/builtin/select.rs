//! `grep` and `identity`: items as they are.

use regex::Regex;
use serde::Deserialize;

use super::super::{Role, StageContext, StageInput, lines};
use super::tally::Nothing;
use crate::handler::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    pattern: String,
    #[serde(default)]
    invert: bool,
}

pub(super) fn grep(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    match input {
        StageInput::Values(parts) => Ok(parts.concat()),
        StageInput::Groups(_) => Err(ctx.misuse("it selects items, not keys; use identity")),
        StageInput::Chunk(_) => {
            let Pattern { pattern, invert } = ctx.parse_args()?;
            let regex = Regex::new(&pattern)
                .map_err(|error| Failure::fatal(format!("the pattern of {} does not fit: {error}", ctx.task.kind())))?;
            let mut out = Vec::new();
            input.each(ctx, |_, item| {
                if regex.is_match(&item.text()) == invert {
                    return Ok(());
                }
                item.write(&mut out)
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
