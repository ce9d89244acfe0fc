//! Steps of producers and consumers: the real call, and what the reference says of it.

use std::time::Duration;

use workyard_shared::Error;
use workyard_shared::broker::{
    Accepted, Batch, Beat, ClaimRequest, Claimed, Completion, FailVerdict, FailureReport, Grant, Handback, Settled,
};
use workyard_shared::envelope::NewTask;
use workyard_shared::name::TaskId;
use workyard_shared::options::Backoff;
use workyard_tests::new_task;

use super::op::{Expiry, How, Spec};
use super::reference::HOUR_MS;
use super::rules::Known;
use super::world::{LEASE, World, same, session, task_id, tries_of};

const HOUR: Duration = Duration::from_millis(HOUR_MS);

fn task_of(spec: &Spec) -> NewTask {
    let mut task = new_task(&format!("k{}", spec.kind), "1");
    let options = &mut task.options;
    options.priority = spec.priority;
    options.max_attempts = spec.max_attempts;
    options.retention = (!spec.keeps).then_some(Duration::ZERO);
    options.delay = spec.delayed.then_some(HOUR);
    options.expires_in = match spec.expiry {
        Expiry::Never => None,
        Expiry::Past => Some(Duration::from_millis(1)),
        Expiry::Far => Some(HOUR),
    };
    options.backoff = Some(Backoff {
        base: HOUR,
        factor: 2.0,
        cap: HOUR * 10,
        jitter: 0.1,
    });
    task
}

fn letter(settled: &Settled) -> char {
    match settled {
        Settled::Completed => 'k',
        Settled::Retrying => 'r',
        Settled::Failed => 'f',
        Settled::Released => 'p',
        Settled::Stale => 's',
    }
}

impl World {
    async fn send(&mut self, producer: usize, number: u64) -> Result<Result<String, Error>, String> {
        let caller = &self.callers[producer];
        let name = |(id, spec): &(String, Spec)| (TaskId::new(id).expect("an id"), task_of(spec));
        let tasks: Vec<_> = caller.last.iter().map(name).collect();
        let waiter = session("w");
        let batch = Batch {
            session: &session(&format!("p{producer}")),
            number,
            waiter: caller.awaited.then_some(&waiter),
        };
        let cmd = self
            .queue
            .enqueue_cmd(batch, false, &tasks)
            .map_err(|e| e.to_string())?;
        let answer = self.queue.enqueue(&cmd).await;
        if caller.last.iter().any(|(_, spec)| spec.expiry == Expiry::Past) {
            tokio::time::sleep(Duration::from_millis(3)).await; // until its ms has passed
        }
        let letter = |a: &Accepted| if *a == Accepted::Created { 'c' } else { 'd' };
        Ok(answer.map(|all| all.iter().map(letter).collect()))
    }

    pub async fn enqueue(&mut self, producer: u8, awaited: bool, tasks: &[Spec]) -> Result<(), String> {
        let producer = usize::from(producer);
        let caller = &mut self.callers[producer];
        caller.number += 1;
        caller.awaited = awaited;
        caller.last = tasks.iter().map(|spec| (task_id(spec.id), spec.clone())).collect();
        let (number, specs) = (caller.number, caller.last.clone());
        let letters = self.reference.add(awaited, &specs);
        self.reference.producers[producer] = (number, letters.clone());
        let answer = self.send(producer, number).await?;
        same("enqueue", &answer.map_err(|e| e.to_string()), &Ok(letters))
    }

    pub async fn resend(&mut self, producer: u8) -> Result<(), String> {
        let producer = usize::from(producer);
        let (number, letters) = self.reference.producers[producer].clone();
        if number == 0 {
            return Ok(());
        }
        let answer = self.send(producer, number).await?;
        same("the same enqueue", &answer.map_err(|e| e.to_string()), &Ok(letters))
    }

    pub async fn outdated(&mut self, producer: u8) -> Result<(), String> {
        let producer = usize::from(producer);
        let number = self.callers[producer].number;
        if number < 2 {
            return Ok(());
        }
        match self.send(producer, number - 1).await? {
            Err(Error::Invalid(_)) => Ok(()),
            other => Err(format!("a superseded enqueue was answered {other:?}")),
        }
    }

