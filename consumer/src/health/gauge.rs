//! What is known of each kind here: its watch (outcomes, run times, breaker), and its probes under way.
//!
//! Invariant: bounded; kinds beyond the limit are watched together as `*`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use workyard_shared::balance::{Breaker, KindVitals, Vitals, Watch};

/// Broken kinds that are named.
const MOST_BROKEN: usize = 20;
/// Kinds watched apart.
const MOST_KINDS: usize = 256;

/// One kind.
#[derive(Default)]
pub(super) struct Gauge {
    pub(super) watch: Watch,
    /// Its tasks under way.
    running: Arc<AtomicU32>,
    /// Those of them that were let through one at a time.
    probing: Arc<AtomicU32>,
    /// Its breaker as the maintainer said it: in the fleet's time, not in ours.
    pub(super) said: Breaker,
    /// Since when that is not closed, in our time.
    broken_since: Option<Duration>,
    /// Tasks of it that were handed back: in the second that this one says, and in the one before.
    backs: (u64, u32, u32),
}

/// A task of a kind is under way here, until this is dropped.
pub(crate) struct Running {
    _running: Tally,
    _probing: Option<Tally>,
}

/// One more, while it is kept.
struct Tally(Arc<AtomicU32>);

impl Tally {
    fn of(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gauge {
    /// The maintainer says this of its breaker.
    pub(super) fn hears(&mut self, breaker: Breaker, now: Duration) {
        self.said = breaker;
        self.broken_since = match breaker {
            Breaker::Closed => None,
            Breaker::Open { .. } | Breaker::HalfOpen { .. } => self.broken_since.or(Some(now)),
        };
    }

    /// Since when its breaker is not closed.
    pub(super) fn broken_since(&self) -> Option<Duration> {
        self.broken_since
    }

    /// A task of the kind starts, alone if it is a probe.
    pub(super) fn start(&self, probe: bool) -> Running {
        Running {
            _running: Tally::of(&self.running),
            _probing: probe.then(|| Tally::of(&self.probing)),
        }
    }

    /// Tasks under way that were let through one at a time.
    pub(super) fn probing(&self) -> usize {
        self.probing.load(Ordering::Relaxed) as usize
    }

    /// Counts a task that is handed back; how many were in a second, of late.
    pub(super) fn handed_back(&mut self, now: Duration) -> f64 {
        let (second, count, before) = self.backs;
        self.backs = match now.as_secs() - second.min(now.as_secs()) {
            0 => (second, count.saturating_add(1), before),
            1 => (now.as_secs(), 1, count),
            _ => (now.as_secs(), 1, 0),
        };
        let (_, count, before) = self.backs;
        f64::from(count.max(before))
    }
}

#[derive(Default)]
pub(super) struct Gauges {
    kinds: HashMap<String, Gauge>,
}

impl Gauges {
    /// The gauge of a kind.
    pub(super) fn of(&mut self, kind: &str) -> &mut Gauge {
        let kind = if self.kinds.len() < MOST_KINDS || self.kinds.contains_key(kind) {
            kind
        } else {
            "*"
        };
        // Looked up twice, so that the usual case makes no text.
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.to_owned(), Gauge::default());
        }
        match self.kinds.get_mut(kind) {
            Some(gauge) => gauge,
            None => unreachable!("it was put there"),
        }
    }

    /// Puts what ran lately into a report.
    pub(super) fn report(&self, vitals: &mut Vitals, now: Duration) {
        for (kind, gauge) in &self.kinds {
            let figures = KindVitals {
                running: gauge.running.load(Ordering::Relaxed),
                ..gauge.watch.vitals(now)
            };
            if figures.runs > 0 || figures.running > 0 {
                vitals.kinds.insert(kind.clone(), figures);
            }
        }
        vitals.cap();
    }

    /// How many tasks of each kind are under way, where there are any.
    pub(super) fn running(&self) -> HashMap<String, u32> {
        let running = self
            .kinds
            .iter()
            .map(|(kind, gauge)| (kind, gauge.running.load(Ordering::Relaxed)));
        running
            .filter(|(_, n)| *n > 0)
            .map(|(kind, n)| (kind.clone(), n))
            .collect()
    }

    /// Kinds whose breaker the maintainer has not closed, at most [`MOST_BROKEN`].
    pub(super) fn broken(&self) -> Vec<String> {
        let broken = self.kinds.iter().filter(|(_, gauge)| gauge.said != Breaker::Closed);
        broken.map(|(kind, _)| kind.clone()).take(MOST_BROKEN).collect()
    }

    /// The circuit has turned: what ran before says nothing about now.
    pub(super) fn clear(&mut self) {
        for gauge in self.kinds.values_mut() {
            gauge.watch.clear();
        }
    }

    /// Kinds that the maintainer no longer speaks of work everywhere.
    pub(super) fn unmentioned(&mut self, mentioned: impl Fn(&str) -> bool) -> impl Iterator<Item = &mut Gauge> {
        self.kinds
            .iter_mut()
            .filter(move |(kind, _)| !mentioned(kind))
            .map(|(_, gauge)| gauge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_backs_are_counted_by_the_second() {
        let mut gauge = Gauge::default();
        let at = Duration::from_millis;
        let counted: Vec<f64> = [100, 200, 900, 1100, 1200, 2300, 5000]
            .map(|ms| gauge.handed_back(at(ms)))
            .into();
        assert_eq!(counted, [1.0, 2.0, 3.0, 3.0, 3.0, 2.0, 1.0]);
    }
}
