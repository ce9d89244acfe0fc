//! Maintenance of one queue: promote, reclaim, expire, sweep; and the ingester while it lasts.
//!
//! Any consumer may become the maintainer with any heartbeat; two at once do no harm, because each
//! step is one function. Invariant: it sleeps until something is due; it never scans.
//! If we die here, another consumer's next heartbeat finds our lease ended and takes over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workyard_shared::Error;
use workyard_shared::broker::Queue;
use workyard_shared::name::SessionId;

use crate::event::Duty;
use crate::fleet::Fleet;
use crate::health::FleetWatch;
use crate::ingest;
use crate::jobs::JobChores;

/// Tasks promoted in one call: about a millisecond of Redis.
const PROMOTE_STEP: usize = 200;
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
    pub(crate) duties: UnboundedReceiver<Duty>,
    pub(crate) chores: JobChores,
    pub(crate) health: FleetWatch,
}

impl Maintainer {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ingester: Option<CancellationToken> = None;
        let mut due: Option<Instant> = None;
        let mut sweep_at = Instant::now();
        let mut jobs_at: Option<Instant> = None;
        let mut health_at = Instant::now();
        loop {
            let active = ingester.is_some();
            let next = [due, jobs_at]
                .into_iter()
                .flatten()
                .fold(sweep_at.min(health_at), Instant::min);
            tokio::select! {
                () = stop.cancelled() => break,
                duty = self.duties.recv() => match duty {
                    Some(Duty::Beat { maintainer, due_in }) => {
                        if maintainer && !active && let Err(error) = self.health.take_over().await {
                            self.fleet.watch.failed(&error);
                        }
                        self.set_active(&mut ingester, maintainer);
                        due = due_in.map(|span| Instant::now() + span);
                    }
                    Some(Duty::Due) => {
                        due = Some(Instant::now());
                        jobs_at = due;
                        health_at = Instant::now();
                    }
                    None => break,
                },
                () = tokio::time::sleep_until(next.into()), if active => {
                    let now = Instant::now();
                    if due.is_some_and(|at| at <= now) {
                        due = self.step().await;
                    }
                    if sweep_at <= now {
                        sweep_at = now + SWEEP_EVERY;
                        self.sweep().await;
                        jobs_at = jobs_at.or(Some(now));
                    }
                    if health_at <= now {
                        health_at = now + self.look_at_fleet().await;
                    }
                    if jobs_at.is_some_and(|at| at <= now) {
                        jobs_at = self.tend_jobs().await;
                    }
                }
            }
        }
        self.set_active(&mut ingester, false);
    }

    /// Starts or stops the ingester with the office.
    fn set_active(&self, ingester: &mut Option<CancellationToken>, active: bool) {
        match (ingester.as_ref(), active) {
            (None, true) => {
                let stop = CancellationToken::new();
                tokio::spawn(ingest::run(self.queue.clone(), stop.clone()));
                *ingester = Some(stop);
            }
            (Some(stop), false) => {
                stop.cancel();
                *ingester = None;
            }
            _ => {}
        }
    }

    /// Does what is due; answers when something is due next.
    async fn step(&self) -> Option<Instant> {
        match self.try_step().await {
            Ok(next) => next,
            Err(error) => {
                self.fleet.watch.failed(&error);
                Some(Instant::now() + AFTER_TROUBLE)
            }
        }
    }

    async fn try_step(&self) -> Result<Option<Instant>, Error> {
        let next = loop {
            let (_, due_in) = self.queue.promote(PROMOTE_STEP).await?;
            match due_in {
                // More are due: one bounded call after the other, others get their turn between.
                Some(span) if span.is_zero() => tokio::task::yield_now().await,
                other => break other,
            }
        };
        for dead in self.queue.dead_consumers().await? {
            self.reclaim(&dead).await?;
        }
        // Unstarted tasks that expire are due like everything else.
        self.sweep_all().await?;
        Ok(next.map(|span| Instant::now() + span))
    }

    /// Compares the consumers; answers after how long to look again.
    async fn look_at_fleet(&mut self) -> Duration {
        match self.health.look().await {
            Ok(pause) => pause,
            Err(error) => {
                self.fleet.watch.failed(&error);
                AFTER_TROUBLE
            }
        }
    }

    /// Looks after jobs; answers when they are due next.
    async fn tend_jobs(&mut self) -> Option<Instant> {
        match self.chores.round().await {
            Ok(next) => next.map(|span| Instant::now() + span),
            Err(error) => {
                self.fleet.watch.failed(&error);
                Some(Instant::now() + AFTER_TROUBLE)
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

    async fn sweep(&self) {
        if let Err(error) = self.sweep_all().await {
            self.fleet.watch.failed(&error);
        }
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
