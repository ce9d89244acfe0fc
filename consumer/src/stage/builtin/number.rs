//! Numbers of JSON: integers are exact, everything else is a double.
//!
//! Invariant: a sum of integers is exact within 128 bits or fails; a float that appears takes part as
//! one, and does not make the integers less exact.

use std::cmp::Ordering;

use super::super::Item;
use crate::handler::Failure;

/// A number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    /// The number that an item is; CSV and text have only strings, so one that holds a number counts too.
    pub(super) fn of(item: Item<'_>) -> Option<Self> {
        match item {
            Item::Json(json) if !json.starts_with('"') => Self::parse(json),
            other => Self::parse(other.string()?.trim_ascii()),
        }
    }

    /// Reads JSON's spelling of a number; `None` also for what no double can hold.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        if !plain || !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return None;
        }
        let int = text.parse().ok().map(Self::Int);
        int.or_else(|| Some(Self::Float(text.parse().ok().filter(|f: &f64| f.is_finite())?)))
    }

    pub(super) fn as_float(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    pub(super) fn json(self) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            Self::Float(float) => serde_json::Value::from(float).to_string(),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (a, b) => a.as_float().total_cmp(&b.as_float()),
        }
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
