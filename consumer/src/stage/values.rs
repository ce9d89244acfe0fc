//! Items and values as types.
//!
//! Invariant: what does not fit its type fails the task for good, and is named by its number.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Emitted, Group, StageContext, StageInput};
use crate::handler::Failure;

/// The items of a chunk.
pub(crate) fn each_item<T: DeserializeOwned>(
    ctx: &StageContext,
    input: &StageInput,
    mut take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !matches!(input, StageInput::Chunk(_)) {
        return Err(ctx.misuse("it is a map function"));
    }
    input.each(ctx, |number, item| {
        take(
            item.parse()
                .map_err(|error| unfit(ctx, &format!("item {number}"), &error))?,
        )
    })
}

/// The values of a fold.
pub(crate) fn each_of_sequence<T: DeserializeOwned>(
    ctx: &StageContext,
    input: &StageInput,
    mut take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !matches!(input, StageInput::Values(_)) {
        return Err(ctx.misuse("it is a reduce function"));
    }
    input.each(ctx, |number, item| {
        take(
            item.parse()
                .map_err(|error| unfit(ctx, &format!("value {number}"), &error))?,
        )
    })
}

/// The values of a key.
pub(crate) fn each_of_group<T: DeserializeOwned>(
    ctx: &StageContext,
    group: Group<'_>,
    mut take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    group.values().enumerate().try_for_each(|(at, json)| {
        ctx.check()?;
        take(serde_json::from_str(json).map_err(|error| {
            let what = format!("value {} of key {}", at + 1, group.key.as_json());
            unfit(ctx, &what, &error)
        })?)
    })
}

/// All values of a key.
pub(crate) fn of_group<T: DeserializeOwned>(ctx: &StageContext, group: Group<'_>) -> Result<Vec<T>, Failure> {
    let mut values = Vec::new();
    each_of_group(ctx, group, |value| {
        values.push(value);
        Ok(())
    })?;
    Ok(values)
}

/// Appends the pair of a key and its result.
pub(crate) fn push_result<R: Serialize>(out: &mut Emitted, group: Group<'_>, result: &R) -> Result<(), Failure> {
    out.push_pair(group.key.as_json(), result)
}

/// A failure for good of something that is not of the function's type.
pub(crate) fn unfit(ctx: &StageContext, what: &str, error: &serde_json::Error) -> Failure {
    Failure::fatal(format!("{what} does not fit {}: {error}", ctx.task.kind()))
}
