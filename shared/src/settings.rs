//! The settings of a queue: names, values, defaults.
//!
//! Invariant: what [`Setting`] accepts `lua/settings.lua` accepts, and nothing else. It stores nothing: see
//! [`Queue::set`](crate::broker::Queue::set).

use std::fmt;
use std::str::FromStr;

use crate::balance::Policy;
use crate::error::Error;
use crate::overload::Overload;

/// Largest `max_pending`.
pub const MAX_LIMIT: u64 = 1_000_000_000;
/// Largest `max_bytes`: 2^50.
pub const MAX_BYTES: u64 = 1 << 50;
/// The names of all settings, in the order in which they are shown.
pub const NAMES: [&str; 5] = ["paused", "balance", "max_pending", "max_bytes", "overload"];

/// One setting with its value, as text `name=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `paused`: hand out nothing.
    Paused(bool),
    /// `balance`: who gets the next task.
    Balance(Policy),
    /// `max_pending`: most tasks that may wait; 0 is no limit.
    MaxPending(u64),
    /// `max_bytes`: most memory that the records of all tasks may take in Redis, in bytes; 0 is no limit.
    MaxBytes(u64),
    /// `overload`: what happens to those above it.
    Overload(Overload),
}

impl Setting {
    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            Self::Balance(_) => "balance",
            Self::MaxPending(_) => "max_pending",
            Self::MaxBytes(_) => "max_bytes",
            Self::Overload(_) => "overload",
        }
    }

    /// The value as it is stored.
    #[must_use]
    pub fn value(self) -> String {
        match self {
            Self::Paused(paused) => u8::from(paused).to_string(),
            Self::Balance(balance) => balance.as_str().to_owned(),
            Self::MaxPending(most) | Self::MaxBytes(most) => most.to_string(),
            Self::Overload(overload) => overload.as_str().to_owned(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name(), self.value())
    }
}

/// Bytes as a number, or with a unit of 1024 steps: `64MiB`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: String| Err(Error::Invalid(why));
        let Some((name, value)) = text.split_once('=') else {
            return invalid(format!(
                "setting \"{text}\" must be name=value; names are {}",
                NAMES.join(", ")
            ));
        };
        let must_be = |right: &str| Error::Invalid(format!("{name} must be {right}, not \"{value}\""));
        match name {
            "paused" => match value {
                "0" => Ok(Self::Paused(false)),
                "1" => Ok(Self::Paused(true)),
                _ => Err(must_be("0 or 1")),
            },
            "balance" => value
                .parse()
                .map(Self::Balance)
                .map_err(|_| must_be("pull, round-robin or adaptive")),
            "max_pending" => value
                .parse()
                .ok()
                .filter(|most| *most <= MAX_LIMIT && !value.starts_with('+'))
                .map(Self::MaxPending)
                .ok_or_else(|| must_be("a whole number from 0 (no limit) to 1000000000")),
            "max_bytes" => parse_bytes(value)
                .filter(|most| *most <= MAX_BYTES)
                .map(Self::MaxBytes)
                .ok_or_else(|| must_be("bytes like 0 (no limit), 1000000, 64MiB or 2GiB, to 1048576GiB")),
            "overload" => Overload::parse(value)
                .map(Self::Overload)
                .ok_or_else(|| must_be("reject, block or shed")),
            _ => invalid(format!("unknown setting \"{name}\": settings are {}", NAMES.join(", "))),
        }
    }
}

/// The settings of a queue; what was never set has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether nothing is handed out.
    pub paused: bool,
    /// Who gets the next task.
    pub balance: Policy,
    /// Most tasks that may wait; 0 is no limit.
    pub max_pending: u64,
    /// Most memory that the records of all tasks may take, in bytes; 0 is no limit.
    pub max_bytes: u64,
    /// What happens to those above it.
    pub overload: Overload,
}

impl Settings {
    /// Changes one.
    pub fn apply(&mut self, setting: Setting) {
        match setting {
            Setting::Paused(paused) => self.paused = paused,
            Setting::Balance(balance) => self.balance = balance,
            Setting::MaxPending(most) => self.max_pending = most,
            Setting::MaxBytes(most) => self.max_bytes = most,
            Setting::Overload(overload) => self.overload = overload,
        }
    }

    /// All of them, in the order of [`NAMES`].
    #[must_use]
    pub fn all(&self) -> [Setting; 5] {
        [
            Setting::Paused(self.paused),
            Setting::Balance(self.balance),
            Setting::MaxPending(self.max_pending),
            Setting::MaxBytes(self.max_bytes),
            Setting::Overload(self.overload),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_are_written() {
        for text in [
            "paused=1",
            "balance=round-robin",
            "balance=adaptive",
            "max_pending=1000",
            "max_pending=0",
            "max_bytes=67108864",
            "overload=block",
            "overload=shed",
        ] {
            assert_eq!(text.parse::<Setting>().unwrap().to_string(), text);
        }
        assert_eq!(
            "max_bytes=64MiB".parse::<Setting>().unwrap(),
            Setting::MaxBytes(64 << 20)
        );
        let names: Vec<&str> = Settings::default().all().map(Setting::name).into();
        assert_eq!(names, NAMES);
    }

    #[test]
    fn a_bad_setting_is_refused_with_what_would_be_right() {
        for (text, part) in [
            ("paused", "must be name=value"),
            ("paused=yes", "0 or 1"),
            ("balance=random", "pull, round-robin or adaptive"),
            ("max_pending=-1", "whole number"),
            ("max_pending=+1", "whole number"),
            ("max_pending=1e3", "whole number"),
            ("max_pending=1000000001", "to 1000000000"),
            ("max_bytes=-1", "64MiB"),
            ("max_bytes=64XB", "64MiB"),
            ("max_bytes=1048577GiB", "to 1048576GiB"),
            ("overload=drop", "reject, block or shed"),
            ("colour=red", "settings are paused, balance"),
        ] {
            let error = text.parse::<Setting>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
