//! How long successful runs of one kind take on one consumer: a moving mean and the last twenty.
//!
//! Invariant: only runs that succeeded are recorded (a run that fails at once is not fast); every
//! figure is finite. The last twenty and their mean are the paper's; the moving mean (EWMA) is what
//! is compared with the fleet. It forgets by runs, and whoever is thought slow gets few of them: so it begins anew
//! with the first run after [`RunTimes::reach`] without any, or one slow run would be held against a consumer for minutes.

use std::collections::VecDeque;
use std::time::Duration;

/// How many of the latest runs are kept, as in the paper.
pub const RECENT: usize = 20;

/// Weight of the newest run in the moving mean: the last ten make up two thirds of it.
const ALPHA: f64 = 0.1;

/// Runs after which one knows what is usual.
const ENOUGH: usize = 3;
/// What is older says nothing of now ...
const SHORTEST_REACH: Duration = Duration::from_secs(10);
/// ... unless runs take so long that there would be nothing left to compare: then it is so many of them ...
const RUNS_WITHIN_REACH: f64 = 5.0;
/// ... up to five minutes.
const LONGEST_REACH_S: f64 = 300.0;

/// Run times of one kind.
#[derive(Debug, Clone, Default)]
pub struct RunTimes {
    mean_ms: f64,
    seen: u64,
    latest: Duration,
    recent: VecDeque<f64>,
    /// How far back it reaches, if that is longer than the shortest.
    reach: Duration,
}

impl RunTimes {
    /// No run yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A run has succeeded after `took`.
    pub fn record(&mut self, took: Duration, now: Duration) {
        let ms = took.as_secs_f64() * 1000.0;
        if now.saturating_sub(self.latest) > self.reach() {
            self.seen = 0;
        }
        self.latest = now;
        self.seen = self.seen.saturating_add(1);
        // A plain mean of the first runs: the very first one must not weigh more than the others.
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = ALPHA.max(1.0 / self.seen as f64);
        self.mean_ms += (ms - self.mean_ms) * weight;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(ms);
        // A short run makes no median longer: the usual case sorts nothing.
        if ms * RUNS_WITHIN_REACH > SHORTEST_REACH.as_secs_f64() * 1000.0 || self.reach() > SHORTEST_REACH {
            let five = self.nearest_rank_ms(50) / 1000.0 * RUNS_WITHIN_REACH;
            self.reach = Duration::from_secs_f64(five.clamp(SHORTEST_REACH.as_secs_f64(), LONGEST_REACH_S));
        }
    }

    /// The moving mean; 0 before the first run.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        self.mean_ms
    }

    /// How far back results of the kind say something of now: ten seconds, or the time of five usual runs (by the median: one
    /// that took long must not decide how long it is remembered) if that is longer, at most five minutes.
    #[must_use]
    pub fn reach(&self) -> Duration {
        self.reach.max(SHORTEST_REACH)
    }

    /// The last twenty, oldest first.
    pub fn recent_ms(&self) -> impl Iterator<Item = f64> {
        self.recent.iter().copied()
    }

    /// The mean of the last twenty; 0 before the first run.
    #[must_use]
    pub fn recent_mean_ms(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most twenty")]
        let n = self.recent.len().max(1) as f64;
        self.recent.iter().sum::<f64>() / n
    }

    /// The median of the last twenty; `None` before there are three, of which the first may be slow for its own reasons.
    #[must_use]
    pub fn usual(&self) -> Option<Duration> {
        let known = self.recent.len() >= ENOUGH;
        known.then(|| Duration::try_from_secs_f64(self.nearest_rank_ms(50) / 1000.0).unwrap_or_default())
    }

    /// The 95th percentile of the last twenty: the second longest of twenty; 0 before the first run.
    #[must_use]
    pub fn recent_p95_ms(&self) -> f64 {
        self.nearest_rank_ms(95)
    }

    /// A percentile of the last twenty, by the nearest rank; 0 before the first run.
    fn nearest_rank_ms(&self, percent: usize) -> f64 {
        let mut sorted: Vec<f64> = self.recent_ms().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let nearest = (sorted.len() * percent).div_ceil(100);
        sorted.get(nearest.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_twenty_and_follows_a_change() {
        let mut times = RunTimes::new();
        assert_eq!(
            (times.mean_ms(), times.recent_mean_ms(), times.recent_p95_ms()),
            (0.0, 0.0, 0.0)
        );
        for _ in 0..100 {
            times.record(Duration::from_millis(100), Duration::ZERO);
        }
        for ms in 1..=20 {
            times.record(Duration::from_millis(ms * 10), Duration::ZERO);
        }
        assert_eq!(times.recent_ms().count(), RECENT);
        assert!((times.recent_mean_ms() - 105.0).abs() < 1e-6);
        assert!((times.recent_p95_ms() - 190.0).abs() < 1e-6);
        assert!(
            times.mean_ms() > 115.0 && times.mean_ms() < 140.0,
            "{}",
            times.mean_ms()
        );
    }

    #[test]
    fn the_first_runs_are_a_plain_mean() {
        let mut times = RunTimes::new();
        times.record(Duration::from_millis(300), Duration::ZERO);
        times.record(Duration::from_millis(100), Duration::ZERO);
        assert!((times.mean_ms() - 200.0).abs() < 1e-6);
    }

    #[test]
    fn a_slow_run_is_not_held_against_whoever_got_nothing_since() {
        let mut times = RunTimes::new();
        times.record(Duration::from_secs(3), Duration::from_secs(3));
        assert_eq!(times.reach(), Duration::from_secs(15), "five runs of it");
        times.record(Duration::from_millis(100), Duration::from_secs(18));
        assert!((times.mean_ms() - 1550.0).abs() < 1e-6, "within reach it counts");
        assert_eq!(times.reach(), Duration::from_secs(10));
        times.record(Duration::from_millis(100), Duration::from_secs(29));
        assert!((times.mean_ms() - 100.0).abs() < 1e-6);
        times.record(Duration::from_secs(25), Duration::from_secs(54));
        assert_eq!(times.reach(), Duration::from_secs(10), "by what is usual");
        times.record(Duration::from_millis(100), Duration::from_secs(65));
        assert!((times.mean_ms() - 100.0).abs() < 1e-6);
    }
}
