//! Numbers out of items, and their sums.
//!
//! Invariant: a sum of integers is exact within 128 bits or fails; a float that appears takes part as
//! one, and does not make the integers less exact.

use workyard_shared::job::Number;

use super::super::Item;
use crate::handler::Failure;

/// The number that an item is; CSV and text have only strings, so one that holds a number counts too.
pub(super) fn number_in(item: Item<'_>) -> Option<Number> {
    match item {
        Item::Json(json) if !json.starts_with('"') => Number::parse(json),
        other => Number::parse(other.string()?.trim_ascii()),
    }
}

/// A sum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    int: i128,
    float: Option<f64>,
}

impl Sum {
    pub(super) fn add(&mut self, number: Number) -> Result<(), Failure> {
        match number {
            // A double instead would be near it, and nobody would know.
            Number::Int(int) => {
                let beyond = || Failure::fatal("the sum of the integers is beyond 128 bits");
                self.int = self.int.checked_add(int).ok_or_else(beyond)?;
            }
            Number::Float(float) => *self.float.get_or_insert(0.0) += float,
        }
        Ok(())
    }

    pub(super) fn json(self) -> Result<String, Failure> {
        let sum = match self.float {
            None => Number::Int(self.int),
            Some(float) => Number::Float(self.int as f64 + float),
        };
        if sum.as_float().is_finite() {
            Ok(sum.json())
        } else {
            Err(Failure::fatal("the sum is beyond what a number can hold"))
        }
    }
}
