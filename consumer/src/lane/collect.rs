//! What has ended: measured, counted, and put where the next settle takes it along.
//!
//! Invariant: an end that belongs to a session that was lost is dropped; every other goes into the outbox once.

use std::time::Duration;

use super::Lane;
use super::held::{Held, Returns};
use crate::done::Done;
use crate::registry::Registry;

impl Lane {
    pub(super) fn collect(&mut self, finished: &mut Vec<(Done, Duration)>) {
        let registry = self.fleet.registry();
        // What ends may be a probe, or count for one: then another is due, or all that there is.
        if !self.desk.is_well() {
            self.hungry = true;
        }
        for (mut done, run) in finished.drain(..) {
            let (id, token) = done.claim();
            // One that is no longer held was given up with its session. Kept until it is measured: a probe ends then.
            let Some(holding) = self.held.finish(id, token) else {
                continue;
            };
            self.cautious = false;
            self.fleet.slots.unreserve(self.index, 1);
            let returns = Held::returns(&holding);
            // Told to end, a handler says that it failed, and may say so before the stop of its run is seen: no fault of its own.
            if returns != Returns::No {
                done = done.unless_failed();
            }
            if done.is_refusal() {
                self.clerk.queue.refused();
                // Neither measured nor handed back: it says nothing of our health, and nobody else shall try it.
                self.outbox.add(done);
                continue;
            }
            if returns == Returns::WhenEnded
                && let Done::Dropped { id, token } = &done
            {
                self.outbox.release(id.clone(), *token, Duration::ZERO);
            }
            self.fleet.counters.ran(run, &done);
            match self
                .measure(&registry, &done, run, Held::is_retry(&holding))
                .filter(|_| Held::is_spared(&holding))
                .and_then(|again| done.as_handback(again))
            {
                Some(handback) => self.outbox.hand_back(handback),
                None => self.outbox.add(done),
            }
        }
        if let Some(mean) = self.fleet.counters.mean_run() {
            self.fleet.slots.runs_take(mean);
        }
        // We may wait with the rank of one that had more to do: a claim that finds nothing parks with the new one.
        if self.desk.ranks_by_load() {
            self.lighter = true;
            self.hungry = true;
        }
    }

    /// Tells whoever measures; see `Desk::ended` for the answer.
    fn measure(&mut self, registry: &Registry, done: &Done, run: Duration, is_retry: bool) -> Option<Duration> {
        self.clerk.ended(done, run);
        let (kind, ok) = (done.kind()?, !done.is_failure());
        if let Some(slots) = registry.slots(kind) {
            slots.ended(run, ok);
        }
        self.desk.ended(kind, done.outcome(), run, is_retry)
    }
}
