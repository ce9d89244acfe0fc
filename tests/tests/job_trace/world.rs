//! One queue with one job and its reference, side by side: each step is done to both, then answers and all that is there
//! are compared. Redis' clock cannot be moved: what takes time is written into the keys by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use workyard_shared::broker::{Grant, JobOutcome, JobSettled, JobSubmitted, JobVerdict, Queue};
use workyard_shared::job::{Form, Part, Policy};
use workyard_shared::name::{JobId, SessionId};
use workyard_tests::hand::{Hand, job_id, outcome, spec};

use super::model::{ATTEMPTS, Counts, Job, Place, Shape};
use super::op::{Op, Pick};
use super::view::{self, PARTS, View, counted};

/// Of the tasks that were ever claimed, the newest are in play.
const IN_PLAY: usize = 16;

/// Consumers at a time.
pub const CONSUMERS: usize = 2;

struct Consumer {
    hand: Hand,
    /// What it holds: task -> token.
    held: BTreeMap<String, u64>,
    number: u64,
    /// Its last batch and the answer to it.
    last: Option<(Vec<JobOutcome>, Vec<JobSettled>)>,
}

pub struct World {
    queue: Queue,
    redis: MultiplexedConnection,
    id: JobId,
    consumers: Vec<Consumer>,
    /// Everything that was ever claimed.
    claimed: Vec<Grant>,
    job: Option<Job>,
    /// What the ids of the job's present tasks begin with.
    base: String,
    epoch: u64,
    pub counts: Counts,
}

fn same<T: PartialEq + Debug>(what: &str, real: &T, expected: &T) -> Result<(), String> {
    if real == expected {
        return Ok(());
    }
    Err(format!("{what}: Redis says {real:?}, the reference {expected:?}"))
}

impl World {
    pub async fn new(queue: Queue, redis: MultiplexedConnection) -> Self {
        let mut world = Self {
            queue,
            redis,
            id: job_id("j"),
            consumers: Vec::new(),
            claimed: Vec::new(),
            job: None,
            base: String::new(),
            epoch: 0,
            counts: Counts::new(),
        };
        for _ in 0..CONSUMERS {
            let consumer = world.join().await;
            world.consumers.push(consumer);
        }
        world
    }

    async fn join(&self) -> Consumer {
        Consumer {
            hand: Hand::register(&self.queue).await,
            held: BTreeMap::new(),
            number: 0,
            last: None,
        }
    }

    /// Does one step and compares everything.
    pub async fn step(&mut self, op: &Op) -> Result<(), String> {
        self.apply(op).await?;
        let names: Vec<SessionId> = self.consumers.iter().map(|c| c.hand.consumer.clone()).collect();
        let (view, epoch) = view::read(&mut self.redis, &self.queue, &self.id, &names).await;
        if epoch != self.epoch && self.job.is_some() {
            if !matches!(op, Op::Submit(_) | Op::Retry) || epoch < self.epoch {
                return Err(format!(
                    "the job is at {epoch} after {}, without a new start",
                    self.epoch
                ));
            }
            self.epoch = epoch;
            self.base = format!("{}:{epoch}:", self.id);
        }
        same("state", &view, &self.expected())
    }

    fn expected(&self) -> View {
        let mut view = View {
            counts: counted(&self.counts),
            ..View::default()
        };
        for (n, consumer) in self.consumers.iter().enumerate() {
            for (id, token) in &consumer.held {
                let places = view.places.entry(id.clone()).or_default();
                places.push(format!("held by {n} with {token}"));
            }
        }
        let mut parts: BTreeMap<_, _> = PARTS.iter().map(|(part, _)| (*part, Vec::new())).collect();
        if let Some(job) = &self.job {
            view.record = Some((job.state, job.starts, job.maps, job.reduces, job.accepted));
            for (member, task) in &job.live {
                let id = format!("{}{member}", self.base);
                let place = match task.place {
                    Place::Pending => Some("pending"),
                    Place::Scheduled => Some("scheduled"),
                    Place::Dead => Some("failed"),
                    Place::Held => None,
                };
                if let Some(place) = place {
                    view.places.entry(id.clone()).or_default().insert(0, place.to_owned());
                }
                if task.failures + task.crashes > 0 {
                    view.troubles.insert(id.clone(), (task.failures, task.crashes));
                }
                view.tasks.insert(id);
            }
            let texts = |set: &BTreeSet<u64>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
            parts.insert(":live", job.live.keys().cloned().collect());
            parts.insert(":failed", texts(&job.lost));
            parts.insert(":tree", job.tree.iter().map(|(k, v)| format!("{k}={v}")).collect());
            parts.insert(":errors", job.errors.iter().cloned().collect());
            parts.insert(":chunks", texts(&job.chunks));
            parts.insert(":data", job.data.iter().cloned().collect());
            parts.insert(":out", job.out.iter().cloned().collect());
            parts.insert(":again", job.again.clone());
        }
        for found in parts.values_mut() {
            found.sort();
        }
        view.parts = parts;
        view
    }

