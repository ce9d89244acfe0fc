//! Maintenance of one queue: promote, reclaim, expire, sweep; and the ingester while it lasts.
//!
//! Any consumer may become the maintainer with any heartbeat; two at once do no harm, because each
//! step is one function. Invariant: it sleeps until something is due; it never scans; what many tasks give reason for is done for
//! all of them at once.
//! If we die here, another consumer's next heartbeat finds our lease ended and takes over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workyard_shared::Error;
use workyard_shared::broker::Queue;
use workyard_shared::name::SessionId;

use crate::agenda::Agenda;
use crate::event::Duty;
use crate::fleet::Fleet;
use crate::health::FleetWatch;
use crate::ingest;
use crate::jobs::JobChores;
use crate::queues::{Asked, Served};

/// Tasks promoted in one call: about a millisecond of Redis.
const PROMOTE_STEP: usize = 200;
/// Where many tasks come due one after the other they are promoted together: at most so often.
const PROMOTE_EVERY: Duration = Duration::from_millis(25);
/// Pause between two looks for leases that ended and unstarted tasks that expired, however many tasks come due.
const ENDS_EVERY: Duration = Duration::from_millis(250);
/// The consumers are compared at most so often, however many of them say that it is urgent.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Items of each sort swept in one call.
const SWEEP_STEP: usize = 200;
/// Pause between sweeps when nothing is due.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Pause after a step that failed.
const AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// The maintenance loop of one queue.
pub(crate) struct Maintainer {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) queue: Queue,
    pub(crate) served: Arc<Served>,
    pub(crate) duties: UnboundedReceiver<Duty>,
    pub(crate) chores: JobChores,
    pub(crate) health: FleetWatch,
}

