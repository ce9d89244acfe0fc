//! Workyard's own way: consumers claim, and wait with a rank when there is nothing.

use std::time::Duration;

use workyard_shared::balance::{Allowed, Policy, Standing, claim_size, load_score, rank};

use super::{Event, World};
use crate::dispatch::Dispatch;

/// Whoever handed tasks back claims again after this.
const PAUSE_US: u64 = 50_000;

/// What a claim brought.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    started: usize,
    handed_back: usize,
}

impl World<'_> {
    pub(super) fn wake(&mut self) {
        while !self.pending.is_empty() {
            let Some((_, consumer)) = self.parked.pop_first() else {
                return;
            };
            self.consumers[consumer as usize].parked = None;
            self.claim(consumer);
        }
    }

    /// A consumer looks for work; when there is none it waits with its rank.
    pub(super) fn claim(&mut self, id: u32) {
        let Dispatch::Claim(policy) = self.dispatch else { return };
        self.unpark(id);
        let now = Duration::from_micros(self.now_us);
        let c = &mut self.consumers[id as usize];
        if !c.alive || c.free() == 0 {
            return;
        }
        let allowed = c.circuit.may_claim(now);
        let wanted = match allowed {
            Allowed::All => claim_size(policy, c.free(), c.held.len(), c.health),
            Allowed::Probe => 1,
            Allowed::Nothing { until } => return self.ask(id, self.until(until)),
        };
        let taken = self.take(id, wanted);
        let c = &mut self.consumers[id as usize];
        let probe = allowed == Allowed::Probe;
        if probe && taken.started == 0 {
            c.circuit.on_nothing(c.circuit.probe(), now);
        }
        // What was handed back counts too: else those that may not run a kind keep the lowest rank.
        if taken.started + taken.handed_back > 0 {
            c.served_us = self.now_us;
        }
        if taken.handed_back > 0 {
            self.ask(id, PAUSE_US);
        } else if taken.started < wanted {
            self.park(id, policy, probe);
        }
    }

    fn ask(&mut self, id: u32, delay_us: u64) {
        if !std::mem::replace(&mut self.consumers[id as usize].asks, true) {
            self.after(delay_us, Event::Ask { consumer: id });
        }
    }

    fn park(&mut self, id: u32, policy: Policy, probe: bool) {
        let c = &mut self.consumers[id as usize];
        c.vitals.running = u32::try_from(c.held.len()).unwrap_or(u32::MAX);
        let load_score = load_score(&c.vitals, &self.fleet);
        let rank = rank(
            policy,
            &Standing {
                parked_us: self.now_us,
                served_us: c.served_us,
                load_score,
                probe,
            },
        );
        c.parked = Some(rank);
        self.parked.insert((rank.to_bits(), id));
    }

    pub(super) fn unpark(&mut self, id: u32) {
        if let Some(rank) = self.consumers[id as usize].parked.take() {
            self.parked.remove(&(rank.to_bits(), id));
        }
    }

    /// Claims up to that many; those that may not run now go back for a while.
    fn take(&mut self, id: u32, wanted: usize) -> Taken {
        let now = Duration::from_micros(self.now_us);
        let mut taken = Taken::default();
        for _ in 0..wanted {
            let Some(task) = self.pending.pop_front() else { break };
            match self.consumers[id as usize].admits(self.kind(task), now) {
                Allowed::Nothing { until } => {
                    self.after(self.until(until), Event::Due { task });
                    taken.handed_back += 1;
                }
                Allowed::All | Allowed::Probe => {
                    self.start(id, task);
                    taken.started += 1;
                }
            }
        }
        taken
    }

    /// How long until then, at least a microsecond.
    fn until(&self, then: Duration) -> u64 {
        u64::try_from(then.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_sub(self.now_us)
            .max(1)
    }
}
