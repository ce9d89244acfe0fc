//! The limit: the bare commands that store and take a task, in the best pipeline this client has; and Workyard's functions
//! beside them in calls of the same size.

use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Pipeline, Value};
use workyard_shared::broker::{ClaimRequest, Claimed, Completion, Grant, Turn};
use workyard_shared::link::Link;
use workyard_shared::name::{SessionId, TaskId};

use crate::drain::{Load, fill};
use crate::figures::{Figure, figure, micros, per_second};
use crate::measure::{PAYLOAD, queue};
use crate::server::Server;

/// What a busy installation of smaller calls has: so many in one call, behind so many.
const SMALL: usize = 100;
const BACKLOG: usize = 200_000;
/// Connections that work at once, so that Redis need not wait for its client.
const LANES: usize = 2;
const LEASE: Duration = Duration::from_secs(600);

/// What it took to store all tasks, and to take them and remove them.
#[derive(Debug, Default)]
struct Moved {
    stored: Duration,
    taken: Duration,
    /// Redis' CPU.
    cpu: Duration,
}

/// The floor, and what the protocol adds: without functions, counters, fences and leases, and with them.
pub(crate) async fn bare(server: &Server, load: &Load<'_>) -> anyhow::Result<Vec<Figure>> {
    let count = load.tasks;
    let large = bare_moved(server, count, load.call).await?;
    let small = Load {
        tasks: BACKLOG,
        call: SMALL,
        ..load.clone()
    };
    let theirs_us = micros(bare_moved(server, BACKLOG, SMALL).await?.cpu, BACKLOG);
    let ours_us = micros(ours(server, &small).await?, BACKLOG);
    let commands = "HSET, ZADD, ZPOPMIN, HMGET, HDEL: no functions, fences, leases or counters";
    let calls = format!("calls of {}, {LANES} connections", load.call);
    let behind = format!("calls of {SMALL}, {BACKLOG} queued");
    Ok(vec![
        figure(
            "Redis CPU, bare commands",
            micros(large.cpu, count),
            "us/task",
            commands,
        ),
        figure(
            "bare commands: stored",
            per_second(count, large.stored),
            "/s",
            calls.clone(),
        ),
        figure("bare commands: taken", per_second(count, large.taken), "/s", calls),
        figure(
            "Redis CPU, whole life, calls of 100",
            ours_us,
            "us/task",
            behind.clone(),
        ),
        figure(
            "Redis CPU, bare commands, calls of 100",
            theirs_us,
            "us/task",
            behind.clone(),
        ),
        figure("functions over bare commands", ours_us / theirs_us, "times", behind),
    ])
}

/// Stores `count` tasks, then takes them all.
async fn bare_moved(server: &Server, count: usize, size: usize) -> anyhow::Result<Moved> {
    let link = server.link().await?;
    server.flush(&link).await?;
    let cpu = server.cpu(&link).await?;
    let mut moved = Moved::default();
    let begun = Instant::now();
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        lanes.push(tokio::spawn(store(server.link().await?, lane, count / LANES, size)));
    }
    for lane in lanes {
        lane.await??;
    }
    moved.stored = begun.elapsed();
    let begun = Instant::now();
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        lanes.push(tokio::spawn(take(server.link().await?, size)));
    }
    for lane in lanes {
        lane.await??;
    }
    moved.taken = begun.elapsed();
    moved.cpu = server.cpu(&link).await? - cpu;
    Ok(moved)
}

async fn store(link: Link, lane: usize, count: usize, size: usize) -> anyhow::Result<()> {
    let record = format!("d1700000000000 noop\n\n\"{}\"", "x".repeat(PAYLOAD - 2));
    for first in (0..count).step_by(size) {
        let (mut hset, mut zadd) = (redis::cmd("HSET"), redis::cmd("ZADD"));
        hset.arg("tasks");
        zadd.arg("pending");
        for n in first..(first + size).min(count) {
            let id = TaskId::fresh().to_string();
            hset.arg(&id).arg(&record);
            zadd.arg(n * LANES + lane).arg(&id);
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(hset).add_command(zadd);
        link.pipeline(&pipeline).await?;
    }
    Ok(())
}

/// One round trip a batch: it reads this batch, removes the last one, and takes the next.
async fn take(link: Link, size: usize) -> anyhow::Result<()> {
    let mut pop = redis::cmd("ZPOPMIN");
    pop.arg("pending").arg(size);
    let (mut before, mut now) = (Vec::new(), popped(link.call(&pop).await?));
    while !now.is_empty() {
        let mut pipeline = Pipeline::new();
        let mut get = redis::cmd("HMGET");
        get.arg("tasks").arg(&now);
        pipeline.add_command(get).add_command(pop.clone());
        if !before.is_empty() {
            pipeline.add_command(removal(&before));
        }
        let mut answers = link.pipeline(&pipeline).await?;
        anyhow::ensure!(answers.len() >= 2, "the pipeline has {} answers", answers.len());
        let next = popped(answers.swap_remove(1)?);
        before = std::mem::replace(&mut now, next);
    }
    if !before.is_empty() {
        link.call(&removal(&before)).await?;
    }
    Ok(())
}

fn removal(ids: &[Vec<u8>]) -> redis::Cmd {
    let mut del = redis::cmd("HDEL");
    del.arg("tasks").arg(ids);
    del
}

/// The members of a ZPOPMIN answer, which comes as pairs.
fn popped(answer: Value) -> Vec<Vec<u8>> {
    let Value::Array(pairs) = answer else {
        return Vec::new();
    };
    pairs
        .into_iter()
        .filter_map(|pair| match pair {
            Value::Array(pair) => pair.into_iter().next(),
            other => Some(other),
        })
        .filter_map(|id| match id {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        })
        .collect()
}

/// The same with the functions: enqueue, then a claim and the completion of the claim before it in one round trip. Answers Redis' CPU.
async fn ours(server: &Server, load: &Load<'_>) -> anyhow::Result<Duration> {
    let link = server.link().await?;
    server.flush(&link).await?;
    link.ensure_library().await?;
    let queue = queue(&link)?;
    let cpu = server.cpu(&link).await?;
    fill(load).await?;
    let session = SessionId::fresh();
    queue.heartbeat(&session, LEASE, true).await?;
    let (mut number, mut above, mut ended) = (0, 0, Vec::new());
    loop {
        number += 1;
        let turn = Turn {
            number,
            completions: std::mem::take(&mut ended),
            ..Turn::default()
        };
        let request = ClaimRequest::new(&session, load.call, above);
        let answer = turn.send(&queue, &session, Some(request)).await?;
        let Some(Claimed::Tasks(grants) | Claimed::More(grants)) = answer.claimed else {
            anyhow::bail!("a claim was answered with {:?}", answer.claimed);
        };
        if grants.is_empty() {
            break;
        }
        above = grants.iter().map(|grant| grant.token).max().unwrap_or(above);
        ended = grants.iter().map(completed).collect();
    }
    Ok(server.cpu(&link).await? - cpu)
}

fn completed(grant: &Grant) -> Completion {
    Completion {
        id: grant.id.clone(),
        token: grant.token,
        kind: grant.kind().to_owned(),
        created_ms: 0,
        run: Duration::ZERO,
        retention: Duration::ZERO,
        result: Bytes::from_static(b"null"),
    }
}
