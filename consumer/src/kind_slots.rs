//! The slots of one kind: a fixed number, or one that moves with measured latency.
//!
//! Invariant: a task of the kind runs only while it holds a permit, and `min <= limit <= max`. When the limit falls,
//! what runs goes on and nothing is stopped: the next start waits until fewer run than may.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use workyard_shared::Error;
use workyard_shared::balance::Limit;

use crate::turns::{Standing, Turns};

/// Most tasks of a kind at once.
const MOST: usize = 10_000;

/// How many tasks of one kind may run at once in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// Always so many.
    Fixed(usize),
    /// Begins with `min`, and moves up to `max` as long as tasks do not get slower by running side by side, and down
    /// when they do, when most of them fail, or when the host is at its limit.
    Adaptive {
        /// Never fewer.
        min: usize,
        /// Never more.
        max: usize,
    },
}

impl From<usize> for Concurrency {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl Concurrency {
    /// # Errors
    /// What is wrong and what would be right, without the kind.
    pub(crate) fn check(self) -> Result<Self, String> {
        let range = |name: &str, n: usize| {
            (1..=MOST)
                .contains(&n)
                .then_some(())
                .ok_or_else(|| format!("{name}{n} is out of range; give 1 to {MOST}"))
        };
        match self {
            Self::Fixed(n) => range("", n)?,
            Self::Adaptive { min, max } => {
                range("min = ", min)?;
                range("max = ", max)?;
                if min > max {
                    return Err(format!("min = {min} is above max = {max}; give a min of at most {max}"));
                }
            }
        }
        Ok(self)
    }
}

/// What the health key says of a kind's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct SlotsNow {
    /// May run now.
    pub(crate) limit: usize,
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) running: usize,
}

/// The slots of a kind.
#[derive(Debug)]
pub(crate) struct KindSlots {
    bounds: (usize, usize),
    limit: AtomicUsize,
    running: AtomicUsize,
    /// Most that ran at once since the last beat.
    busiest: AtomicUsize,
    /// What moves the limit; `None`: it is fixed.
    measured: Option<Mutex<Limit>>,
    /// Whose turn it is among the queues whose tasks wait for a slot.
    turns: Mutex<Turns>,
}

/// A slot of a kind in use; dropping it frees it.
#[derive(Debug)]
pub(crate) struct KindPermit(Arc<KindSlots>);

impl Drop for KindPermit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl KindSlots {
    /// # Errors
    /// [`Error::Invalid`]: numbers that cannot be.
    pub(crate) fn new(kind: &str, concurrency: Concurrency) -> Result<Self, Error> {
        let wrong = |text| Error::Invalid(format!("the concurrency of kind {kind}: {text}"));
        let (min, max, measured) = match concurrency.check().map_err(wrong)? {
            Concurrency::Fixed(n) => (n, n, None),
            Concurrency::Adaptive { min, max } => {
                let limit = Limit::new(narrow(min), narrow(max));
                (min, max, Some(Mutex::new(limit)))
            }
        };
        Ok(Self {
            bounds: (min, max),
            limit: AtomicUsize::new(min),
            running: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
            measured,
            turns: Mutex::default(),
        })
    }

    /// Whether a slot is free, and it is this queue's turn to take it.
    pub(crate) fn has_room(&self, who: Standing) -> bool {
        let free = self
            .limit
            .load(Ordering::Relaxed)
            .saturating_sub(self.running.load(Ordering::Acquire));
        if who.alone {
            return free > 0;
        }
        let (mut turns, now) = (
            self.turns.lock().unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        );
        let room = free > turns.before(who, now);
        if !room {
            turns.waits(who, now);
        }
        room
    }

    /// Takes a slot, if one is free. Whose turn it is, [`Self::has_room`] has said.
    pub(crate) fn try_run(self: &Arc<Self>, who: Standing) -> Option<KindPermit> {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |running| (running < limit).then_some(running + 1);
        let before = self
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        self.busiest.fetch_max(before + 1, Ordering::Relaxed);
        if !who.alone {
            self.turns
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .served(who, 1, Instant::now());
        }
        Some(KindPermit(Arc::clone(self)))
    }

