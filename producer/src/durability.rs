//! How safe a task must be before its enqueue returns, and how safe it is known to be.
//!
//! Invariant: a receipt never claims more than was confirmed. `fsync` that nothing confirms is
//! reported as `memory`; replicas that did not answer in time as `unknown` (they may have the task).
//! Neither is a failure: the task is accepted. It talks to no Redis.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use workyard_shared::Error;

/// Most replicas that can be asked for.
const MAX_REPLICAS: u32 = 64;

/// What an enqueue must wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Whatever the server does.
    #[default]
    Memory,
    /// On the primary's disk: `WAITAOF` where the server has it (7.2), else `appendfsync always`.
    Fsync,
    /// On this many replicas as well: `WAIT`.
    Replicas(u32),
}

/// What is known about an accepted task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In the primary's memory, and on disk as its settings say.
    Memory,
    /// On the primary's disk.
    Fsync,
    /// On this many replicas.
    Replicas(u32),
    /// Accepted, but fewer replicas than asked for confirmed it in time.
    Unknown,
}

impl FromStr for Durability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let replicas = |n: &str| n.parse().ok().filter(|n| (1..=MAX_REPLICAS).contains(n));
        match text {
            "memory" => Ok(Self::Memory),
            "fsync" => Ok(Self::Fsync),
            _ => text
                .strip_prefix("replica:")
                .and_then(replicas)
                .map(Self::Replicas)
                .ok_or_else(|| {
                    Error::Invalid(format!(
                        "durability \"{text}\" must be memory, fsync, or replica:n with n from 1 to 64"
                    ))
                }),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Fsync => f.write_str("fsync"),
            Self::Replicas(n) => write!(f, "replica:{n}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_by_their_names_and_nothing_else() {
        assert_eq!("memory".parse::<Durability>().unwrap(), Durability::Memory);
        assert_eq!("fsync".parse::<Durability>().unwrap(), Durability::Fsync);
        assert_eq!("replica:2".parse::<Durability>().unwrap(), Durability::Replicas(2));
        for bad in [
            "",
            "disk",
            "replica",
            "replica:",
            "replica:0",
            "replica:-1",
            "replica:65",
            "Fsync",
        ] {
            assert!(bad.parse::<Durability>().is_err(), "{bad}");
        }
    }
}
