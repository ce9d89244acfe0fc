//! What the maintainer tells all consumers of a queue.
//!
//! Invariant: advice; it expires, and whoever cannot read it goes on without.

use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use super::policy::Policy;

/// The text that a heartbeat's answer brings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bulletin {
    /// The queue's setting `balance`.
    pub policy: Policy,
    /// The time that breakers are measured in, ms since the epoch of Redis' clock.
    pub now_ms: u64,
    /// The consumers together, kind by kind.
    pub fleet: Fleet,
}
