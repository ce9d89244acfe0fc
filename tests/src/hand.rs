//! A consumer that is driven by hand: for tests of the protocol of jobs, step by step.
//!
//! Its "functions" are fixed: a map's output is the payload's first item as text, a reduce's the concatenation of
//! what it reads; the order of a result so shows the order of the chunks.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "its only callers are tests")]

use std::time::Duration;

use bytes::Bytes;
use workyard_shared::broker::{
    Beat, ClaimRequest, Claimed, Grant, JobOutcome, JobSettled, JobSubmitted, JobTurn, JobVerdict, Queue, Turn,
};
use workyard_shared::job::{Form, JobRecord, JobSpec, Member, Part};
use workyard_shared::name::{JobId, Kind, SessionId};

/// The consumer.
#[derive(Debug)]
pub struct Hand {
    /// The queue that it serves.
    pub queue: Queue,
    /// Its id.
    pub consumer: SessionId,
    number: u64,
    above: u64,
}

impl Hand {
    /// Registers with a long lease.
    pub async fn register(queue: &Queue) -> Self {
        let consumer = SessionId::fresh();
        let beat = queue.heartbeat(&consumer, Duration::from_secs(600), true).await;
        assert!(matches!(beat.expect("an answer"), Beat::Ok { .. }));
        Self {
            queue: queue.clone(),
            consumer,
            number: 0,
            above: 0,
        }
    }

    /// Claims up to `most` tasks.
    pub async fn claim(&mut self, most: usize) -> Vec<Grant> {
        let request = ClaimRequest::new(&self.consumer, most, self.above);
        let grants = match self.queue.claim(request).await.expect("an answer") {
            Claimed::Tasks(grants) | Claimed::More(grants) => grants,
            other => panic!("{other:?}"),
        };
        self.above = grants.iter().map(|g| g.token).max().unwrap_or(self.above);
        grants
    }

    /// Settles outcomes of one job under the next number.
    pub async fn settle(&mut self, job: &JobId, outcomes: Vec<JobOutcome>) -> Vec<JobSettled> {
        self.number += 1;
        self.settle_as(self.number, job, outcomes).await
    }

    /// Settles under a number of the caller's.
    pub async fn settle_as(&self, number: u64, job: &JobId, outcomes: Vec<JobOutcome>) -> Vec<JobSettled> {
        let turn = Turn {
            number,
            job: Some(JobTurn {
                job: job.clone(),
                outcomes,
            }),
            ..Turn::default()
        };
        turn.send(&self.queue, &self.consumer, None)
            .await
            .expect("an answer")
            .job
    }

    /// What the fixed functions make of a task.
    pub async fn work(&self, job: &JobId, grant: &Grant) -> JobOutcome {
        let record = self.record(job).await;
        let (_, _, member) = Member::of_task(&grant.id).expect("a member");
        let parts = match member {
            Member::Map { chunk, .. } => map(&record, chunk),
            _ => vec![(0, inline(&self.concatenate(job, &record, member).await))],
        };
        outcome(grant, JobVerdict::Done, parts)
    }

    async fn concatenate(&self, job: &JobId, record: &JobRecord, member: Member) -> String {
        let names: Vec<String> = match (record.spec.form, member) {
            (Form::Fold { fan_in }, Member::Fold { level, node, .. }) => {
                let fan = fan_in.map_or(record.maps.total, u64::from).max(1);
                (node * fan..(node + 1) * fan)
                    .map(|i| format!("{}.{i}", level - 1))
                    .collect()
            }
            (_, Member::Partition { partition, .. }) => {
                (0..record.maps.total).map(|i| format!("{partition}.{i}")).collect()
            }
            _ => panic!("a map"),
        };
        let mut text = String::new();
        for part in self
            .queue
            .job_data(job, &names)
            .await
            .expect("parts")
            .into_iter()
            .flatten()
        {
            text.push_str(&lines(&part));
        }
        text
    }

    /// Works until nothing is pending; `verdict` decides about each member.
    pub async fn work_all(&mut self, job: &JobId, verdict: impl Fn(&str) -> JobVerdict) {
        loop {
            let grants = self.claim(40).await;
            if grants.is_empty() {
                return;
            }
            let mut outcomes = Vec::new();
            for grant in &grants {
                let member = member_of(grant);
                outcomes.push(match verdict(member) {
                    JobVerdict::Done => self.work(job, grant).await,
                    other => outcome(grant, other, Vec::new()),
                });
            }
            self.settle(job, outcomes).await;
        }
    }

    /// The record of a job that is there.
    pub async fn record(&self, job: &JobId) -> JobRecord {
        self.queue.job_record(job).await.expect("an answer").expect("a job")
    }

    /// The result of the fold form, or one partition.
    pub async fn result(&self, job: &JobId, part: u32) -> String {
        lines(
            &self
                .queue
                .job_output(job, part)
                .await
                .expect("an answer")
                .expect("a part"),
        )
    }
}

fn map(record: &JobRecord, chunk: u64) -> Vec<(u32, Part)> {
    match record.spec.form {
        Form::Fold { .. } => vec![(0, inline(&format!("{chunk},")))],
        Form::Keyed { partitions } => (0..partitions).map(|p| (p, inline(&format!("{chunk}@{p},")))).collect(),
    }
}

fn inline(text: &str) -> Part {
    Part::Inline(Bytes::copy_from_slice(text.as_bytes()))
}

fn lines(part: &Part) -> String {
    match part {
        Part::Inline(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Part::Spilled { path, .. } => panic!("spilled to {path}"),
    }
}

/// The member that a task of a job is: `m:3`.
#[must_use]
pub fn member_of(grant: &Grant) -> &str {
    grant.id.splitn(3, ':').nth(2).expect("a member")
}

/// An outcome of a claimed task.
#[must_use]
pub fn outcome(grant: &Grant, verdict: JobVerdict, parts: Vec<(u32, Part)>) -> JobOutcome {
    JobOutcome {
        id: grant.id.clone(),
        token: grant.token,
        verdict,
        delay: Some(Duration::ZERO),
        random: 0.0,
        run: Duration::from_millis(5),
        error: match verdict {
            JobVerdict::Done | JobVerdict::Drop => String::new(),
            _ => format!("boom {}", member_of(grant)),
        },
        parts,
    }
}

/// A job of `chunks` chunks, submitted in one go.
pub async fn submit(queue: &Queue, job: &JobId, spec: &JobSpec, chunks: u64) {
    let payloads: Vec<Bytes> = (0..chunks).map(|i| format!("{{\"items\":[{i}]}}").into()).collect();
    let nonce = SessionId::fresh();
    let mut from = 0;
    for part in payloads.chunks(1000) {
        let end = from + part.len() as u64;
        let answer = queue.job_submit(job, &nonce, spec, from, part, end == chunks).await;
        assert_eq!(answer.expect("an answer"), JobSubmitted::Taken(end));
        from = end;
    }
    if chunks == 0 {
        queue
            .job_submit(job, &nonce, spec, 0, &[], true)
            .await
            .expect("an answer");
    }
}

/// A spec with kinds `m` and `r`.
#[must_use]
pub fn spec(form: Form) -> JobSpec {
    JobSpec::new(form, Kind::new("m").unwrap(), Kind::new("r").unwrap())
}

/// A job id that is known to be one.
#[must_use]
pub fn job_id(name: &str) -> JobId {
    JobId::new(name).unwrap()
}
