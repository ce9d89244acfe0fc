//! Adaptive concurrency: how many slots a kind gets, between a minimum and a maximum, found by
//! measuring latency instead of guessing.
//!
//! Source: the gradient limit of Netflix concurrency-limits (latency without load over latency now,
//! plus head room of a square root), itself after TCP Vegas; the decrease under host pressure and
//! failures is AIMD (Chiu and Jain). Changed: latencies are means between two beats, not single runs,
//! as task times vary more than packets; the long-term minimum creeps up 0.1 % a beat, so that a
//! lasting change is learned (and a host kept full for an hour is let grow until its latency answers).
//!
//! Invariant: `min <= limit <= max`; it grows only when it was the limit that held work back.

use std::time::Duration;

/// Latency up to this multiple of the minimum is no queueing.
const TOLERANCE: f64 = 1.2;
/// How far one beat goes towards the newly computed limit.
const SMOOTHING: f64 = 0.3;
/// What the long-term minimum gains per beat: it doubles in twelve minutes of beats of a second.
const CREEP: f64 = 1.001;
const DECREASE: f64 = 0.8;
/// Above this host pressure the limit shrinks whatever the latency.
const PRESSED: f64 = 0.5;

/// The slot limit of one kind.
#[derive(Debug, Clone)]
pub struct Limit {
    min: f64,
    max: f64,
    limit: f64,
    unloaded_ms: Option<f64>,
    sum_ms: f64,
    runs: u32,
    failed: u32,
    busiest: u32,
}

impl Limit {
    /// Starts at `min`, as TCP does: an idle host is found to be idle within seconds.
    #[must_use]
    pub fn new(min: u32, max: u32) -> Self {
        let min = f64::from(min.max(1));
        let max = f64::from(max).max(min);
        Self {
            min,
            max,
            limit: min,
            unloaded_ms: None,
            sum_ms: 0.0,
            runs: 0,
            failed: 0,
            busiest: 0,
        }
    }

    /// A run has ended; `running` were under way with it.
    pub fn on_run(&mut self, took: Duration, ok: bool, running: u32) {
        self.busiest = self.busiest.max(running);
        if ok {
            self.sum_ms += took.as_secs_f64() * 1000.0;
            self.runs = self.runs.saturating_add(1);
        } else {
            self.failed = self.failed.saturating_add(1);
        }
    }

    /// Moves the limit by what was measured since the last beat; `pressure` as of [`super::pressure`].
    pub fn beat(&mut self, pressure: f64) -> u32 {
        let wanted = if pressure > PRESSED || self.failed > self.runs {
            self.limit * DECREASE
        } else if self.runs > 0 {
            self.by_gradient()
        } else {
            self.limit
        };
        self.limit = wanted.clamp(self.min, self.max);
        (self.sum_ms, self.runs, self.failed, self.busiest) = (0.0, 0, 0, 0);
        self.slots()
    }

    /// The limit now.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between min and max, both u32"
    )]
    pub fn slots(&self) -> u32 {
        self.limit.round() as u32
    }

    fn by_gradient(&mut self) -> f64 {
        let now_ms = (self.sum_ms / f64::from(self.runs)).max(f64::MIN_POSITIVE);
        let unloaded = self.unloaded_ms.map_or(now_ms, |ms| (ms * CREEP).min(now_ms));
        self.unloaded_ms = Some(unloaded);
        let gradient = (TOLERANCE * unloaded / now_ms).clamp(0.5, 1.0);
        // At its worst it has no headroom: with it four slots would be the least that latency alone leads to.
        let headroom = if gradient > 0.5 { self.limit.sqrt() } else { 0.0 };
        let target = self.limit * gradient + headroom;
        let held_back = f64::from(self.busiest) + 0.5 >= self.limit;
        if target > self.limit && !held_back {
            return self.limit;
        }
        self.limit + (target - self.limit) * SMOOTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that does `fit` at once in 100 ms each, and beyond that shares itself out.
    fn settle(limit: &mut Limit, fit: u32, beats: u32, demand: u32) -> u32 {
        for _ in 0..beats {
            let running = limit.slots().min(demand);
            let ms = 100 * u64::from(running.max(fit)) / u64::from(fit);
            for _ in 0..running {
                limit.on_run(Duration::from_millis(ms), true, running);
            }
            limit.beat(0.0);
        }
        limit.slots()
    }

    #[test]
    fn finds_what_the_host_can_do() {
        for fit in [4, 16, 64] {
            let mut limit = Limit::new(1, 200);
            let found = settle(&mut limit, fit, 60, 1000);
            assert!(found >= fit && found <= fit * 3, "{fit}: {found}");
        }
    }

    #[test]
    fn does_not_grow_without_demand() {
        let mut limit = Limit::new(2, 200);
        assert!(settle(&mut limit, 64, 100, 5) <= 7);
    }

    #[test]
    fn comes_back_to_the_minimum_as_runs_get_slow() {
        let mut limit = Limit::new(2, 32);
        let mut run = |ms: u64, beats: u32| {
            for _ in 0..beats {
                limit.on_run(Duration::from_millis(ms), true, limit.slots());
                limit.beat(0.0);
            }
            limit.slots()
        };
        assert!(run(100, 20) > 12);
        assert_eq!(run(1000, 20), 2);
    }

    #[test]
    fn shrinks_under_pressure_and_failures_and_stays_within_bounds() {
        for (ok, pressure) in [(true, 0.9), (false, 0.0)] {
            let mut limit = Limit::new(3, 50);
            assert!(settle(&mut limit, 1000, 100, 1000) == 50);
            for n in 0..20 {
                limit.on_run(Duration::from_millis(100), ok, 50);
                let slots = limit.beat(pressure);
                assert!((3..50).contains(&slots), "beat {n}: {slots}");
            }
            assert_eq!(limit.slots(), 3);
        }
        assert_eq!(Limit::new(0, 0).slots(), 1);
    }
}
