//! Waiting out an outage: delays that grow with jitter, and one log line per change.
//!
//! Invariant: nobody spins and nobody floods the log. However many loops share a [`Watch`], the log
//! says once that Redis is gone and once that it is back; and where it goes and comes, ever more seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::error::Error;

/// First wait of a [`Patience`].
const FIRST: Duration = Duration::from_millis(50);
/// Longest wait of a [`Patience`].
const LONGEST: Duration = Duration::from_secs(2);
/// So long behind a return nothing is said of a failure, in ms: it may be the late answer of a call that began before. It
/// doubles with each outage that follows soon, up to the other.
const QUIET: u64 = 2000;
const LONGEST_QUIET: u64 = 60_000;

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
    /// When Redis was back last, in ms since `born`, and how long nothing is said behind that; 0: it never was away.
    back: Arc<AtomicU64>,
    quiet: Arc<AtomicU64>,
    /// Failed calls, in the order of [`Error::CLASSES`].
    errors: Arc<[AtomicU64; Error::CLASSES.len()]>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            away: Arc::default(),
            born: Instant::now(),
            since: Arc::default(),
            back: Arc::default(),
            quiet: Arc::default(),
            errors: Arc::default(),
        }
    }
}

impl Watch {
    /// A call failed for a reason of its own, which says nothing of Redis.
    pub fn counted(&self, error: &Error) {
        if let Some(at) = Error::CLASSES.iter().position(|class| *class == error.class()) {
            self.errors[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call failed.
    pub fn failed(&self, error: &Error) {
        self.counted(error);
        if self.begins(self.elapsed_ms()) {
            let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            warn!(error = %error, "Redis cannot serve: waiting, nothing is lost{remedy}");
        }
    }

    /// Whether a failure at `now` is the first of an outage that is to be told.
    fn begins(&self, now: u64) -> bool {
        let (back, quiet) = (self.back.load(Ordering::Relaxed), self.quiet.load(Ordering::Relaxed));
        if self.is_away() || now < back + quiet || self.away.swap(true, Ordering::Relaxed) {
            return false;
        }
        let next = match quiet > 0 && now < back + quiet + LONGEST_QUIET {
            true => (quiet * 2).min(LONGEST_QUIET),
            false => QUIET,
        };
        self.quiet.store(next, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
        true
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        if self.away.load(Ordering::Relaxed) && self.away.swap(false, Ordering::Relaxed) {
            let now = self.elapsed_ms();
            self.back.store(now, Ordering::Relaxed);
            let away_ms = now.saturating_sub(self.since.load(Ordering::Relaxed));
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
    fn an_outage_is_told_once_and_one_that_comes_and_goes_ever_more_seldom() {
        let watch = Watch::default();
        let back_at = |ms| {
            watch.away.store(false, Ordering::Relaxed);
            watch.back.store(ms, Ordering::Relaxed);
        };
        assert!(watch.begins(100) && !watch.begins(200), "once");
        back_at(1000);
        assert!(!watch.begins(1400) && !watch.is_away(), "a late answer");
        assert!(watch.begins(3000));
        back_at(3001);
        assert!(!watch.begins(7000) && watch.begins(7001), "twice as long");
        back_at(8000);
        assert!(watch.begins(8000 + 8000 + LONGEST_QUIET));
        back_at(100_000);
        assert!(
            !watch.begins(101_999) && watch.begins(102_000),
            "as at first, after a minute of peace"
        );
    }

    #[test]
    fn delays_double_up_to_two_seconds_and_half_is_chance() {
        let mut patience = Patience::default();
        let delays: Vec<u128> = (0..8).map(|_| patience.next_delay(1.0).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(Patience::default().next_delay(0.0).as_millis(), 25);
    }
}
