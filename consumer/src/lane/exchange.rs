//! What a lane says to Redis and hears from it: when it claims and how much, when it settles, what the answers mean.
//!
//! Invariant: at most one claim and one batch of outcomes are under way. Room is reserved before a claim is sent and
//! given back for whatever it did not bring.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tracing::debug;
use workyard_shared::broker::{Claimed, Grant, Turn};
use workyard_shared::limits::MAX_BATCH;

use super::Lane;
use super::held::Inserted;
use super::turn::{TurnDone, TurnEnd, TurnOrder};
use crate::health::{Share, Trial};

/// How much work, by mean run time, a lane claims ahead of its free slots.
pub(super) const LOOKAHEAD: Duration = Duration::from_millis(20);

/// Pause behind a claim that Redis refused.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

impl Lane {
    /// How many tasks to claim ahead of the free slots: about 20 ms of work, none while unknown.
    pub(super) fn ahead(&self) -> usize {
        let Some(mean) = self.fleet.counters.mean_run() else {
            return 0;
        };
        if self.cautious {
            return 0;
        }
        let per_slot = LOOKAHEAD.as_nanos() / mean.as_nanos().max(1);
        usize::try_from(per_slot)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.fleet.slots.usable())
            .min(self.fleet.prefetch)
    }

    /// Sends what has ended, unless the batch before it is still under way.
    pub(super) fn next_settle(&mut self) {
        if self.settling.is_some() || self.outbox.is_empty() || self.session.is_none() {
            return;
        }
        self.number += 1;
        let turn = self.outbox.take(self.number);
        self.clerk.queue.settled(turn.len());
        self.settling = self.send(turn, 0, None);
    }

    /// Claims, unless a claim is still under way or there is no room.
    pub(super) fn next_claim(&mut self, draining: bool) {
        let Some(session) = &self.session else { return };
        if self.claiming.is_some() {
            return;
        }
        if draining {
            // The claim that was under way when the drain began may have parked us again.
            if self.woken {
                self.pass_on();
            }
            return;
        }
        let subscribe = (!self.subscribed).then(|| self.queue.keys().wake_channel(&session.session));
        let wanted = if self.hungry { self.reserve() } else { 0 };
        if wanted > 0 {
            self.woken = false;
            self.lighter = false;
        } else if self.woken {
            self.pass_on();
        }
        if wanted > 0 || subscribe.is_some() {
            self.claiming = self.send(Turn::default(), wanted, subscribe);
        }
    }

    /// Takes room for the next claim, as much as health allows.
    fn reserve(&mut self) -> usize {
        let room = self.fleet.slots.reserve(self.index, self.ahead(), MAX_BATCH);
        if room == 0 {
            return 0;
        }
        let allowed = match self.desk.share(room, self.held.len()) {
            Share::Some(n) => n.min(room),
            Share::Probe(trial) => {
                self.trial = Some(trial);
                1
            }
            Share::Nothing(until) => {
                // Not hungry until then: a wake-up goes to another.
                self.hungry = false;
                self.poll_at = until;
                0
            }
        };
        self.fleet.slots.unreserve(self.index, room - allowed);
        if allowed == 0 || self.trial.is_some() {
            // Slots that this queue may not use now are not kept for it: those behind it have them.
            self.fleet.slots.set_dry(self.index, true);
        }
        allowed
    }

    /// A turn on its way; `None` without a session.
    fn send(&self, turn: Turn, wanted: usize, subscribe: Option<String>) -> Option<BoxFuture<'static, TurnDone>> {
        let order = TurnOrder {
            connection: self.connection,
            turn,
            session: self.session.as_ref()?.session.clone(),
            subscribe,
            wanted,
            tries: self.tries(),
            above: self.above,
            rank: self.desk.rank(self.trial.is_some(), self.above, self.held.len()),
        };
        let (queue, served, fleet) = (self.queue.clone(), &self.served, &self.fleet);
        Some(Box::pin(order.send(queue, Arc::clone(served), Arc::clone(fleet))))
    }

    /// We were woken and have no room (another queue took it): wake another in our place.
    fn pass_on(&mut self) {
        self.woken = false;
        let Some(session) = self.session.clone() else { return };
        tokio::spawn(async move {
            if let Err(error) = session.queue.pass_on().await {
                debug!(%error, "a wake-up could not be passed on; the poll finds the task");
            }
        });
    }

    pub(super) fn finish_turn(&mut self, done: TurnDone) {
        let current = self.session.as_ref().is_some_and(|s| s.session == done.session);
        self.subscribed |= current && done.subscribed && done.connection == self.connection;
        // Of the turn that claimed: whatever it brought, it is over.
        let trial = if done.wanted > 0 { self.trial.take() } else { None };
        let probed = trial.is_some();
        let answer = match done.end {
            TurnEnd::Answered(answer) if current => answer,
            end => {
                if current && matches!(end, TurnEnd::ClaimRefused) {
                    self.rest_from_refusal(trial);
                }
                self.fleet.slots.unreserve(self.index, done.wanted);
                return;
            }
        };
        let granted = match &answer.claimed {
            Some(Claimed::Tasks(grants) | Claimed::More(grants)) => grants.len(),
            _ => 0,
        };
        self.fleet
            .slots
            .unreserve(self.index, done.wanted.saturating_sub(granted));
        self.clerk.queue.claimed(granted);
        self.fleet.slots.served(self.index, granted);
        if !done.turn.is_empty() {
            self.outbox
                .settled(self.queue.name(), &self.fleet, &self.clerk.queue, &done.turn, &answer);
        }
        match answer.claimed {
            Some(Claimed::Tasks(grants)) => {
                let short = grants.len() < done.wanted;
                self.take(grants, trial);
                if short {
                    self.rest();
                } else {
                    self.fleet.slots.set_dry(self.index, probed);
                }
            }
            Some(Claimed::More(grants)) => {
                self.take(grants, trial);
                self.fleet.slots.set_dry(self.index, probed);
            }
            Some(Claimed::Paused) => {
                if let Some(trial) = trial {
                    trial.nothing();
                }
                self.rest();
            }
            // The pulse hears the same with its next beat, and brings a new session: until then
            // every claim would be answered like this one.
            Some(Claimed::Lost) => {
                self.woken = false;
                self.lighter = false;
                self.rest();
            }
            None => {}
        }
    }

    fn take(&mut self, grants: Vec<Grant>, mut trial: Option<Trial>) {
        match grants.first() {
            Some(grant) => self.desk.served(grant.token),
            None => {
                if let Some(trial) = trial.take() {
                    trial.nothing();
                }
            }
        }
        let (mut suspects, registry) = (None, self.fleet.registry());
        for grant in grants {
            self.above = self.above.max(grant.token);
            let is_new = !self.held.knows(&grant);
            if is_new {
                let kind = grant.kind();
                let is_run = || registry.get(kind).is_some() || self.fleet.stages.knows(kind);
                self.clerk.claimed(kind, is_run);
            }
            if is_new && grant.is_suspect() {
                let waiting = suspects.get_or_insert_with(|| self.suspects_waiting());
                if let Some(delay) = self.leaves(&grant, *waiting) {
                    self.fleet.slots.unreserve(self.index, 1);
                    self.outbox.release(grant.id, grant.token, delay);
                    continue;
                }
                *waiting += 1;
            }
            let inserted = self.held.insert(&grant, trial.take());
            if inserted != Inserted::New {
                // Reserved twice: a redelivery of what we hold, or a task that comes back to us.
                self.fleet.slots.unreserve(self.index, 1);
            }
            if inserted != Inserted::Known {
                self.line_up(grant);
                self.full.came();
            }
        }
    }

    /// Behind what was claimed before it; but what waits for a slot of its own kind stands in the order in which the queue would
    /// hand it out, or what came last would be the last, however urgent, and the first to be handed back.
    fn line_up(&mut self, grant: Grant) {
        let registry = self.fleet.registry();
        let is_limited = registry.slots(grant.kind()).is_some();
        let mut place = self.ready.len();
        if is_limited {
            let urgency = grant.urgency();
            for (at, other) in self.ready.iter().enumerate().rev() {
                if other.kind() != grant.kind() {
                    continue;
                }
                if other.urgency() <= urgency {
                    break;
                }
                place = at;
            }
        }
        self.ready.insert(place, grant);
    }

    /// Nothing is to be had here for now, and nobody tells when that ends.
    fn rest_from_refusal(&mut self, trial: Option<Trial>) {
        if let Some(trial) = trial {
            trial.nothing();
        }
        (self.woken, self.lighter) = (false, false);
        self.rest();
        self.poll_at = Instant::now() + AFTER_REFUSAL.mul_f64(0.75 + fastrand::f64() / 2.0);
    }

    /// The queue is empty or paused; we are parked and will be woken. The poll is the guarantee.
    fn rest(&mut self) {
        self.hungry = self.woken || self.lighter;
        self.fleet.slots.set_dry(self.index, true);
        self.poll_at = Instant::now() + self.fleet.poll.mul_f64(0.75 + fastrand::f64() / 2.0);
    }
}
