//! What one consumer reports of itself each beat.
//!
//! Invariant: compact and bounded ([`MAX_KINDS`] kinds, those that fail and the busiest, twenty run times each, one
//! decimal), and readable: it stands in the consumer's health key. It is a report, nothing more: any
//! figure in it may be missing, stale or wrong, and the judges in `score.rs` must stand that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::run_times::RunTimes;
use super::window::Window;

/// A report names at most this many kinds: those that fail, then those with most runs.
pub const MAX_KINDS: usize = 32;

/// A consumer's report for one queue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Vitals {
    /// A number of its own, by which it knows itself in what is said of the fleet; 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub who: u32,
    /// Tasks that it runs at once, at most.
    pub capacity: u32,
    /// Tasks that it runs now.
    pub running: u32,
    /// Figures per kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, KindVitals>,
    /// How late its event loop runs a timer, in ms.
    pub lag_ms: f64,
    /// Share of the host's or cgroup's CPU in use, 0..1.
    pub cpu: f64,
    /// Share of the host's or cgroup's memory in use, 0..1.
    pub memory: f64,
    /// Redis round trip, in ms.
    pub rtt_ms: f64,
}

/// One kind on one consumer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KindVitals {
    /// Tasks of the kind that it runs now.
    #[serde(skip_serializing_if = "is_zero")]
    pub running: u32,
    /// Runs that ended in the window.
    pub runs: u32,
    /// Those that failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub errors: u32,
    /// Those of them that failed for good: the fault was the task's own.
    #[serde(skip_serializing_if = "is_zero")]
    pub finals: u32,
    /// Moving mean of the time of successful runs, in ms; 0 if there was none.
    pub mean_ms: f64,
    /// The last twenty of them, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent_ms: Vec<f64>,
}

impl Vitals {
    /// Drops all but [`MAX_KINDS`] kinds: those stay that fail, then those with most runs. A kind that fails everywhere runs seldom, for it
    /// is held back: by its runs alone the breaker would never hear of it beside busier ones.
    pub fn cap(&mut self) {
        while self.kinds.len() > MAX_KINDS {
            let least = self
                .kinds
                .iter()
                .min_by_key(|(_, k)| (k.outages() * 2 > k.runs, k.runs))
                .map(|(kind, _)| kind.clone());
            if let Some(kind) = least {
                self.kinds.remove(&kind);
            }
        }
    }

    /// Running over capacity, 0..1; a consumer without capacity is full.
    #[must_use]
    pub fn load(&self) -> f64 {
        if self.capacity == 0 {
            return 1.0;
        }
        (f64::from(self.running) / f64::from(self.capacity)).min(1.0)
    }
}

impl KindVitals {
    /// What was measured of a kind.
    #[must_use]
    pub fn of(window: &Window, times: &RunTimes, now: Duration) -> Self {
        let counts = window.counts(now);
        Self {
            running: 0,
            runs: counts.runs,
            errors: counts.errors,
            finals: counts.finals,
            mean_ms: one_decimal(times.mean_ms()),
            recent_ms: times.recent_ms().map(one_decimal).collect(),
        }
    }

    /// Failed runs that another attempt may mend.
    #[must_use]
    pub fn outages(&self) -> u32 {
        self.errors.min(self.runs).saturating_sub(self.finals)
    }

    /// Failed over ended runs, 0..1; 0 without any.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        f64::from(self.errors.min(self.runs)) / f64::from(self.runs.max(1))
    }
}

fn one_decimal(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::super::window::Outcome;
    use super::*;

    #[test]
    fn a_report_is_short_and_comes_back() {
        let mut vitals = Vitals {
            capacity: 8,
            running: 2,
            cpu: 0.5,
            ..Vitals::default()
        };
        let (mut window, mut times) = (Window::new(), RunTimes::new());
        window.record(Outcome::Success, Duration::from_secs(1));
        times.record(Duration::from_micros(12_345), Duration::ZERO);
        vitals.kinds.insert(
            "mail".to_owned(),
            KindVitals::of(&window, &times, Duration::from_secs(1)),
        );
        let text = serde_json::to_string(&vitals).unwrap();
        assert_eq!(
            text,
            r#"{"capacity":8,"running":2,"kinds":{"mail":{"runs":1,"mean_ms":12.3,"recent_ms":[12.3]}},"lag_ms":0.0,"cpu":0.5,"memory":0.0,"rtt_ms":0.0}"#
        );
        assert_eq!(serde_json::from_str::<Vitals>(&text).unwrap(), vitals);
        assert_eq!(serde_json::from_str::<Vitals>("{}").unwrap(), Vitals::default());
    }

    #[test]
    fn a_report_keeps_the_busiest_kinds() {
        let mut vitals = Vitals::default();
        for runs in 0..100 {
            vitals.kinds.insert(
                format!("kind-{runs}"),
                KindVitals {
                    runs,
                    ..KindVitals::default()
                },
            );
        }
        vitals.cap();
        assert_eq!(vitals.kinds.len(), MAX_KINDS);
        assert!(vitals.kinds.values().all(|k| k.runs >= 68));
    }

    #[test]
    fn a_kind_that_fails_is_reported_beside_any_number_of_busier_ones() {
        let mut vitals = Vitals::default();
        for n in 0..100 {
            let busy = KindVitals {
                runs: 500,
                errors: 40,
                ..KindVitals::default()
            };
            vitals.kinds.insert(format!("kind-{n}"), busy);
        }
        let dead = KindVitals {
            runs: 8,
            errors: 8,
            ..KindVitals::default()
        };
        vitals.kinds.insert("dead".to_owned(), dead);
        vitals.cap();
        assert_eq!(vitals.kinds.len(), MAX_KINDS);
        assert!(vitals.kinds.contains_key("dead"));
    }

    #[test]
    fn load_is_relative_to_capacity() {
        for (running, capacity, load) in [(0, 4, 0.0), (2, 4, 0.5), (9, 4, 1.0), (0, 0, 1.0)] {
            let vitals = Vitals {
                capacity,
                running,
                ..Vitals::default()
            };
            assert_eq!(vitals.load(), load);
        }
    }
}
