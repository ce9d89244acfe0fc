//! A point in time by Redis' clock, written as RFC 3339 with milliseconds.
//!
//! Invariant: text and number name the same millisecond. It reads no clock.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::{Serialize, Serializer};

/// Milliseconds since 1970 by Redis' clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The point in time `ms` after the start of 1970.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// As [`Self::from_ms`]; zero, which the protocol writes for "did not happen", is `None`.
    #[must_use]
    pub fn known(ms: u64) -> Option<Self> {
        (ms > 0).then_some(Self(ms))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(DateTime::from_timestamp_millis) {
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            // Beyond what a calendar knows.
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn moments_are_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(
            Moment::from_ms(1_700_000_000_123).to_string(),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(Moment::known(0), None);
        assert!(Moment::from_ms(1 << 62).to_string().ends_with("ms"));
    }
}
