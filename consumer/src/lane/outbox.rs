//! What waits to be settled, and what the answers mean.
//!
//! Invariant: an outcome stays here or in the turn under way until Redis answered for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use workyard_shared::broker::{
    Completion, FailureReport, Handback, JobOutcome, JobSettled, JobTurn, Settled, Turn, TurnAnswer,
};
use workyard_shared::limits::{MAX_BATCH, MAX_CLAIM_BYTES};
use workyard_shared::name::{JobId, QueueName};

use super::ration::Ration;
use crate::done::Done;
use crate::fleet::Fleet;
use crate::metrics::QueueMeter;

/// Failures in one turn: each makes the function read its record.
const MAX_FAILURES: usize = 50;
/// Result bytes in one turn, about: keeps a call short.
const TURN_BYTES: usize = 2 * MAX_CLAIM_BYTES;

/// Outcomes of one job in one turn: Redis is busy with one of them for some 25 us.
const MAX_OUTCOMES: usize = 200;
/// Output bytes of a job in one turn, about.
const JOB_BYTES: usize = 4 * MAX_CLAIM_BYTES;
/// Parts of outputs in one turn, about: each is a field that the function writes, however small it is. One output has 1,000 at most.
const JOB_PARTS: usize = 2000;

/// Outcomes on their way to Redis.
#[derive(Default)]
pub(super) struct Outbox {
    completions: VecDeque<Completion>,
    failures: VecDeque<(FailureReport, String)>,
    handbacks: VecDeque<Handback>,
    /// Steps of jobs; a turn settles those of one job, and each job gets its turn.
    members: VecDeque<(JobId, VecDeque<JobOutcome>)>,
    /// Kinds of the failures in the turn under way, for the hooks.
    in_turn: Vec<String>,
    /// What the log says of retries: where everything fails it would be thousands of lines a second.
    retries: Ration,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.completions.is_empty() && self.failures.is_empty() && self.handbacks.is_empty() && self.members.is_empty()
    }

    /// Ids and tokens of all.
    pub(super) fn claims(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let completions = self.completions.iter().map(|c| (c.id.clone(), c.token));
        let failures = self.failures.iter().map(|(f, _)| (f.id.clone(), f.token));
        let handbacks = self.handbacks.iter().map(|h| (h.id.clone(), h.token));
        let members = self.members.iter().flat_map(|(_, outcomes)| outcomes);
        let members = members.map(|o| (o.id.clone(), o.token));
        completions.chain(failures).chain(handbacks).chain(members)
    }

    pub(super) fn add(&mut self, done: Done) {
        match done {
            Done::Completed(completion) => self.completions.push_back(completion),
            Done::Failed(report, kind) => self.failures.push_back((report, kind)),
            Done::Member(job, _, outcome) => self.add_member(job, outcome),
            Done::HandedBack(handback) => self.hand_back(handback),
            Done::Dropped { .. } => {}
        }
    }

    fn add_member(&mut self, job: JobId, outcome: JobOutcome) {
        match self.members.iter_mut().find(|(known, _)| *known == job) {
            Some((_, outcomes)) => outcomes.push_back(outcome),
            None => self.members.push_back((job, VecDeque::from([outcome]))),
        }
    }

    /// The next job's outcomes, as far as they fit into a turn.
    fn take_members(&mut self) -> Option<JobTurn> {
        let (job, mut waiting) = self.members.pop_front()?;
        let (mut outcomes, mut bytes, mut parts) = (Vec::new(), 0, 0);
        while outcomes.len() < MAX_OUTCOMES && bytes < JOB_BYTES && parts < JOB_PARTS {
            let Some(outcome) = waiting.pop_front() else { break };
            bytes += outcome.bytes();
            parts += outcome.parts.len();
            outcomes.push(outcome);
        }
        if !waiting.is_empty() {
            self.members.push_back((job.clone(), waiting));
        }
        Some(JobTurn { job, outcomes })
    }

    pub(super) fn hand_back(&mut self, handback: Handback) {
        self.handbacks.push_back(handback);
    }

    pub(super) fn release(&mut self, id: String, token: u64, delay: Duration) {
        self.hand_back(Handback {
            id,
            token,
            unhandled: None,
            delay,
        });
    }

    /// Takes one turn's worth.
    pub(super) fn take(&mut self, number: u64) -> Turn {
        let mut turn = Turn {
            number,
            ..Turn::default()
        };
        let mut bytes = 0;
        while turn.completions.len() < MAX_BATCH && bytes < TURN_BYTES {
            let Some(completion) = self.completions.pop_front() else {
                break;
            };
            bytes += completion.result.len();
            turn.completions.push(completion);
        }
        let failing = self.failures.len().min(MAX_FAILURES);
        (turn.failures, self.in_turn) = self.failures.drain(..failing).unzip();
        let back = self.handbacks.len().min(MAX_BATCH);
        turn.handbacks = self.handbacks.drain(..back).collect();
        turn.job = self.take_members();
        turn
    }

    /// Reads the answers: counts what was refused, logs and tells what ended for good.
    pub(super) fn settled(
        &mut self,
        queue: &QueueName,
        fleet: &Arc<Fleet>,
        meter: &QueueMeter,
        turn: &Turn,
        answer: &TurnAnswer,
    ) {
        let stale = answer.stale();
        if stale > 0 {
            fleet.counters.stale.fetch_add(stale as u64, Ordering::Relaxed);
            meter.stale.fetch_add(stale as u64, Ordering::Relaxed);
            debug!(tasks = stale, "{stale} settled tasks were not ours any more");
        }
        if tracing::enabled!(target: "task", tracing::Level::DEBUG) {
            for (done, settled) in turn.completions.iter().zip(&answer.completions) {
                if *settled == Settled::Completed {
                    debug!(target: "task", task = %done.id, "task {} is completed", done.id);
                }
            }
        }
        let kinds = std::mem::take(&mut self.in_turn);
        for ((report, settled), kind) in turn.failures.iter().zip(&answer.failures).zip(kinds) {
            match settled {
                Settled::Failed => {
                    warn!(%queue, task = %report.id, kind, error = %report.error, "task {} is dead-lettered", report.id);
                    tell_dead(fleet, &report.id, &kind, &report.error);
                }
                Settled::Retrying => match self.retries.another(Instant::now()) {
                    Some(0) => {
                        info!(%queue, task = %report.id, kind, error = %report.error, "task {} failed and will be retried", report.id)
                    }
                    Some(unsaid) => {
                        info!(%queue, task = %report.id, kind, error = %report.error, unsaid, "task {} failed and will be retried, as {unsaid} others that no line was written for", report.id)
                    }
                    None => {
                        debug!(%queue, task = %report.id, kind, error = %report.error, "task {} failed and will be retried", report.id)
                    }
                },
                Settled::Completed | Settled::Released | Settled::Stale => {}
            }
        }
        if let (Some(why), Some(job)) = (&answer.job_refused, &turn.job) {
            let tasks = job.outcomes.len();
            error!(%queue, job = %job.job, tasks, %why, "job {}: {tasks} outcomes cannot be settled, its keys are damaged: delete it ({why})", job.job);
        }
        tell_members(queue, turn, answer);
        for (handback, settled) in turn.handbacks.iter().zip(&answer.handbacks) {
            if let (Settled::Failed, Some(kind)) = (settled, &handback.unhandled) {
                let error = format!("no handler: no consumer has one for kind {kind}");
                warn!(%queue, task = %handback.id, kind, "task {} is dead-lettered: {error}", handback.id);
                tell_dead(fleet, &handback.id, kind, &error);
            }
        }
    }
}

