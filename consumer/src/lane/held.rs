//! What a lane holds: claimed tasks that have not ended, started or not.
//!
//! Invariant: a task is here from its claim until it ended or was given up, once per id and token;
//! a result that comes for one that is not here is dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use workyard_shared::broker::{Grant, Handback, JobVerdict};
use workyard_shared::envelope::check_payload;
use workyard_shared::job::Member;
use workyard_shared::options::{DEFAULT_RETENTION, TaskType};
use workyard_shared::record::Record;

use super::unstarted::{
    ELSEWHERE_DELAY, NEWER_DELAY, UNHANDLED_DELAY, handback, malformed, member_elsewhere, member_failed,
};
use crate::context::{Attempt, Lifeline, Slot};
use crate::done::Done;
use crate::execute::{Run, Work, execute};
use crate::fleet::Fleet;
use crate::health::{Desk, Running, Trial};
use crate::jobs::{JobBook, MemberTask, Sealing};
use crate::kind_slots::KindPermit;
use crate::metrics::Clerk;
use crate::protection::Protection;
use crate::registry::Registry;
use crate::suspects::Alone;
use crate::telemetry::{Claimed, RunSpan, Tracing};

/// A task that was handed back so often, an hour or more behind an open breaker, is spared no longer: its failure as a probe,
/// of its kind or of our circuit, is an attempt of its own, so that what always fails ends, where nothing else of its kind ever succeeds.
const SPARED: u32 = 1000;

/// One task of it.
pub(super) struct Holding {
    token: u64,
    cancel: CancellationToken,
    started: bool,
    /// What its run takes up, while it lasts.
    slot: Weak<Slot>,
    returns: Returns,
    /// A failure as a probe, of its kind or of our circuit, is no attempt of its own.
    spared: bool,
    /// It failed before.
    is_retry: bool,
    /// It is the probe of an open circuit, until it is not held any more.
    trial: Option<Trial>,
    /// It is the one suspect that runs in this process.
    alone: Option<Alone>,
}

/// Whether a task that runs is to go back to the queue, since the time for draining is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returns {
    /// It is not.
    No,
    /// It has gone back, and its handler was told to end.
    Gone,
    /// It does when its program is gone.
    WhenEnded,
}

/// The tasks of one lane.
pub(super) struct Held {
    lane: usize,
    tasks: HashMap<String, Holding>,
}

/// What [`Held::insert`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    Replaced,
    Known,
}

/// A task that may start now, its slot taken.
pub(super) struct Start {
    grant: Grant,
    record: Record,
    work: Work,
    slot: (OwnedSemaphorePermit, Option<KindPermit>),
    running: Running,
}

impl Start {
    pub(super) fn id(&self) -> &str {
        &self.grant.id
    }

    /// Its kind, if that has slots of its own.
    pub(super) fn limited_kind(&self) -> Option<&str> {
        self.slot.1.is_some().then(|| self.record.kind())
    }
}

/// What to do with a claimed task.
pub(super) enum Judged {
    Run(Box<Start>),
    NoSlot(Grant),
    KindFull(Grant),
    Refused(Done),
    Unhandled(Handback),
}