    pub async fn claim(&mut self, by: usize, most: u8, park: bool, lost: bool) -> Result<(), String> {
        let most = usize::from(most);
        let above = self.clients[by].above;
        let request = ClaimRequest {
            consumer: &self.names[by],
            most,
            above,
            park,
            rank: None,
            tries: tries_of(by),
        };
        let claimed = self.queue.claim(request).await.map_err(|e| e.to_string())?;
        let (status, grants) = match claimed {
            Claimed::Tasks(grants) => ("ok", grants),
            Claimed::More(grants) => ("more", grants),
            Claimed::Paused => ("paused", Vec::new()),
            Claimed::Lost => ("lost", Vec::new()),
        };
        let token = grants.first().map_or(0, |g| g.token);
        let (last, here) = (self.reference.token, self.reference.sessions[by].here);
        let (expected, mut tasks) = self.reference.claim(by, most, above, park, token);
        let mut real: Vec<_> = grants.iter().map(|g| (g.id.clone(), g.token)).collect();
        if token <= last {
            // Only what was given before comes again, in no order.
            real.sort();
            tasks.sort();
        }
        same("claim", &(status, &real), &(expected, &tasks))?;
        if !grants.is_empty() && (token <= above || (token > last && token < self.now_us)) {
            return Err(format!(
                "token {token} does not grow: {above} received, now {}",
                self.now_us
            ));
        }
        for grant in &grants {
            self.check_grant(grant)?;
        }
        if here && !lost {
            let kept: Vec<_> = grants.iter().map(|g| self.known(g)).collect();
            let client = &mut self.clients[by];
            client.above = client.above.max(token);
            client.known.extend(kept);
        }
        Ok(())
    }

    fn known(&self, grant: &Grant) -> Known {
        let spec = &self.reference.tasks[&grant.id].spec;
        Known {
            id: grant.id.clone(),
            token: grant.token,
            kind: spec.kind,
            keeps: spec.keeps,
        }
    }

    fn check_grant(&self, grant: &Grant) -> Result<(), String> {
        let task = &self.reference.tasks[&grant.id];
        let counts = task.counts.clone().unwrap_or_default();
        let meta = &grant.meta;
        let real = (meta.failures, meta.crashes, meta.releases);
        same(
            "counters of a grant",
            &real,
            &(counts.failures, counts.crashes, counts.releases),
        )?;
        let record = grant.record.as_ref().map_err(|e| e.to_string())?;
        same(
            "kind of a grant",
            &record.kind(),
            &format!("k{}", task.spec.kind).as_str(),
        )?;
        same("priority of a grant", &record.options().priority, &task.spec.priority)
    }

    /// A task that a consumer received, the newest first: what is picked is mostly still held. None: it received none.
    fn received(&self, of: usize, pick: u8) -> Option<Known> {
        let known = &self.clients[of].known;
        let last = known.len().checked_sub(1)?;
        Some(known[last - usize::from(pick) % known.len().min(6)].clone())
    }

    pub async fn settle(&mut self, by: usize, of: usize, how: How, picks: &[u8]) -> Result<(), String> {
        let tasks: Vec<_> = picks.iter().filter_map(|pick| self.received(of, *pick)).collect();
        if tasks.is_empty() {
            return Ok(());
        }
        let client = &mut self.clients[by];
        client.number += 1;
        client.sent.push((client.number, how, tasks.clone()));
        let number = client.number;
        self.send_settle(by, number, how, &tasks).await
    }

    pub async fn resettle(&mut self, by: usize, back: u8) -> Result<(), String> {
        let sent = &self.clients[by].sent;
        let Some((_, last, _)) = sent.last() else {
            return Ok(());
        };
        // Of the same edge: it has one memory.
        let mut alike = sent.iter().rev().filter(|(_, how, _)| how.edge() == last.edge());
        let Some((number, how, tasks)) = alike.nth(usize::from(back)).cloned() else {
            return Ok(());
        };
        self.send_settle(by, number, how, &tasks).await
    }

