//! Waiting out an outage: delays that grow with jitter, and one log line per change.
//!
//! Invariant: nobody spins and nobody floods the log. However many loops share a [`Watch`], the log
//! says once that Redis is gone and once that it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::error::Error;

/// First wait of a [`Patience`].
const FIRST: Duration = Duration::from_millis(50);
/// Longest wait of a [`Patience`].
const LONGEST: Duration = Duration::from_secs(2);

/// Delays of one caller that repeats a call: 50 ms doubling to 2 s, half of each by chance, so that
/// a fleet does not come back in one step.
#[derive(Debug, Clone)]
pub struct Patience {
    next: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Patience {
    /// The next delay; `random` from 0 to 1.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(LONGEST);
        span / 2 + span.mul_f64(random.clamp(0.0, 1.0) / 2.0)
    }

    /// Sleeps for the next delay.
    pub async fn wait(&mut self) {
        let delay = self.next_delay(fastrand::f64());
        tokio::time::sleep(delay).await;
    }

    /// Starts anew after a success.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// Says once that Redis cannot serve, and once that it can again. Shared by all loops of a process.
#[derive(Debug, Clone)]
pub struct Watch {
    away: Arc<AtomicBool>,
    born: Instant,
    since: Arc<AtomicU64>,
    /// Failed calls, in the order of [`Error::CLASSES`].
    errors: Arc<[AtomicU64; Error::CLASSES.len()]>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            away: Arc::default(),
            born: Instant::now(),
            since: Arc::default(),
            errors: Arc::default(),
        }
    }
}

impl Watch {
    /// A call failed.
    pub fn failed(&self, error: &Error) {
        if let Some(at) = Error::CLASSES.iter().position(|class| *class == error.class()) {
            self.errors[at].fetch_add(1, Ordering::Relaxed);
        }
        if !self.away.swap(true, Ordering::Relaxed) {
            self.since.store(self.elapsed_ms(), Ordering::Relaxed);
            let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            warn!(error = %error, "Redis cannot serve: waiting, nothing is lost{remedy}");
        }
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            let away_ms = self.elapsed_ms().saturating_sub(self.since.load(Ordering::Relaxed));
            info!(away_ms, "Redis serves again");
        }
    }

    /// How many calls failed so far, by class of error.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.errors.iter().map(|n| n.load(Ordering::Relaxed));
        Error::CLASSES.into_iter().zip(counts)
    }

    /// Whether the last call failed.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_class_that_is_counted() {
        let watch = Watch::default();
        watch.failed(&Error::Unknown(String::new()));
        watch.failed(&Error::Unknown(String::new()));
        watch.failed(&Error::Protocol(String::new()));
        let counted: Vec<_> = watch.errors().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("reply_lost", 2), ("protocol", 1)]);
    }

    #[test]
    fn delays_double_up_to_two_seconds_and_half_is_chance() {
        let mut patience = Patience::default();
        let delays: Vec<u128> = (0..8).map(|_| patience.next_delay(1.0).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(Patience::default().next_delay(0.0).as_millis(), 25);
    }
}