impl Held {
    /// Nothing yet; `lane` is the queue's number in the worker.
    pub(super) fn new(lane: usize) -> Self {
        Self {
            lane,
            tasks: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Ids and tokens of all.
    pub(super) fn claims(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.tasks.iter().map(|(id, holding)| (id.clone(), holding.token))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether this very claim, or a newer one of the task, is held already.
    pub(super) fn knows(&self, grant: &Grant) -> bool {
        let held = self.tasks.get(&grant.id);
        held.is_some_and(|holding| holding.token >= grant.token)
    }

    /// Writes a claim down. `Known`: this very claim is held already. `Replaced`: an older claim of
    /// the task, of a lost session, still had a handler that is ending.
    pub(super) fn insert(&mut self, grant: &Grant, trial: Option<Trial>) -> Inserted {
        if self.knows(grant) {
            return Inserted::Known;
        }
        let holding = Holding {
            token: grant.token,
            cancel: CancellationToken::new(),
            started: false,
            slot: Weak::new(),
            returns: Returns::No,
            spared: grant.meta.releases < SPARED,
            is_retry: grant.meta.failures > 0,
            trial,
            alone: None,
        };
        match self.tasks.insert(grant.id.clone(), holding) {
            Some(_) => Inserted::Replaced,
            None => Inserted::New,
        }
    }

    /// What starts now is a suspect, alone until it has ended.
    pub(super) fn goes_alone(&mut self, id: &str, alone: Alone) {
        if let Some(holding) = self.tasks.get_mut(id) {
            holding.alone = Some(alone);
        }
    }

    /// Whether what was held so goes back to the queue, or has.
    pub(super) fn returns(holding: &Holding) -> Returns {
        holding.returns
    }

    /// Whether what was held so had failed before.
    pub(super) fn is_retry(holding: &Holding) -> bool {
        holding.is_retry
    }

    /// Whether a failure of what was held so, as a probe, burns no attempt.
    pub(super) fn is_spared(holding: &Holding) -> bool {
        holding.spared
    }

    /// What was held under this token, and is not any more.
    pub(super) fn finish(&mut self, id: &str, token: u64) -> Option<Holding> {
        match self.tasks.get(id) {
            Some(holding) if holding.token == token => self.tasks.remove(id),
            _ => None,
        }
    }

    /// The probe that ended so, if it was one.
    pub(super) fn remove_unstarted(&mut self, id: &str) -> Option<Trial> {
        match self.tasks.get(id) {
            Some(holding) if !holding.started => self.tasks.remove(id)?.trial,
            _ => None,
        }
    }

    /// Stops a running task's handler; true if it runs here.
    pub(super) fn cancel(&mut self, id: &str) -> bool {
        match self.tasks.get(id) {
            Some(holding) if holding.started => {
                holding.cancel.cancel();
                true
            }
            _ => false,
        }
    }

    /// Stops all handlers. What ran or waited is returned for handing back; the running ones stay
    /// here until their handlers have really ended, so that their slots stay counted.
    pub(super) fn cancel_all(&mut self) -> Vec<Handback> {
        let mut back = Vec::with_capacity(self.tasks.len());
        for (id, holding) in &self.tasks {
            holding.cancel.cancel();
            back.push(Handback {
                id: id.clone(),
                token: holding.token,
                unhandled: None,
                delay: Duration::ZERO,
            });
        }
        self.tasks.retain(|_, holding| holding.started);
        back
    }

    /// As [`Self::cancel_all`], to hand back what is still ours: how many that are, and those that go now. The others go when
    /// their programs are gone: nobody else shall start one beside a program that still cleans up.
    pub(super) fn give_back(&mut self) -> (usize, Vec<Handback>) {
        let mut back = self.cancel_all();
        let all = back.len();
        back.retain(|handback| {
            let Some(holding) = self.tasks.get_mut(&handback.id) else {
                return true;
            };
            let winds_down = holding.slot.upgrade().is_some_and(|slot| !slot.wind_down().is_zero());
            holding.returns = if winds_down { Returns::WhenEnded } else { Returns::Gone };
            !winds_down
        });
        (all, back)
    }

    /// Decides about a claimed task, and takes its slot if it may run.
    pub(super) fn judge(
        &self,
        fleet: &Fleet,
        registry: &Registry,
        protection: &Protection,
        book: &Arc<JobBook>,
        desk: &Arc<Desk>,
        grant: Grant,
    ) -> Judged {
        let record = match &grant.record {
            Ok(record) => record.clone(),
            Err(error) => {
                error!(task = %grant.id, %error, "task {} is left to a consumer that can read it", grant.id);
                return Judged::Unhandled(handback(&grant, false, NEWER_DELAY));
            }
        };
        let entry = registry.get(record.kind());
        let member = member_of(book, protection, &grant, &record);
        let refused = member.as_ref().and_then(|_| protection.refuses_jobs(book.queue.name()));
        if let (Some(member), Some(why)) = (&member, refused) {
            return Judged::Refused(member_failed(&grant, member.clone(), &record, JobVerdict::Final, why));
        }
        let known = match &member {
            Some(_) => book.stages.knows(record.kind()),
            None => entry.is_some(),
        };
        if !known {
            registry.warn_unknown(record.kind());
            if let Some(member) = member {
                return Judged::Refused(member_elsewhere(&grant, member, &record));
            }
            // Where somebody runs the kind it is no task without a handler: it is only that we got it.
            return Judged::Unhandled(match desk.is_run_elsewhere(record.kind()) {
                true => handback(&grant, false, desk.away(record.kind(), ELSEWHERE_DELAY)),
                false => handback(&grant, true, UNHANDLED_DELAY),
            });
        }
        let running = match desk.admits(record.kind()) {
            Ok(running) => running,
            Err(wait) => return Judged::Unhandled(handback(&grant, false, wait)),
        };
        // The function took these bytes unseen from whoever called it.
        if let Err(error) = record.check_extra().and_then(|()| check_payload(&record.payload())) {
            return Judged::Refused(malformed(&grant, &record, &error.to_string()));
        }
        let kind_slot = match entry.and_then(|entry| entry.slots.as_ref()) {
            Some(slots) => match slots.try_run(fleet.slots.standing(self.lane)) {
                Some(permit) => Some(permit),
                None => return Judged::KindFull(grant),
            },
            None => None,
        };
        let Some(slot) = fleet.slots.try_run() else {
            return Judged::NoSlot(grant);
        };
        let work = match (member, entry) {
            (Some(member), _) => Work::Member(member),
            (None, Some(entry)) => Work::Handler(Arc::clone(&entry.handler)),
            (None, None) => return Judged::Unhandled(handback(&grant, true, UNHANDLED_DELAY)),
        };
        Judged::Run(Box::new(Start {
            grant,
            record,
            work,
            slot: (slot, kind_slot),
            running,
        }))
    }

    /// Starts a task.
    pub(super) fn spawn(
        &mut self,
        fleet: &Arc<Fleet>,
        protection: &Protection,
        session: &Arc<Lifeline>,
        clerk: &mut Clerk,
        start: Start,
        done: &UnboundedSender<(Done, Duration)>,
    ) {
        let Start {
            grant,
            record,
            work,
            slot,
            running,
        } = start;
        let Some(holding) = self.tasks.get_mut(&grant.id) else {
            return;
        };
        holding.started = true;
        let slot = Arc::new(Slot::new(slot.0, slot.1));
        holding.slot = Arc::downgrade(&slot);
        let options = record.options();
        // Whoever allows one attempt wants one run, whatever is known of its kind: as a probe, too.
        holding.spared &= options.max_attempts != Some(1);
        if let Some(waited) = first_wait(&grant, &record, options.not_before) {
            clerk.waited(record.kind(), waited);
        }
        debug!(target: "task", task = %grant.id, kind = record.kind(), attempt = grant.meta.failures + 1, "task {} starts", grant.id);
        let (headers, unknown) = record.extra();
        let payload = record.payload();
        let span = fleet
            .tracing
            .as_ref()
            .map(|tracing| begin(tracing, session, &grant, &record, &work, &headers));
        let entrance = match &work {
            Work::Handler(_) => protection.entrance(session.queue.name(), record.kind(), &payload, &unknown),
            Work::Member(_) => None,
        };
        let sealed = match (&work, &entrance) {
            (Work::Handler(_), Some(entrance)) if entrance.sealed => Some(Arc::new(true.into())),
            (Work::Handler(_), _) => None,
            (Work::Member(_), _) => Some(Arc::default()),
        };
        let ctx = Attempt {
            kind: record.kind().to_owned(),
            number: grant.meta.failures + 1,
            token: grant.token.to_string(),
            deadline: options.timeout.map(|limit| Instant::now() + limit),
            headers,
            cancelled: holding.cancel.clone(),
            lifeline: Some(Arc::clone(session)),
            keys: protection.keys.clone(),
            trace: span.as_ref().and_then(RunSpan::context),
            sealed,
            slot: Some(slot),
            id: grant.id,
        };
        let task = Run {
            ctx: ctx.into(),
            token: grant.token,
            payload,
            work,
            timeout: options.timeout,
            created_ms: record.created_ms,
            retention: options.retention.unwrap_or(DEFAULT_RETENTION),
            entrance,
        };
        let (done, middleware) = (done.clone(), Arc::clone(&fleet.middleware));
        tokio::spawn(async move {
            let ended = match span {
                None => execute(task, middleware).await,
                Some(span) => span.around(execute(task, middleware)).await,
            };
            drop(running);
            // A lane that has ended gave this task up already.
            done.send(ended).ok();
        });
    }
}

/// Begins the span of a run.
fn begin(
    tracing: &Tracing,
    session: &Lifeline,
    grant: &Grant,
    record: &Record,
    work: &Work,
    headers: &BTreeMap<String, String>,
) -> RunSpan {
    let since_ms = runnable_ms(record, record.options().not_before);
    tracing.begin(&Claimed {
        queue: session.queue.name().as_str(),
        consumer: session.session.as_str(),
        kind: record.kind(),
        id: &grant.id,
        attempt: grant.meta.failures + 1,
        bytes: record.payload().len(),
        headers,
        since_ms: since_ms.max(grant.meta.failed_ms),
        claimed_us: grant.token,
        step: match work {
            Work::Member(task) => Some((&task.job, task.member)),
            Work::Handler(_) => None,
        },
    })
}

/// From when a task could first run to its first claim, by Redis' clock: a token is the time of its claim.
fn first_wait(grant: &Grant, record: &Record, not_before: Option<u64>) -> Option<Duration> {
    let meta = &grant.meta;
    let is_first = meta.failures + meta.crashes + meta.releases + meta.unhandled == 0;
    let from_ms = runnable_ms(record, not_before);
    is_first.then(|| Duration::from_micros(grant.token.saturating_sub(from_ms * 1000)))
}

/// From when on a task could run, in ms by Redis' clock.
fn runnable_ms(record: &Record, not_before: Option<u64>) -> u64 {
    record.created_ms.max(not_before.unwrap_or(0))
}

/// The step of a job that this task is, if it is one.
fn member_of(book: &Arc<JobBook>, protection: &Protection, grant: &Grant, record: &Record) -> Option<MemberTask> {
    if record.options().task_type == TaskType::Single {
        return None;
    }
    let (job, epoch, member) = Member::of_task(&grant.id)?;
    Some(MemberTask {
        book: Arc::clone(book),
        job,
        epoch,
        member,
        sealing: Sealing::of(protection),
    })
}
