//! A consumer's watch on one kind: what it measures of it, and whether it may run a task of it now.
//!
//! Invariant: where nothing says otherwise everything is admitted. While all of the latest runs failed,
//! or the fleet's breaker is half-open, one task at a time is, with a pause after each failure: that holds
//! for the moment in which it is not yet known whose fault it is, and burns a handful of attempts.
//! It judges nobody; what is refused here goes back to the queue, until the time in the answer.

use std::time::Duration;

use super::breaker::Breaker;
use super::circuit::Allowed;
use super::run_times::RunTimes;
use super::vitals::KindVitals;
use super::window::{Outcome, Window};

/// Between two tasks of a kind that fails.
const PAUSE: Duration = Duration::from_millis(250);
/// What is handed back without any other reason to wait comes again after this.
const HAND_BACK: Duration = Duration::from_secs(1);

/// What a consumer knows of one kind.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    window: Window,
    times: RunTimes,
    breaker: Breaker,
    consumers: u32,
    draw: f64,
    paused_until: Duration,
}

impl Watch {
    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A run has ended after `took`.
    pub fn record(&mut self, outcome: Outcome, took: Duration, now: Duration) {
        self.window.record(outcome, now);
        match outcome {
            Outcome::Success => {
                self.times.record(took, now);
                self.window.set_reach(self.times.reach());
            }
            Outcome::Failure if self.is_gated() => self.paused_until = now + PAUSE,
            Outcome::Failure | Outcome::Final => {}
        }
    }

    /// The fleet's breaker of the kind; `draw` is a fresh number in 0..1. When the breaker has
    /// turned, what was counted before says nothing of now; but probes that went well and closed it do, and whoever failed
    /// as a probe is compared with them.
    pub fn learn(&mut self, breaker: Breaker, consumers: u32, draw: f64) {
        self.consumers = consumers;
        if !breaker.is_like(self.breaker) {
            if breaker == Breaker::Closed {
                self.window.forgive();
            } else {
                self.window.clear();
            }
        }
        if breaker != self.breaker {
            self.breaker = breaker;
            self.draw = draw;
        }
    }

    /// What may be run of it when `running` of its tasks are under way here.
    #[must_use]
    pub fn admits(&self, running: usize, now: Duration) -> Allowed {
        let later = now + HAND_BACK;
        match self.breaker.admits(self.consumers, self.draw) {
            Allowed::All if !self.window.is_failing() => Allowed::All,
            Allowed::All | Allowed::Probe if running == 0 && now >= self.paused_until => Allowed::Probe,
            Allowed::All | Allowed::Probe => Allowed::Nothing { until: later },
            Allowed::Nothing { until } => Allowed::Nothing {
                until: until.max(later),
            },
        }
    }

    /// A failure now is that of a probe, and no attempt of the task's own: hand it back.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.breaker != Breaker::Closed
    }

    /// All of the latest runs failed: worth a report before the next beat.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.window.is_failing()
    }

    /// More than half of the runs in the window failed, and might not have elsewhere.
    #[must_use]
    pub fn fails_mostly(&self, now: Duration) -> bool {
        let counts = self.window.counts(now);
        counts.errors.saturating_sub(counts.finals).saturating_mul(2) > counts.runs
    }

    /// What a successful run takes, by the median of the last twenty; `None` before there are three.
    #[must_use]
    pub fn usual_run(&self) -> Option<Duration> {
        self.times.usual()
    }

    /// The figures for the report.
    #[must_use]
    pub fn vitals(&self, now: Duration) -> KindVitals {
        KindVitals::of(&self.window, &self.times, now)
    }

    /// The consumer's circuit has turned: count anew.
    pub fn clear(&mut self) {
        self.window.clear();
    }

    fn is_gated(&self) -> bool {
        self.window.is_failing() || self.is_probing()
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::STREAK;
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_kind_that_only_fails_runs_one_at_a_time_with_pauses() {
        let mut watch = Watch::new();
        for _ in 0..STREAK {
            assert_eq!(watch.admits(7, at(0)), Allowed::All);
            watch.record(Outcome::Failure, at(1), at(0));
        }
        assert_eq!(watch.admits(0, at(249)), Allowed::Nothing { until: at(1249) });
        assert_eq!(watch.admits(1, at(250)), Allowed::Nothing { until: at(1250) });
        assert_eq!(watch.admits(0, at(250)), Allowed::Probe);
        watch.record(Outcome::Success, at(1), at(250));
        assert_eq!(watch.admits(7, at(250)), Allowed::All);
    }

    #[test]
    fn an_open_breaker_lets_nothing_through_and_makes_it_count_anew() {
        let mut watch = Watch::new();
        watch.record(Outcome::Failure, at(1), at(0));
        watch.learn(
            Breaker::Open {
                until_ms: 900,
                pause_ms: 1000,
            },
            4,
            0.9,
        );
        assert_eq!(watch.admits(0, at(0)), Allowed::Nothing { until: at(1000) });
        assert!(watch.is_probing());
        assert_eq!(watch.vitals(at(0)).runs, 0);
        watch.learn(
            Breaker::HalfOpen {
                since_ms: 900,
                pause_ms: 1000,
            },
            4,
            0.9,
        );
        assert_eq!(watch.admits(0, at(900)), Allowed::Probe);
        watch.record(Outcome::Failure, at(1), at(900));
        assert!(matches!(watch.admits(0, at(901)), Allowed::Nothing { .. }));
        watch.learn(Breaker::Closed, 4, 0.1);
        assert_eq!(watch.admits(9, at(1000)), Allowed::All);
    }
}
