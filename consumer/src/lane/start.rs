//! From what is ready to what runs: in which order, and what becomes of a task that cannot start here.
//!
//! Invariant: a task that is not started stays ready, or goes back; and what waits for a slot of its own kind is in nobody's way.

use std::sync::Arc;
use std::time::Instant;

use workyard_shared::broker::Grant;

use super::Lane;
use super::held::Judged;
use super::passing::PASSED;
use super::suspect::Gate;
use super::unstarted::handback;
use crate::context::Lifeline;
use crate::fleet::Fleet;
use crate::health::Trial;
use crate::protection::Protection;
use crate::registry::Registry;
use crate::suspects::{Alone, SUSPECT_DELAY};

/// What tasks are started with, for one look at those that are ready.
pub(super) struct Starting {
    session: Arc<Lifeline>,
    registry: Arc<Registry>,
    protection: Arc<Protection>,
}

impl Starting {
    pub(super) fn new(fleet: &Fleet, session: Arc<Lifeline>) -> Self {
        Self {
            session,
            registry: fleet.registry(),
            protection: fleet.protection(),
        }
    }
}

impl Lane {
    /// Starts what is ready as far as there are slots.
    pub(super) fn start_ready(&mut self) {
        let Some(session) = self.session.clone() else { return };
        self.held_back = false;
        if self.ready.is_empty() {
            self.fleet.slots.park(self.index, 0);
            return;
        }
        let with = Starting::new(&self.fleet, session);
        let standing = self.fleet.slots.standing(self.index);
        // Of a kind that is full there may be hundreds, and this is gone through with each end: they stay where they are.
        let mut full: Vec<String> = Vec::new();
        let mut at = 0;
        while let Some(next) = self.ready.get(at) {
            let (kind, is_suspect) = (next.kind(), next.is_suspect());
            if full.iter().any(|other| other == kind) {
                at += 1;
                continue;
            }
            if with.registry.slots(kind).is_some_and(|slots| !slots.has_room(standing)) {
                full.push(kind.to_owned());
                continue;
            }
            let alone = match self.gate(is_suspect) {
                Gate::Open(alone) => alone,
                Gate::Closed => {
                    self.held_back = true;
                    at += 1;
                    continue;
                }
                Gate::Occupied => {
                    self.return_suspect(at);
                    continue;
                }
                Gate::NoSlot => {
                    self.return_stranded();
                    break;
                }
            };
            let Some(grant) = self.ready.remove(at) else { break };
            if let Some(handback) = self.passing.on(&grant, &self.desk) {
                let pause = handback.delay + PASSED;
                self.hand_back(handback, |trial| trial.passed(pause));
                continue;
            }
            let alone = match alone {
                Some(alone) if self.tells => {
                    self.begin_try(&with.session, grant, alone);
                    continue;
                }
                Some(alone) => alone.starts(Instant::now(), grant.survived()).then_some(alone),
                None => None,
            };
            match self.start(&with, grant, alone) {
                Some(Judged::NoSlot(grant)) => {
                    self.ready.insert(at, grant);
                    self.return_stranded();
                    break;
                }
                Some(Judged::KindFull(grant)) => {
                    full.push(grant.kind().to_owned());
                    self.ready.insert(at, grant);
                }
                _ => {}
            }
        }
        // What was passed over waits for a slot of its kind.
        let parked = if full.is_empty() { 0 } else { at.min(self.ready.len()) };
        self.fleet.slots.park(self.index, parked);
        self.return_excess(&with.registry, &full);
    }

    /// Starts a task, or tells why it has no slot; what else becomes of it is done here.
    pub(super) fn start(&mut self, with: &Starting, grant: Grant, alone: Option<Alone>) -> Option<Judged> {
        let Starting {
            session,
            registry,
            protection,
        } = with;
        let judged = self
            .held
            .judge(&self.fleet, registry, protection, &self.book, &self.desk, grant);
        match judged {
            Judged::Run(job) => {
                if let Some(kind) = job.limited_kind() {
                    self.full.started(kind);
                }
                self.started_at = Instant::now();
                match alone {
                    Some(alone) => self.held.goes_alone(job.id(), alone),
                    None => self.fleet.suspects.started(self.started_at),
                }
                self.held
                    .spawn(&self.fleet, protection, session, &mut self.clerk, *job, &self.done_in);
            }
            Judged::Refused(done) => {
                if done.is_refused_step() {
                    self.clerk.queue.refused();
                }
                let (id, _) = done.claim();
                self.let_go(id);
                self.fleet.slots.unreserve(self.index, 1);
                self.outbox.add(done);
            }
            Judged::Unhandled(handback) if handback.unhandled.is_some() => self.hand_back(handback, Trial::nothing),
            Judged::Unhandled(handback) => self.hand_back(handback, drop),
            Judged::NoSlot(_) | Judged::KindFull(_) => return Some(judged),
        }
        None
    }

    /// Hands back one that would wait for long here.
    fn return_suspect(&mut self, at: usize) {
        if let Some(grant) = self.ready.remove(at) {
            self.hand_back(handback(&grant, false, SUSPECT_DELAY), drop);
        }
    }
}
