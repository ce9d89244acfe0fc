//! One queue's loop: claim, start, collect, settle.
//!
//! Invariant: one claim and one batch of outcomes are under way at a time, and what comes up meanwhile
//! goes with the next, so batches grow with the load by themselves. They do not wait for each other:
//! Redis works on one while this side reads the other's answer. A finished result is kept until Redis has
//! answered for it, through any outage. What this lane holds is written down in `held`; a session
//! that is lost empties it, cancels the handlers, and tries to hand everything back under the old
//! id: the fence refuses what belongs to others by then, and counts it.

mod collect;
mod ending;
mod exchange;
mod full;
mod held;
mod outbox;
mod passing;
mod ration;
mod recount;
mod start;
mod suspect;
mod turn;
mod unstarted;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;
use workyard_shared::broker::{Grant, Handback, Queue};
use workyard_shared::limits::MAX_BATCH;
use workyard_shared::name::SessionId;
use workyard_shared::submit::Submitter;

use crate::context::Lifeline;
use crate::done::Done;
use crate::event::{LaneEvent, Over};
use crate::fleet::Fleet;
use crate::health::{Desk, Trial};
use crate::jobs::JobBook;
use crate::metrics::Clerk;
use crate::ops::TICK;
use crate::queues::Served;
use crate::suspects::LOOK_AGAIN;
use full::FullKinds;
use held::Held;
use outbox::Outbox;
use passing::Passing;
use recount::Recount;
use suspect::Trying;
use turn::TurnDone;

/// How long tasks that were claimed ahead may wait while nothing starts; then they go back.
const STRANDED: Duration = Duration::from_millis(250);
/// Pause between looks at slots that may have come back.
const RECHECK: Duration = Duration::from_millis(250);

/// The loop of one queue.
pub(crate) struct Lane {
    fleet: Arc<Fleet>,
    queue: Queue,
    served: Arc<Served>,
    /// Its number among the shares of the slots.
    index: usize,
    submitter: Submitter,
    session: Option<Arc<Lifeline>>,
    events: UnboundedReceiver<LaneEvent>,
    over: Over,
    done_in: UnboundedSender<(Done, Duration)>,
    done_out: UnboundedReceiver<(Done, Duration)>,
    held: Held,
    ready: VecDeque<Grant>,
    outbox: Outbox,
    settling: Option<BoxFuture<'static, TurnDone>>,
    claiming: Option<BoxFuture<'static, TurnDone>>,
    /// The suspect that starts when Redis knows.
    trying: Option<Trying>,
    recount: Recount,
    book: Arc<JobBook>,
    desk: Arc<Desk>,
    clerk: Clerk,
    /// The claim under way is that of a probe.
    trial: Option<Trial>,
    /// Ends what the book has running, with this lane.
    _book_open: DropGuard,
    number: u64,
    above: u64,
    /// There may be tasks that nobody told us of.
    hungry: bool,
    /// We were woken since the last claim was sent. Its reply may say "nothing" and the wake-up that
    /// came right behind it be heard first: resting on that reply would lose the task to the poll.
    woken: bool,
    /// Tasks ended since the last claim was sent: what that parks us with is not our load any more.
    lighter: bool,
    /// When the last task was started here.
    started_at: Instant,
    full: FullKinds,
    passing: Passing,
    /// Tasks claimed ahead were stranded: claim none ahead until one has finished.
    cautious: bool,
    /// Something that is ready holds still because of a suspect, or is one.
    held_back: bool,
    /// Redis lets itself be told of suspects.
    tells: bool,
    subscribed: bool,
    /// Grows when the connection is lost: a subscription of an earlier one counts for nothing.
    connection: u64,
    poll_at: Instant,
}

