//! How a lane lets go: of a session that was lost, and of everything at the end.
//!
//! Invariant: whatever is held is either settled or handed back under the session that holds it; the
//! fence decides what of it is still ours.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, info, warn};
use workyard_shared::Error;
use workyard_shared::broker::{Queue, Turn};
use workyard_shared::limits::MAX_BATCH;

use super::Lane;
use super::outbox::Outbox;
use crate::context::Lifeline;
use crate::fleet::Fleet;
use crate::metrics::QueueMeter;

/// How long Redis may take to hear that we go.
const GOOD_BYE: Duration = Duration::from_secs(2);

impl Lane {
    /// Stops the old session's handlers and tries to settle under its name: if the lease was lost,
    /// the fence refuses each and counts it; if it was not, nothing waits for the lease to end.
    pub(super) fn abandon(&mut self, old: &Arc<Lifeline>) {
        let held = self.held.cancel_all();
        let tried = usize::from(self.stop_try().is_some());
        self.fleet.slots.unreserve(self.index, self.ready.len() + tried);
        self.ready.clear();
        let mut outbox = std::mem::take(&mut self.outbox);
        let mut turn = outbox.take(self.number + 1);
        turn.handbacks.extend(held);
        turn.handbacks.truncate(MAX_BATCH);
        let (queue, old, fleet) = (self.queue.clone(), Arc::clone(old), Arc::clone(&self.fleet));
        let meter = Arc::clone(&self.clerk.queue);
        tokio::spawn(async move {
            if let Err(error) = say_good_bye(&queue, &old, &turn, outbox, &fleet, &meter).await {
                debug!(%error, "the lost session could not say good-bye");
            }
        });
    }

    /// Stops claiming; what has not started goes back at once.
    pub(super) fn begin_drain(&mut self) {
        if let Some(session) = &self.session {
            let (queue, session) = (self.queue.clone(), Arc::clone(session));
            // Nothing waits for the answer: what we are woken for meanwhile, the one who leaves passes on.
            tokio::spawn(async move {
                if let Err(error) = queue.unpark(&session.session).await {
                    debug!(%error, "could not unpark; the lease ends it");
                }
            });
        }
        let tried = self.stop_try();
        let unstarted = self.ready.drain(..).map(|grant| (grant.id, grant.token)).chain(tried);
        for (id, token) in unstarted {
            self.held.remove_unstarted(&id);
            self.fleet.slots.unreserve(self.index, 1);
            self.outbox.release(id, token, Duration::ZERO);
        }
    }

    /// The time for draining is over: stop the handlers, hand their tasks back.
    pub(super) fn give_back_all(&mut self) {
        let (tasks, now) = self.held.give_back();
        if tasks > 0 {
            warn!(queue = %self.queue.name(), tasks, "the time for draining is over: {tasks} running tasks go back");
        }
        for handback in now {
            self.outbox.hand_back(handback);
        }
    }

    pub(super) async fn leave(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.book.close().await;
        let Some(session) = self.session.take() else { return };
        match timeout(GOOD_BYE, self.queue.leave(&session.session)).await {
            Ok(Ok(_)) => info!(queue = %self.queue.name(), consumer = %session.session, "left the queue"),
            Ok(Err(error)) => warn!(%error, "could not say good-bye to Redis; the session lease ends by itself"),
            Err(_) => warn!("no answer in time to the good-bye to Redis; the session lease ends by itself"),
        }
        // The connection goes on if only this queue is left.
        if self.subscribed && !self.fleet.drain.is_cancelled() {
            let channel = self.queue.keys().wake_channel(&session.session);
            if !matches!(
                timeout(GOOD_BYE, self.queue.link().unsubscribe(&channel)).await,
                Ok(Ok(()))
            ) {
                debug!("the wake channel stays subscribed until the connection ends");
            }
        }
    }
}

async fn say_good_bye(
    queue: &Queue,
    old: &Lifeline,
    turn: &Turn,
    mut outbox: Outbox,
    fleet: &Arc<Fleet>,
    meter: &QueueMeter,
) -> Result<(), Error> {
    if !turn.is_empty() {
        let answer = turn.send(queue, &old.session, None).await?;
        let stale = answer.stale();
        outbox.settled(queue.name(), fleet, meter, turn, &answer);
        warn!(queue = %queue.name(), tasks = stale, "{stale} tasks of the lost session belong to others now");
    }
    // If the session was removed by hand and not by a reclaim, its tasks have no other way back.
    queue.leave(&old.session).await?;
    Ok(())
}