    /// A run has ended.
    pub(crate) fn ended(&self, took: Duration, ok: bool) {
        if let Some(limit) = &self.measured {
            let busiest = narrow(self.busiest.load(Ordering::Relaxed));
            let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
            limit.on_run(took, ok, busiest);
        }
    }

    /// Moves the limit by what was measured since the last beat; true if it has changed.
    pub(crate) fn beat(&self, pressure: f64) -> bool {
        let Some(limit) = &self.measured else { return false };
        let slots = limit.lock().unwrap_or_else(PoisonError::into_inner).beat(pressure);
        self.busiest
            .store(self.running.load(Ordering::Relaxed), Ordering::Relaxed);
        let slots = usize::try_from(slots).unwrap_or(MOST);
        self.limit.swap(slots, Ordering::Relaxed) != slots
    }

    pub(crate) fn now(&self) -> SlotsNow {
        SlotsNow {
            limit: self.limit.load(Ordering::Relaxed),
            min: self.bounds.0,
            max: self.bounds.1,
            running: self.running.load(Ordering::Relaxed),
        }
    }
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::QueueOrder;

    const ALONE: Standing = Standing {
        lane: 0,
        rank: 0,
        weight: 1,
        order: QueueOrder::Strict,
        alone: true,
        burst: 0,
    };

    fn adaptive(min: usize, max: usize) -> Arc<KindSlots> {
        Arc::new(KindSlots::new("k", Concurrency::Adaptive { min, max }).unwrap())
    }

    /// One beat in which all slots were used, each run taking `ms`.
    fn busy_beat(slots: &Arc<KindSlots>, ms: u64) -> usize {
        let permits: Vec<_> = std::iter::from_fn(|| slots.try_run(ALONE)).collect();
        for _ in &permits {
            slots.ended(Duration::from_millis(ms), true);
        }
        drop(permits);
        slots.beat(0.0);
        slots.now().limit
    }

    #[test]
    fn as_many_run_as_the_limit_says_and_a_permit_comes_back() {
        let slots = Arc::new(KindSlots::new("k", 2.into()).unwrap());
        let first = slots.try_run(ALONE).unwrap();
        let _second = slots.try_run(ALONE).unwrap();
        assert!(slots.try_run(ALONE).is_none());
        drop(first);
        assert!(slots.try_run(ALONE).is_some());
        assert!(!slots.beat(1.0), "a fixed number never moves");
        assert_eq!(slots.now().limit, 2);
    }

    #[test]
    fn a_limit_grows_while_runs_are_as_fast_shrinks_when_they_are_not_and_stops_nobody() {
        let slots = adaptive(1, 10);
        assert_eq!(slots.now().limit, 1, "it begins with the least");
        while busy_beat(&slots, 20) < 10 {}
        let held: Vec<_> = std::iter::from_fn(|| slots.try_run(ALONE)).collect();
        assert_eq!(held.len(), 10);
        for _ in 0..20 {
            slots.ended(Duration::from_secs(2), true);
            slots.beat(0.0);
        }
        let now = slots.now();
        assert!(now.limit < 6 && now.running == 10, "{now:?}");
        assert!(slots.try_run(ALONE).is_none());
        drop(held);
        assert!(slots.try_run(ALONE).is_some());
    }

    #[test]
    fn pressure_of_the_host_takes_slots_away_down_to_the_least() {
        let slots = adaptive(2, 10);
        while busy_beat(&slots, 20) < 10 {}
        for _ in 0..20 {
            slots.beat(0.9);
        }
        assert_eq!(slots.now().limit, 2);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for (concurrency, text) in [
            (Concurrency::Fixed(0), "kind k: 0 is out of range; give 1 to 10000"),
            (Concurrency::Adaptive { min: 0, max: 4 }, "min = 0 is out of range"),
            (
                Concurrency::Adaptive { min: 1, max: 10_001 },
                "max = 10001 is out of range",
            ),
            (
                Concurrency::Adaptive { min: 5, max: 4 },
                "min = 5 is above max = 4; give a min of at most 4",
            ),
        ] {
            let error = KindSlots::new("k", concurrency).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
