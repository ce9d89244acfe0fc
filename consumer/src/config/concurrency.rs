//! `concurrency` of a handler: a number, or a table of the least and the most between which it moves.
//!
//! Invariant: only the form is decided here; which numbers can be is said by [`Concurrency::check`].

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use crate::kind_slots::Concurrency;

/// As it stands in the file, not checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawConcurrency(pub(super) Concurrency);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    min: usize,
    max: usize,
}

impl<'de> Deserialize<'de> for RawConcurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = RawConcurrency;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of tasks, or { min = 2, max = 32 }")
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<RawConcurrency, E> {
        let fixed = usize::try_from(n).map_err(|_| E::invalid_value(Unexpected::Signed(n), &self))?;
        Ok(RawConcurrency(Concurrency::Fixed(fixed)))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawConcurrency, A::Error> {
        let Bounds { min, max } = Bounds::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawConcurrency(Concurrency::Adaptive { min, max }))
    }
}
