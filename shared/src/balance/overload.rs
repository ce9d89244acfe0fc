//! How far a queue is behind, as an autoscaler or a refused producer wants to know it.
//!
//! Source: Little's law for the waiting time and for the number of slots that a rate needs.
//! Invariant: finite; "unknown" is `None`, never a large number. It refuses nothing itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OverloadInput {
    /// Tasks that wait.
    pub pending: u64,
    /// Tasks that run.
    pub running: u64,
    /// Slots of all healthy consumers.
    pub slots: u64,
    /// Healthy consumers.
    pub consumers: u64,
    /// Tasks added during `span`.
    pub arrived: u64,
    /// Tasks that left for good during `span`.
    pub drained: u64,
    /// How long was counted.
    pub span: Duration,
    /// In what time a backlog should be worked off.
    pub target: Duration,
}

/// Signals of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Overload {
    /// Tasks that wait.
    pub backlog: u64,
    /// Tasks added per second.
    pub arrival_rate: f64,
    /// Tasks done per second.
    pub drain_rate: f64,
    /// Seconds until a task added now starts; none if nothing drains.
    pub wait_s: Option<f64>,
    /// Seconds until the backlog is gone; none if it grows.
    pub drain_s: Option<f64>,
    /// Consumers that keep up with what arrives and work the backlog off within the target.
    pub wanted_consumers: u64,
}

impl Overload {
    /// The signals that follow from what was counted.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates need no exactness; casts saturate"
    )]
    pub fn of(input: &OverloadInput) -> Self {
        let span = input.span.as_secs_f64().max(0.001);
        let (arrival_rate, drain_rate) = (input.arrived as f64 / span, input.drained as f64 / span);
        let backlog = input.pending as f64;
        let quotient = |rate: f64| (rate > 0.0).then(|| backlog / rate);
        let none = input.pending == 0;
        // One busy slot's rate, times the slots of a consumer.
        let slots_each = input.slots.max(1) as f64 / input.consumers.max(1) as f64;
        let rate_each = drain_rate / input.running.clamp(1, input.slots.max(1)) as f64 * slots_each;
        let needed = arrival_rate + backlog / input.target.as_secs_f64().max(1.0);
        let wanted_consumers = if rate_each > 0.0 {
            (needed / rate_each).ceil() as u64
        } else {
            // Nothing known of the speed: one more than there are, if there is work.
            if none { input.consumers } else { input.consumers + 1 }
        };
        Self {
            backlog: input.pending,
            arrival_rate,
            drain_rate,
            wait_s: if none { Some(0.0) } else { quotient(drain_rate) },
            drain_s: if none {
                Some(0.0)
            } else {
                quotient(drain_rate - arrival_rate)
            },
            wanted_consumers: wanted_consumers.max(u64::from(!none)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(pending: u64, running: u64, arrived: u64, drained: u64) -> OverloadInput {
        let (span, target) = (Duration::from_secs(10), Duration::from_secs(60));
        OverloadInput {
            pending,
            running,
            slots: 20,
            consumers: 2,
            arrived,
            drained,
            span,
            target,
        }
    }

    #[test]
    fn signals_follow_from_the_counts() {
        for (input, wait_s, drain_s, wanted) in [
            (input(0, 0, 0, 0), Some(0.0), Some(0.0), 2),
            (input(0, 10, 100, 100), Some(0.0), Some(0.0), 1),
            (input(600, 20, 100, 200), Some(30.0), Some(60.0), 2),
            (input(600, 20, 400, 200), Some(30.0), None, 5),
            (input(600, 0, 400, 0), None, None, 3),
        ] {
            let seen = Overload::of(&input);
            assert_eq!(
                (seen.wait_s, seen.drain_s, seen.wanted_consumers),
                (wait_s, drain_s, wanted),
                "{input:?}"
            );
        }
    }
}