impl Lane {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        served: Arc<Served>,
        events: UnboundedReceiver<LaneEvent>,
        over: Over,
    ) -> Self {
        let (queue, index) = (fleet.broker.queue(&served.name), served.lane);
        let (done_in, done_out) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        Self {
            submitter: Submitter::start(queue.clone()),
            index,
            session: None,
            events,
            over,
            done_in,
            done_out,
            held: Held::new(index),
            ready: VecDeque::new(),
            outbox: Outbox::default(),
            settling: None,
            claiming: None,
            trying: None,
            recount: Recount::default(),
            book: JobBook::open(
                queue.clone(),
                fleet.bulk.queue(queue.name()),
                Arc::clone(&fleet.stages),
                Arc::clone(&fleet.spill),
                closing.clone(),
            ),
            desk: Arc::clone(&served.desk),
            clerk: Clerk::new(Arc::clone(&served.meter)),
            served,
            trial: None,
            _book_open: closing.drop_guard(),
            number: 0,
            above: 0,
            hungry: true,
            woken: false,
            lighter: false,
            started_at: Instant::now(),
            full: FullKinds::new(),
            passing: Passing::default(),
            cautious: false,
            held_back: false,
            tells: true,
            subscribed: false,
            connection: 0,
            poll_at: Instant::now(),
            fleet,
            queue,
        }
    }

    /// Runs until everything is drained.
    pub(crate) async fn run(mut self) {
        let mut finished: Vec<(Done, Duration)> = Vec::new();
        let (fleet, served) = (Arc::clone(&self.fleet), Arc::clone(&self.served));
        let mut draining = false;
        let mut halted = false;
        let mut ticks = tokio::time::interval(TICK);
        loop {
            served.mark.now();
            // Below it is the last to be heard of, and with much to do the others always have something to tell.
            if !draining && served.drain.is_cancelled() {
                draining = true;
                self.begin_drain();
            }
            if draining && self.is_idle() {
                break;
            }
            self.start_ready();
            // In this order: a look at what we hold begins while nothing of it is being settled; what is handed back
            // may be claimed again, by us too.
            self.next_recount();
            self.next_settle();
            self.next_claim(draining);
            let freed = fleet.slots.freed.notified();
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                done = drive(&mut self.settling) => {
                    self.settling = None;
                    self.finish_turn(done);
                }
                done = drive(&mut self.claiming) => {
                    self.claiming = None;
                    self.finish_turn(done);
                }
                tried = drive(&mut self.trying) => {
                    self.trying = None;
                    self.finish_try(tried);
                }
                looked = drive(&mut self.recount.under_way) => {
                    self.recount.under_way = None;
                    self.finish_recount(looked);
                }
                _ = self.done_out.recv_many(&mut finished, MAX_BATCH) => self.collect(&mut finished),
                () = served.drain.cancelled(), if !draining => {}
                () = served.halt.cancelled(), if draining && !halted => {
                    halted = true;
                    self.give_back_all();
                }
                () = tokio::time::sleep_until(self.poll_at.into()), if !self.hungry => self.hungry = true,
                // Nothing to do but to show that this loop goes round.
                _ = ticks.tick() => {}
                () = freed, if !self.ready.is_empty() || self.hungry => {}
                // A slot that a blocking handler held beyond its task comes back unannounced.
                () = tokio::time::sleep(if self.held_back { LOOK_AGAIN } else { RECHECK }), if !self.ready.is_empty() || (self.hungry && self.claiming.is_none()) => {}
            }
        }
        self.leave().await;
        served.mark.end();
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty() && self.outbox.is_empty() && self.settling.is_none() && self.claiming.is_none()
    }

    fn hear(&mut self, event: LaneEvent) {
        match event {
            LaneEvent::Work => {
                self.hungry = true;
                self.woken = true;
            }
            LaneEvent::Disconnected => {
                self.subscribed = false;
                self.connection += 1;
                self.recount.due = true;
                self.hungry = true;
                self.woken = true;
            }
            LaneEvent::Cancel(id) => {
                if self.held.cancel(&id) {
                    info!(queue = %self.queue.name(), task = %id, "task {id} was cancelled while it ran here");
                }
                let before = self.ready.len();
                self.ready.retain(|grant| grant.id != id);
                let tried = self.trying.take_if(|trying| trying.id == id);
                let dropped = before - self.ready.len() + usize::from(tried.is_some());
                if dropped > 0 {
                    self.let_go(&id);
                    self.fleet.slots.unreserve(self.index, dropped);
                }
            }
            LaneEvent::Session(id) => self.begin_session(id),
        }
    }

    /// A new session: whatever the old one held is somebody else's now.
    fn begin_session(&mut self, id: SessionId) {
        if let Some(old) = self.session.take() {
            self.abandon(&old);
        }
        let (queue, submitter) = (self.queue.clone(), self.submitter.clone());
        self.session = Some(Arc::new(Lifeline {
            queue,
            session: id,
            submitter,
        }));
        self.number = 0;
        self.above = 0;
        self.subscribed = false;
        self.hungry = true;
    }

    /// A task that was claimed goes back without having started; if it was a probe, that ends so.
    fn hand_back(&mut self, handback: Handback, ends: impl FnOnce(Trial)) {
        if let Some(trial) = self.let_go(&handback.id) {
            ends(trial);
        }
        self.fleet.slots.unreserve(self.index, 1);
        self.outbox.hand_back(handback);
    }

    /// A task that did not start is not ours any more. If it was a probe, we ask for another one.
    fn let_go(&mut self, id: &str) -> Option<Trial> {
        let trial = self.held.remove_unstarted(id);
        self.hungry |= trial.is_some();
        trial
    }

    /// What was claimed ahead waits behind slow tasks: others may have room for it.
    fn return_stranded(&mut self) {
        if self.started_at.elapsed() < STRANDED {
            return;
        }
        self.cautious = true;
        self.fleet.slots.unreserve(self.index, self.ready.len());
        for grant in std::mem::take(&mut self.ready) {
            self.let_go(&grant.id);
            self.outbox.release(grant.id, grant.token, Duration::ZERO);
        }
    }
}

/// What is under way, or never.
async fn drive<F: Future + Unpin>(under_way: &mut Option<F>) -> F::Output {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
