//! What is measured of each kind: outcomes over a sliding window, run times.
//!
//! Invariant: bounded; kinds beyond the limit are counted together under `*`.

use std::collections::HashMap;
use std::time::Duration;

use workyard_shared::balance::{RunTimes, Vitals, Window};

/// Kinds measured apart.
const MOST_KINDS: usize = 256;

#[derive(Default)]
pub(super) struct Gauges {
    kinds: HashMap<String, (Window, RunTimes)>,
}

impl Gauges {
    /// Counts a run that ended. Times of failed runs say little about how fast this consumer is.
    pub(super) fn record(&mut self, kind: &str, ok: bool, took: Duration, now: Duration) {
        let kind = if self.kinds.len() < MOST_KINDS || self.kinds.contains_key(kind) {
            kind
        } else {
            "*"
        };
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.to_owned(), (Window::new(), RunTimes::new()));
        }
        if let Some((window, times)) = self.kinds.get_mut(kind) {
            window.record(ok, now);
            if ok {
                times.record(took);
            }
        }
    }

    /// Puts all of it into a report.
    pub(super) fn report(&self, vitals: &mut Vitals, now: Duration) {
        for (kind, (window, times)) in &self.kinds {
            if window.counts(now).runs > 0 {
                vitals.add(kind.as_str(), window, times, now);
            }
        }
        vitals.cap();
    }

    /// Forgets the outcomes of one kind, or of all: what ran before a turn says nothing about after it.
    pub(super) fn clear(&mut self, only: Option<&str>) {
        for (kind, (window, _)) in &mut self.kinds {
            if only.is_none_or(|only| only == kind) {
                window.clear();
            }
        }
    }
}