    async fn send_settle(&mut self, by: usize, number: u64, how: How, tasks: &[Known]) -> Result<(), String> {
        let mut turn = Self::turn(number);
        for task in tasks {
            match how {
                How::Complete => turn.completions.push(completion(task)),
                How::Retry { now } => turn.failures.push(failure(task, FailVerdict::Retry, now)),
                How::Final => turn.failures.push(failure(task, FailVerdict::Final, false)),
                How::Release { delayed } => turn.handbacks.push(handback(task, delayed, false)),
                How::Unhandled => turn.handbacks.push(handback(task, false, true)),
            }
        }
        let answer = turn.send(&self.queue, &self.names[by], None).await;
        let answer = answer.map_err(|e| e.to_string())?;
        let all = answer
            .completions
            .iter()
            .chain(&answer.failures)
            .chain(&answer.handbacks);
        let letters: String = all.map(letter).collect();
        same("settle", &letters, &self.reference.settle(by, how, number, tasks))
    }

    pub async fn progress(&mut self, by: usize, of: usize, pick: u8) -> Result<(), String> {
        let Some(task) = self.received(of, pick) else {
            return Ok(());
        };
        let answer = self.queue.progress(&self.names[by], &task.id, task.token, "half").await;
        let expected = self.reference.progress(by, &task.id, task.token, "half");
        same("progress", &answer.map_err(|e| e.to_string())?, &expected)
    }

    pub async fn try_suspect(&mut self, by: usize, of: usize, pick: u8, beside: bool) -> Result<(), String> {
        let Some(task) = self.received(of, pick) else {
            return Ok(());
        };
        self.say_try(by, &task.id, task.token, beside).await
    }

    /// Of what it holds that under which most have died.
    pub async fn try_the_most_suspect(&mut self, by: usize, beside: bool) -> Result<(), String> {
        let deaths = |id: &str| {
            self.reference.tasks[id]
                .counts
                .as_ref()
                .map_or(0, |counts| counts.crashes)
        };
        let held = self.reference.held_by(by);
        match held.into_iter().max_by_key(|(id, _)| deaths(id)) {
            Some((id, token)) => self.say_try(by, &id, token, beside).await,
            None => Ok(()),
        }
    }

    async fn say_try(&mut self, by: usize, id: &str, token: u64, beside: bool) -> Result<(), String> {
        let answer = self.queue.try_suspect(&self.names[by], id, token, beside).await;
        let expected = self.reference.try_suspect(by, id, token, beside);
        same("try", &answer.map_err(|e| e.to_string())?, &expected)
    }

    pub async fn beat(&mut self, by: usize, register: bool) -> Result<(), String> {
        let beat = self.queue.heartbeat(&self.names[by], LEASE, register).await;
        let real = match beat.map_err(|e| e.to_string())? {
            Beat::Ok {
                maintainer, cancelled, ..
            } => Some((maintainer, cancelled)),
            Beat::Lost => None,
        };
        same("heartbeat", &real, &self.reference.beat(by, register))
    }
}

fn completion(task: &Known) -> Completion {
    Completion {
        id: task.id.clone(),
        token: task.token,
        kind: format!("k{}", task.kind),
        created_ms: 1,
        run: Duration::ZERO,
        retention: if task.keeps { HOUR } else { Duration::ZERO },
        result: bytes::Bytes::from_static(b"1"),
    }
}

fn failure(task: &Known, verdict: FailVerdict, now: bool) -> FailureReport {
    FailureReport {
        id: task.id.clone(),
        token: task.token,
        verdict,
        delay: now.then_some(Duration::ZERO),
        random: 0.5,
        run: Duration::ZERO,
        error: "boom".to_owned(),
    }
}

fn handback(task: &Known, delayed: bool, unhandled: bool) -> Handback {
    Handback {
        id: task.id.clone(),
        token: task.token,
        unhandled: unhandled.then(|| "k".to_owned()),
        delay: if delayed { HOUR } else { Duration::ZERO },
    }
}