fn tell_members(queue: &QueueName, turn: &Turn, answer: &TurnAnswer) {
    let outcomes = turn.job.iter().flat_map(|job| &job.outcomes);
    for (outcome, settled) in outcomes.zip(&answer.job) {
        let (task, error) = (&outcome.id, &outcome.error);
        match settled {
            JobSettled::Failed => warn!(%queue, %task, %error, "task {task} of a job failed for good"),
            JobSettled::Retrying => debug!(%task, %error, "task {task} of a job will be retried"),
            JobSettled::HandedBack => debug!(%task, "task {task} of a job goes back"),
            JobSettled::Kept | JobSettled::Dropped | JobSettled::Stale => {}
        }
    }
}

/// A hook may take its time: what is settled next does not wait for it, only the end of the worker does.
fn tell_dead(fleet: &Arc<Fleet>, id: &str, kind: &str, error: &str) {
    let layers = fleet.middleware.iter();
    let calls: Vec<_> = layers.map(|layer| layer.on_dead_letter(id, kind, error)).collect();
    if !calls.is_empty() {
        fleet.hooks.spawn(async move {
            for call in calls {
                call.await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use workyard_shared::broker::JobVerdict;
    use workyard_shared::job::Part;

    use super::*;

    fn of_parts(number: u64, parts: u32) -> Done {
        let outcome = JobOutcome {
            id: format!("j:1:m:{number}"),
            token: number,
            verdict: JobVerdict::Done,
            delay: None,
            random: 0.0,
            run: Duration::ZERO,
            error: String::new(),
            parts: (0..parts)
                .map(|name| (name, Part::Inline(Bytes::from_static(b"1"))))
                .collect(),
        };
        Done::Member(JobId::new("j").unwrap(), "m".to_owned(), outcome)
    }

    /// How many outcomes each turn takes of so many, of so many parts each.
    fn turns(outcomes: u64, parts: u32) -> Vec<usize> {
        let mut outbox = Outbox::default();
        (0..outcomes).for_each(|number| outbox.add(of_parts(number, parts)));
        let mut turns = Vec::new();
        while !outbox.is_empty() {
            turns.push(outbox.take(1).job.unwrap().outcomes.len());
        }
        turns
    }

    #[test]
    fn a_turn_takes_few_outputs_of_many_small_parts() {
        assert_eq!(turns(500, 1), [200, 200, 100]);
        assert_eq!(turns(5, 1000), [2, 2, 1]);
        assert_eq!(turns(300, 10), [200, 100]);
    }
}
