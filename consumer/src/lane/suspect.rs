//! A suspect from its claim to its start: how many wait here, and Redis is told of each before it starts.
//!
//! Invariant: none starts that Redis has not been told of, and one at a time is on its way. It holds up no claim.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::warn;
use workyard_shared::Error;
use workyard_shared::broker::{Grant, Queue, Tries};
use workyard_shared::outage::Patience;

use super::Lane;
use super::held::Judged;
use super::start::Starting;
use super::unstarted::handback;
use crate::context::Lifeline;
use crate::fleet::Fleet;
use crate::suspects::{Alone, SUSPECT_DELAY};

/// How much work of suspects is kept here; others may have time for more.
const KEPT: Duration = Duration::from_millis(250);
/// What telling Redis of one takes, roughly.
const TOLD: Duration = Duration::from_millis(2);

/// Redis is being told of it.
pub(super) struct Trying {
    pub(super) id: String,
    pub(super) token: u64,
    call: BoxFuture<'static, Tried>,
}

/// Redis knows.
pub(super) struct Tried {
    grant: Grant,
    alone: Alone,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Known,
    /// It is not ours any more.
    Stale,
    /// Who loaded an older library, or may call less: it would be refused each time.
    Refused,
}

/// Tells Redis.
impl Future for Trying {
    type Output = Tried;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Tried> {
        self.call.poll_unpin(cx)
    }
}

/// Whether a task may start whose kind has room.
pub(super) enum Gate {
    /// It may; a suspect as the only one.
    Open(Option<Alone>),
    /// Not in this moment.
    Closed,
    /// Another suspect runs here, and for long.
    Occupied,
    /// It is a suspect, and every slot is taken.
    NoSlot,
}

impl Lane {
    pub(super) fn gate(&self, is_suspect: bool) -> Gate {
        let suspects = &self.fleet.suspects;
        if !is_suspect {
            return if suspects.lets_start() {
                Gate::Open(None)
            } else {
                Gate::Closed
            };
        }
        let now = Instant::now();
        if suspects.is_occupied(now) {
            Gate::Occupied
        } else if !self.fleet.slots.has_free() {
            Gate::NoSlot
        } else {
            suspects
                .try_start(now)
                .map_or(Gate::Closed, |alone| Gate::Open(Some(alone)))
        }
    }

    /// For how long a suspect that was just claimed goes back; `None`: it stays, beside as many others as wait here.
    pub(super) fn leaves(&self, grant: &Grant, waiting: usize) -> Option<Duration> {
        let kind = grant.kind();
        let registry = self.fleet.registry();
        let is_full = registry
            .slots(kind)
            .is_some_and(|slots| !slots.has_room(self.fleet.slots.standing(self.index)));
        let run = self.desk.usual_run(kind).unwrap_or(KEPT) + TOLD;
        let in_time = usize::try_from(KEPT.as_nanos() / run.as_nanos()).unwrap_or(usize::MAX);
        let most = in_time.min((self.fleet.slots.usable() + self.ahead()) / 2).max(1);
        let stays = !is_full && waiting < most && !self.fleet.suspects.is_occupied(Instant::now());
        (!stays).then(|| self.desk.away(kind, SUSPECT_DELAY))
    }

    /// What the next claim promises to say of suspects.
    pub(super) fn tries(&self) -> Tries {
        match self.tells {
            false => Tries::Never,
            true if self.held.is_empty() && self.fleet.queues.all().len() == 1 => Tries::HoldsNothing,
            true => Tries::Always,
        }
    }

    /// How many suspects wait here.
    pub(super) fn suspects_waiting(&self) -> usize {
        let ready = self.ready.iter().filter(|grant| grant.is_suspect()).count();
        ready + usize::from(self.trying.is_some())
    }

    /// Tells Redis which suspect starts.
    pub(super) fn begin_try(&mut self, session: &Arc<Lifeline>, grant: Grant, alone: Alone) {
        let (id, token) = (grant.id.clone(), grant.token);
        let (queue, session, fleet) = (self.queue.clone(), Arc::clone(session), Arc::clone(&self.fleet));
        let call = async move {
            let answer = tell(&queue, &session, &fleet, &grant).await;
            Tried { grant, alone, answer }
        };
        let call = Box::pin(call);
        self.trying = Some(Trying { id, token, call });
    }

    /// It starts now, if it still may.
    pub(super) fn finish_try(&mut self, tried: Tried) {
        let Tried {
            grant,
            mut alone,
            answer,
        } = tried;
        let Some(session) = self.session.clone() else { return };
        if answer == Answer::Stale {
            // The recount or the next beat finds out why.
            self.let_go(&grant.id);
            self.fleet.slots.unreserve(self.index, 1);
        } else if answer == Answer::Refused {
            // From the next claim on nothing is promised, and all are charged.
            self.tells = false;
            self.hand_back(handback(&grant, false, SUSPECT_DELAY), drop);
        } else if !alone.starts(Instant::now(), grant.survived()) {
            self.ready.push_front(grant);
        } else {
            self.tell_when_beside(&mut alone, &session, &grant);
            let judged = self.start(&Starting::new(&self.fleet, session), grant, Some(alone));
            if let Some(Judged::NoSlot(grant) | Judged::KindFull(grant)) = judged {
                self.ready.push_front(grant);
            }
        }
    }

    /// Has Redis told when others start beside it. If it does not hear, a death costs more than it should: no reason to ask again.
    fn tell_when_beside(&self, alone: &mut Alone, session: &Arc<Lifeline>, grant: &Grant) {
        let (queue, session, id, token) = (self.queue.clone(), Arc::clone(session), grant.id.clone(), grant.token);
        alone.when_beside(grant.survived(), async move {
            _ = queue.try_suspect(&session.session, &id, token, true).await;
        });
    }

    /// What was on its way does not start: its id and token, if there was one.
    pub(super) fn stop_try(&mut self) -> Option<(String, u64)> {
        self.trying.take().map(|trying| (trying.id, trying.token))
    }
}

async fn tell(queue: &Queue, session: &Lifeline, fleet: &Fleet, grant: &Grant) -> Answer {
    let mut patience = Patience::default();
    loop {
        match queue.try_suspect(&session.session, &grant.id, grant.token, false).await {
            Ok(is_ours) => {
                fleet.watch.succeeded();
                return if is_ours { Answer::Known } else { Answer::Stale };
            }
            Err(error @ (Error::Invalid(_) | Error::Denied(_) | Error::Protocol(_))) => {
                warn!(task = %grant.id, %error, "Redis cannot be told of a task that consumers died under");
                return Answer::Refused;
            }
            Err(error) => fleet.watch.failed(&error),
        }
        patience.wait().await;
    }
}
