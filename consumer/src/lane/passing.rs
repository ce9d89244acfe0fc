//! Failed tasks whose next attempt belongs to another consumer: where a kind fails mostly, the fault may be ours.
//!
//! One that fails fast is free more often than those who work, and gets a retry again and again: all attempts of a task could be
//! burnt here before the circuit opens, and single ones by its probes. Invariant: it takes somebody who runs the kind well, and
//! a bounded number of hand-backs per failure; then the task runs here, whoever is at fault. No attempt is burnt by it. Where
//! several fail everything, each counts for itself: `Desk` sees to it that the retry comes to somebody else meanwhile.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use workyard_shared::broker::{Grant, Handback};

use super::unstarted::handback;
use crate::health::Desk;

/// How often a task is passed on after one failure: about 14 s together.
const MOST: u32 = 10;
/// How long it stays away the first time, twice as long each further time ...
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// How long another consumer has to take it when it is due, before this one tries its circuit again.
pub(super) const PASSED: Duration = Duration::from_millis(500);
/// Tasks that are remembered; beyond that none is passed on ...
const REMEMBERED: usize = 10_000;
/// ... until those have had their time, most of them elsewhere, and all are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// What was passed on: by task, after which failure, how often.
#[derive(Debug)]
pub(super) struct Passing {
    passed: HashMap<String, (u32, u32)>,
    since: Instant,
}

impl Default for Passing {
    fn default() -> Self {
        Self {
            passed: HashMap::new(),
            since: Instant::now(),
        }
    }
}

impl Passing {
    /// The hand-back, if it is better for the task to run elsewhere.
    pub(super) fn on(&mut self, grant: &Grant, desk: &Desk) -> Option<Handback> {
        let meta = &grant.meta;
        // Whoever failed it: two that fail everything would give each other their retries.
        if meta.failures == 0 {
            return None;
        }
        let (failures, times) = self.passed.get(&grant.id).copied().unwrap_or_default();
        let times = if failures == meta.failures { times } else { 0 };
        if times >= MOST || !desk.is_better_elsewhere(grant.kind()) {
            self.passed.remove(&grant.id);
            return None;
        }
        if self.passed.len() >= REMEMBERED && !self.passed.contains_key(&grant.id) {
            if self.since.elapsed() < FORGET_AFTER {
                return None;
            }
            self.passed.clear();
            self.since = Instant::now();
        }
        self.passed.insert(grant.id.clone(), (meta.failures, times + 1));
        let delay = FIRST_DELAY.saturating_mul(1 << times).min(LONGEST_DELAY);
        Some(handback(grant, false, delay))
    }
}