    async fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Submit(shape) => self.submit(*shape).await,
            Op::Claim { by, most } => self.claim(*by, *most).await,
            Op::Settle { by, picks } => self.settle(*by, picks).await,
            Op::Resettle { by } => self.resettle(*by).await,
            Op::Die { of } => self.die(*of).await,
            Op::Promote => self.promote().await,
            Op::Tend => self.tend().await,
            Op::Reducing => {
                self.queue.job_reducing(&self.id).await.map_err(|e| e.to_string())?;
                if let Some(job) = &mut self.job {
                    job.reducing();
                }
                Ok(())
            }
            Op::Backup { picks } => self.backup(picks).await,
            Op::Cancel => {
                let real = self.queue.job_cancel(&self.id).await.map_err(|e| e.to_string())?;
                let expected = self.job.as_mut().map_or("Unknown", |job| job.cancel(&mut self.counts));
                same("cancel", &format!("{real:?}"), &expected.to_owned())
            }
            Op::Retry => {
                let real = self.queue.job_retry(&self.id).await.map_err(|e| e.to_string())?;
                let expected = self.job.as_mut().map_or("Unknown", |job| job.retry(&mut self.counts));
                same("retry", &format!("{real:?}"), &expected.to_owned())
            }
            Op::Delete => self.delete().await,
        }
    }

    /// The job, unless one of this name is there: then the answer is that somebody else's is.
    async fn submit(&mut self, shape: Shape) -> Result<(), String> {
        let mut spec = spec(shape.form);
        spec.policy = Policy::Allow(shape.allowed);
        spec.map_options.max_attempts = Some(ATTEMPTS);
        spec.reduce_options.max_attempts = Some(ATTEMPTS);
        let chunks: Vec<Bytes> = (0..shape.chunks)
            .map(|n| format!("{{\"items\":[{n}]}}").into())
            .collect();
        let nonce = SessionId::fresh();
        let real = self.queue.job_submit(&self.id, &nonce, &spec, 0, &chunks, true).await;
        let real = real.map_err(|e| e.to_string())?;
        if self.job.is_some() {
            return same("submit", &matches!(real, JobSubmitted::Taken(_)), &false);
        }
        self.job = Some(Job::submitted(shape, &mut self.counts));
        same("submit", &real, &JobSubmitted::Taken(shape.chunks))
    }

    async fn claim(&mut self, by: usize, most: usize) -> Result<(), String> {
        let grants = self.consumers[by].hand.claim(most).await;
        let Some(job) = &mut self.job else {
            return same("claim", &grants.len(), &0);
        };
        let pending = job.live.values().filter(|task| task.place == Place::Pending).count();
        same("claimed", &grants.len(), &most.min(pending))?;
        for grant in grants {
            let member = grant.id.strip_prefix(&self.base).unwrap_or_default();
            match job.live.get_mut(member) {
                Some(task) if task.place == Place::Pending => task.place = Place::Held,
                other => return Err(format!("claimed {}, which is {other:?}", grant.id)),
            }
            self.consumers[by].held.insert(grant.id.to_string(), grant.token);
            self.claimed.push(grant);
        }
        Ok(())
    }

    async fn settle(&mut self, by: usize, picks: &[Pick]) -> Result<(), String> {
        let in_play = &self.claimed[self.claimed.len().saturating_sub(IN_PLAY)..];
        let held = &self.consumers[by].held;
        let (own, all): (Vec<&Grant>, Vec<&Grant>) = (
            in_play
                .iter()
                .filter(|grant| held.get(grant.id.as_str()) == Some(&grant.token))
                .collect(),
            in_play.iter().collect(),
        );
        let mut outcomes = Vec::new();
        for pick in picks {
            let from = if pick.is_anyones { &all } else { &own };
            if let Some(grant) = from.get(usize::from(pick.which) % from.len().max(1)) {
                outcomes.push(outcome(grant, pick.verdict, self.parts(grant, pick.verdict)));
            }
        }
        if outcomes.is_empty() {
            return Ok(());
        }
        let consumer = &mut self.consumers[by];
        consumer.number += 1;
        let number = consumer.number;
        let real = consumer.hand.settle_as(number, &self.id, outcomes.clone()).await;
        let expected: Vec<JobSettled> = outcomes.iter().map(|outcome| self.settle_one(by, outcome)).collect();
        if let Some(job) = &mut self.job {
            job.add_ready(&mut self.counts);
        }
        self.consumers[by].last = Some((outcomes, real.clone()));
        same("settle", &real, &expected)
    }

    fn settle_one(&mut self, by: usize, outcome: &JobOutcome) -> JobSettled {
        let held = &mut self.consumers[by].held;
        let is_held = held.get(&outcome.id) == Some(&outcome.token);
        if is_held {
            held.remove(&outcome.id);
        }
        let member = outcome.id.strip_prefix(&self.base).filter(|_| is_held);
        let wanted = member.zip(self.job.as_mut());
        let settled = wanted.and_then(|(member, job)| job.settle(member, outcome.verdict, &mut self.counts));
        settled.unwrap_or_else(|| {
            if outcome.verdict == JobVerdict::Drop {
                return JobSettled::Dropped;
            }
            *self.counts.entry("stale").or_default() += 1;
            JobSettled::Stale
        })
    }

    fn parts(&self, grant: &Grant, verdict: JobVerdict) -> Vec<(u32, Part)> {
        let is_map = grant.id.contains(":m:");
        let form = self.job.as_ref().map(|job| job.shape.form);
        let parts = match form {
            _ if verdict != JobVerdict::Done => 0,
            Some(Form::Keyed { partitions }) if is_map => partitions,
            _ => 1,
        };
        (0..parts)
            .map(|n| (n, Part::Inline(Bytes::from_static(b"x\n"))))
            .collect()
    }

    /// The last batch once more, as after a lost reply: the same answer, and nothing else.
    async fn resettle(&mut self, by: usize) -> Result<(), String> {
        let consumer = &mut self.consumers[by];
        let Some((outcomes, answer)) = consumer.last.clone() else {
            return Ok(());
        };
        let real = consumer.hand.settle_as(consumer.number, &self.id, outcomes).await;
        same("the same batch", &real, &answer)
    }

    /// A consumer dies, its lease ends, its tasks go back, and another takes its place.
    async fn die(&mut self, of: usize) -> Result<(), String> {
        let name = self.consumers[of].hand.consumer.clone();
        let key = |key: &str| self.queue.keys().named(key);
        let mut pipe = redis::pipe();
        pipe.cmd("ZADD")
            .arg(key("consumers"))
            .arg("XX")
            .arg(1)
            .arg(name.as_str());
        pipe.cmd("HSET").arg(key("state")).arg("grace").arg(0);
        pipe.exec_async(&mut self.redis).await.map_err(|e| e.to_string())?;
        let real = self.queue.reclaim(&name).await.map_err(|e| e.to_string())?;
        let (mut back, mut poisoned) = (0, 0);
        for id in self.consumers[of].held.keys() {
            let member = id.strip_prefix(&self.base);
            match member
                .zip(self.job.as_mut())
                .and_then(|(member, job)| job.crash(member, &mut self.counts))
            {
                Some(true) => poisoned += 1,
                Some(false) => back += 1,
                None => {}
            }
        }
        self.consumers[of] = self.join().await;
        same(
            "reclaim",
            &(real.back, real.poisoned, real.more),
            &(back, poisoned, false),
        )
    }

    async fn promote(&mut self) -> Result<(), String> {
        let key = self.queue.keys().named("scheduled");
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(&key).arg(0).arg(-1).arg("WITHSCORES");
        let all: Vec<(String, f64)> = cmd.query_async(&mut self.redis).await.map_err(|e| e.to_string())?;
        for (id, score) in &all {
            // Due long ago; the fraction is the priority.
            let mut cmd = redis::cmd("ZADD");
            cmd.arg(&key).arg("XX").arg(1.0 + score.fract()).arg(id);
            cmd.exec_async(&mut self.redis).await.map_err(|e| e.to_string())?;
        }
        self.queue.promote(100).await.map_err(|e| e.to_string())?;
        for task in self.job.iter_mut().flat_map(|job| job.live.values_mut()) {
            if task.place == Place::Scheduled {
                task.place = Place::Pending;
            }
        }
        Ok(())
    }

    async fn tend(&mut self) -> Result<(), String> {
        let members: Vec<String> = self.job.iter().flat_map(|job| job.live.keys().cloned()).collect();
        let tended = self.queue.job_tend(&self.id, None, &members).await;
        let tended = tended.map_err(|e| e.to_string())?;
        if let Some(job) = &mut self.job {
            job.tend(&mut self.counts);
        }
        same("tended", &tended.state, &self.job.as_ref().map(|job| job.state))
    }

    async fn backup(&mut self, picks: &[u8]) -> Result<(), String> {
        let Some(job) = &mut self.job else { return Ok(()) };
        let names: Vec<&String> = job.live.keys().filter(|member| !member.ends_with(":b")).collect();
        let chosen: BTreeSet<String> = picks
            .iter()
            .filter_map(|pick| names.get(usize::from(*pick) % names.len().max(1)))
            .map(|name| (*name).clone())
            .collect();
        let chosen: Vec<String> = chosen.into_iter().collect();
        let real = self
            .queue
            .job_backup(&self.id, &chosen)
            .await
            .map_err(|e| e.to_string())?;
        same("backup", &real, &job.backup(&chosen, &mut self.counts))
    }

    async fn delete(&mut self) -> Result<(), String> {
        let real = self
            .queue
            .job_delete(&self.id, false)
            .await
            .map_err(|e| e.to_string())?;
        let expected = match &self.job {
            None => "Unknown",
            Some(job) if !job.is_over() => "Alive",
            Some(_) => "Deleted",
        };
        if expected == "Deleted" {
            self.job = None;
        }
        same("delete", &format!("{real:?}"), &expected.to_owned())
    }
}