impl Maintainer {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ingester: Option<CancellationToken> = None;
        let mut agenda = Agenda::new(Instant::now());
        loop {
            let next = agenda.next().filter(|_| ingester.is_some());
            tokio::select! {
                () = stop.cancelled() => break,
                duty = self.duties.recv() => match duty {
                    Some(duty) => self.hear(duty, &mut agenda, &mut ingester).await,
                    None => break,
                },
                () = at(next) => self.do_what_is_due(&mut agenda).await,
            }
        }
        self.set_active(&mut ingester, false);
    }

    async fn hear(&mut self, duty: Duty, agenda: &mut Agenda, ingester: &mut Option<CancellationToken>) {
        match duty {
            Duty::Beat { maintainer, due_in } => {
                if maintainer && ingester.is_none() {
                    let taken = self.health.take_over().await;
                    self.answered(Asked::Look, taken);
                }
                self.set_active(ingester, maintainer);
                // On its way here it may have been overtaken by the message that something is due sooner.
                let now = Instant::now();
                agenda.promote.hear(due_in.map(|span| now + span), now);
            }
            Duty::Due => agenda.promote.by(Instant::now()),
            Duty::Look => agenda.look.by(Instant::now()),
            Duty::Jobs => agenda.jobs.by(Instant::now()),
        }
    }

    async fn do_what_is_due(&mut self, agenda: &mut Agenda) {
        let now = Instant::now();
        if agenda.promote.is_due(now) {
            let (moved, next) = self.promote().await;
            // One that comes due alone is not kept waiting for that of which a look only told when it is due.
            let pause = if moved > 0 { PROMOTE_EVERY } else { Duration::ZERO };
            agenda.promote.done(next, Instant::now(), pause);
            // A beat says when something is due, and not what.
            agenda.ends.by(now);
        }
        if agenda.ends.is_due(now) {
            let next = self.see_ends().await;
            agenda.ends.done(next, Instant::now(), ENDS_EVERY);
        }
        if agenda.sweep.is_due(now) {
            let swept = self.sweep_all().await;
            self.answered(Asked::Sweep, swept);
            agenda.sweep.set(Some(now + SWEEP_EVERY));
            agenda.jobs.by(now);
        }
        if agenda.look.is_due(now) {
            let pause = self.look_at_fleet().await;
            agenda.look.done(Some(now + pause), Instant::now(), LOOK_EVERY);
        }
        if agenda.jobs.is_due(now) {
            let next = self.tend_jobs().await;
            agenda.jobs.set(next);
        }
    }

    /// Starts or stops the ingester with the office.
    fn set_active(&self, ingester: &mut Option<CancellationToken>, active: bool) {
        match (ingester.as_ref(), active) {
            (None, true) => {
                let stop = CancellationToken::new();
                tokio::spawn(ingest::run(
                    self.queue.clone(),
                    Arc::clone(&self.served.meter),
                    stop.clone(),
                ));
                *ingester = Some(stop);
            }
            (Some(stop), false) => {
                stop.cancel();
                *ingester = None;
                self.served.refusals.is_maintained_elsewhere();
            }
            _ => {}
        }
    }

    /// Promotes what is due; answers how many, and when something is due next.
    async fn promote(&self) -> (u64, Option<Instant>) {
        let mut all = 0;
        loop {
            let promoted = self.queue.promote(PROMOTE_STEP).await;
            let Some((moved, next)) = self.answered(Asked::Promote, promoted) else {
                return (all, Some(Instant::now() + AFTER_TROUBLE));
            };
            all += moved;
            self.served.meter.promoted(moved);
            // More are due: one bounded call after the other, others get their turn between.
            if moved == 0 || next.is_none_or(|span| !span.is_zero()) {
                return (all, next.map(|span| Instant::now() + span));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes back what the dead held, and ends what expired unstarted; answers when to try again, if that failed.
    async fn see_ends(&self) -> Option<Instant> {
        let seen = async {
            for dead in self.queue.dead_consumers().await? {
                self.reclaim(&dead).await?;
            }
            self.sweep_all().await
        };
        match self.answered(Asked::Ends, seen.await) {
            Some(()) => None,
            None => Some(Instant::now() + AFTER_TROUBLE),
        }
    }

    /// Compares the consumers; answers after how long to look again.
    async fn look_at_fleet(&mut self) -> Duration {
        let pause = self.health.look().await;
        self.answered(Asked::Look, pause).unwrap_or(AFTER_TROUBLE)
    }

    /// Looks after jobs; answers when they are due next.
    async fn tend_jobs(&mut self) -> Option<Instant> {
        let next = self.chores.round().await;
        let pause = self.answered(Asked::Jobs, next).unwrap_or(Some(AFTER_TROUBLE));
        pause.map(|span| Instant::now() + span)
    }

    /// What Redis answered, if it was no error: that is told where it belongs.
    fn answered<T>(&self, asked: Asked, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.served.refusals.over(&self.served.name, asked);
                Some(answer)
            }
            Err(error) => {
                self.fleet.failed(&self.served, asked, &error);
                None
            }
        }
    }

    async fn reclaim(&self, dead: &SessionId) -> Result<(), Error> {
        let (mut back, mut poisoned) = (0, 0);
        loop {
            let step = self.queue.reclaim(dead).await?;
            back += step.back;
            poisoned += step.poisoned;
            if !step.more {
                break;
            }
        }
        let queue = self.queue.name();
        info!(%queue, consumer = %dead, tasks = back, "a consumer's lease ended: its tasks {back} are pending again");
        if poisoned > 0 {
            warn!(%queue, consumer = %dead, tasks = poisoned, "poison: {poisoned} tasks whose consumers keep dying went to the dead-letter set");
        }
        Ok(())
    }

    async fn sweep_all(&self) -> Result<(), Error> {
        loop {
            let swept = self.queue.sweep(SWEEP_STEP).await?;
            if swept.trimmed > 0 {
                let queue = self.queue.name();
                warn!(%queue, tasks = swept.trimmed, "the dead-letter set is full or old: {} were removed for good", swept.trimmed);
            }
            if !swept.more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Then, or never.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
