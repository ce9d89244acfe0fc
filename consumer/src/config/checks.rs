//! The rules for single values: names, numbers, durations.
//!
//! Invariant: every refusal says what the value is and what would be accepted.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use workyard_shared::limits::{MAX_KIND_BYTES, MAX_QUEUE_BYTES};

use super::problem::Problem;

/// A duration written for people: `"30s"`, `"1m 30s"`, `"250ms"`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HumanDuration(pub(crate) Duration);

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = HumanDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a duration as text, such as "30s", "250ms" or "1m 30s""#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
        humantime::parse_duration(text)
            .map(HumanDuration)
            .map_err(|error| E::custom(format!(r#""{text}" is no duration ({error}); write it like "30s""#)))
    }
}

/// `value` if it lies in `range`.
pub(crate) fn duration(
    field: &str,
    value: HumanDuration,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Problem> {
    if range.contains(&value.0) {
        return Ok(value.0);
    }
    let show = humantime::format_duration;
    let (least, most) = (show(*range.start()), show(*range.end()));
    Err(Problem::new(
        field,
        format!("{} is out of range; give {least} to {most}", show(value.0)),
    ))
}

/// `value` if it lies in `range`.
pub(crate) fn number(field: &str, value: u64, range: RangeInclusive<usize>) -> Result<usize, Problem> {
    usize::try_from(value)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            Problem::new(
                field,
                format!("{value} is out of range; give {} to {}", range.start(), range.end()),
            )
        })
}

/// Checks a queue's name: `[A-Za-z0-9._-]{1,64}`.
pub(crate) fn queue_name(name: &str) -> Result<(), String> {
    name_of("queue name", name, "._-", MAX_QUEUE_BYTES)
}

/// Checks a kind: `[A-Za-z0-9._:-]{1,128}`.
pub(crate) fn kind(name: &str) -> Result<(), String> {
    name_of("kind", name, "._:-", MAX_KIND_BYTES)
}

/// Checks the prefix of every key: no braces, since those are Redis Cluster's hash tags.
pub(crate) fn prefix(name: &str) -> Result<(), String> {
    name_of("prefix", name, "._:-", MAX_QUEUE_BYTES)
}

fn name_of(what: &str, name: &str, punctuation: &str, most: usize) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
    if !name.is_empty() && name.len() <= most && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no {what}; use 1 to {most} of A-Z a-z 0-9 and {punctuation}"
    ))
}
