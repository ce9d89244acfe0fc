//! The rules for single values: numbers and durations; names have theirs in `workyard_shared::name`.
//!
//! Invariant: every refusal says what the value is and what would be accepted. What is a name or a
//! duration anywhere else in Workyard is one here, and nothing else is.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use workyard_shared::{Error, duration as span};

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
        span::parse(text)
            .map(HumanDuration)
            .map_err(|error| E::custom(reason(&error)))
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
    let show = span::format;
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

/// What is wrong, without the word that it is.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Invalid(text) => text.clone(),
        other => other.to_string(),
    }
}
