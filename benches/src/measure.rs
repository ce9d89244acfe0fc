//! The measurements: each a function from a fresh server to figures.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use workyard_consumer::{Context, Failure, Registry, Worker, WorkerConfig};
use workyard_shared::broker::{Broker, Queue};
use workyard_shared::envelope::NewTask;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Kind, Prefix, QueueName, TaskId};
use workyard_shared::submit::Submitter;

use crate::daemon::Daemon;
use crate::server::Server;

/// Outages are no part of a benchmark.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tasks in one call of the bulk enqueue.
const CHUNK: usize = 500;
/// Pause between looks at a queue that fills or drains.
const LOOK: Duration = Duration::from_millis(5);

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) note: String,
}

pub(crate) fn figure(name: &'static str, value: f64, unit: &'static str, note: impl Into<String>) -> Figure {
    Figure {
        name,
        value,
        unit,
        note: note.into(),
    }
}

pub(crate) fn queue(link: &Link) -> anyhow::Result<Queue> {
    Ok(Broker::new(link.clone(), Prefix::default()).queue(&QueueName::new("bench")?))
}

/// A task with 100 bytes of payload whose result is not kept.
fn task(payload: &Bytes) -> anyhow::Result<(TaskId, NewTask)> {
    let mut task = NewTask::new(Kind::new("noop")?, payload.clone())?;
    task.options.retention = Some(Duration::ZERO);
    Ok((TaskId::fresh(), task))
}

fn payload() -> Bytes {
    Bytes::from(format!("\"{}\"", "x".repeat(98)))
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds far below 2^53")]
pub(crate) fn per_second(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn per_task(total: f64, count: usize) -> f64 {
    total / count as f64
}

/// Enqueues `count` tasks in bulk over two submitters.
pub(crate) async fn fill(server: &Server, count: usize) -> anyhow::Result<Duration> {
    let payload = payload();
    let begun = Instant::now();
    let mut lanes = Vec::new();
    for lane in 0..2 {
        let (link, payload) = (server.link().await?, payload.clone());
        let mine = count / 2 + if lane == 0 { count % 2 } else { 0 };
        lanes.push(tokio::spawn(async move {
            let submitter = Submitter::start(queue(&link)?);
            let mut left = mine;
            while left > 0 {
                let chunk = (0..left.min(CHUNK))
                    .map(|_| task(&payload))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                left -= chunk.len();
                submitter.submit(chunk, true, None, PATIENCE).await?;
            }
            anyhow::Ok(())
        }));
    }
    for lane in lanes {
        lane.await??;
    }
    Ok(begun.elapsed())
}

/// Bulk enqueue, then a drain of no-op tasks by one daemon: rates, CPU, bytes. The queue is paused until the
/// daemon waits for work, so that neither its start nor the enqueue is in the drain's figures.
pub(crate) async fn throughput(
    server: &Server,
    consumer: &Path,
    count: usize,
    concurrency: usize,
) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    server.flush(&link).await?;
    link.ensure_library().await?;
    let queue = queue(&link)?;
    queue.set_paused(true).await?;
    let (memory, cpu) = (server.memory(&link).await?, server.cpu(&link).await?);
    let filled = fill(server, count).await?;
    let cpu_fill = server.cpu(&link).await? - cpu;
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    let bytes = server.memory(&link).await?.saturating_sub(memory) as f64;

    let daemon = Daemon::start(consumer, &server.url(), concurrency)?;
    while queue.overview().await?.parked == 0 {
        tokio::time::sleep(LOOK).await;
    }
    let (cpu, cpu_daemon, begun) = (server.cpu(&link).await?, daemon.cpu(), Instant::now());
    queue.set_paused(false).await?;
    drained(&queue).await?;
    let drained = begun.elapsed();
    let (cpu_drain, cpu_daemon) = (server.cpu(&link).await? - cpu, daemon.cpu() - cpu_daemon);
    let micros = |span: Duration| per_task(span.as_secs_f64() * 1e6, count);
    let by = format!("one workyard-consumer process, concurrency {concurrency}, no-op tasks, results not kept");
    let (rate_in, rate_out) = (per_second(count, filled), per_second(count, drained));
    let calls = format!("{count} tasks, calls of {CHUNK}");
    let whole = cpu_fill + cpu_drain;
    Ok(vec![
        figure("enqueue in bulk", rate_in, "/s", calls),
        figure("drain", rate_out, "/s", by),
        figure("Redis CPU, enqueue", micros(cpu_fill), "us/task", "in bulk"),
        figure("Redis CPU, claim + complete", micros(cpu_drain), "us/task", ""),
        figure("Redis CPU, whole life", micros(whole), "us/task", ""),
        figure("daemon CPU", micros(cpu_daemon), "us/task", "claim, run, complete"),
        figure(
            "memory",
            per_task(bytes, count),
            "B/task",
            "queued, 100 bytes of payload, UUIDv7 id",
        ),
    ])
}

/// Returns when nothing waits or runs.
pub(crate) async fn drained(queue: &Queue) -> anyhow::Result<()> {
    loop {
        let seen = queue.overview().await?;
        if seen.pending + seen.running == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The floor: the bare commands that store and take a task, without functions, counters, fences or leases, in
/// variadic calls of the same size. What the protocol adds is the ratio to this.
pub(crate) async fn bare(server: &Server, count: usize) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    server.flush(&link).await?;
    let record = format!("d1700000000000 noop\n\n\"{}\"", "x".repeat(98));
    let cpu = server.cpu(&link).await?;
    for first in (0..count).step_by(CHUNK) {
        let (mut hset, mut zadd) = (redis::cmd("HSET"), redis::cmd("ZADD"));
        hset.arg("tasks");
        zadd.arg("pending");
        for n in first..(first + CHUNK).min(count) {
            let id = TaskId::fresh().to_string();
            hset.arg(&id).arg(&record);
            zadd.arg(n).arg(&id);
        }
        let mut pipeline = redis::Pipeline::new();
        pipeline.add_command(hset).add_command(zadd);
        link.pipeline(&pipeline).await?;
    }
    loop {
        let mut pop = redis::cmd("ZPOPMIN");
        pop.arg("pending").arg(CHUNK);
        let ids = popped(link.call(&pop).await?);
        if ids.is_empty() {
            break;
        }
        let (mut get, mut del) = (redis::cmd("HMGET"), redis::cmd("HDEL"));
        get.arg("tasks").arg(&ids);
        del.arg("tasks").arg(&ids);
        let mut pipeline = redis::Pipeline::new();
        pipeline.add_command(get).add_command(del);
        link.pipeline(&pipeline).await?;
    }
    let spent = per_task((server.cpu(&link).await? - cpu).as_secs_f64() * 1e6, count);
    let note = "HSET, ZADD, ZPOPMIN, HMGET, HDEL: no functions, fences, leases or counters";
    Ok(vec![figure("Redis CPU, bare commands", spent, "us/task", note)])
}

/// The members of a ZPOPMIN answer, which comes as pairs.
fn popped(answer: redis::Value) -> Vec<Vec<u8>> {
    let redis::Value::Array(pairs) = answer else {
        return Vec::new();
    };
    pairs
        .into_iter()
        .filter_map(|pair| match pair {
            redis::Value::Array(pair) => pair.into_iter().next(),
            other => Some(other),
        })
        .filter_map(|id| match id {
            redis::Value::BulkString(bytes) => Some(bytes),
            _ => None,
        })
        .collect()
}

/// Enqueue of single tasks by one caller that waits for each, and by 64 at once.
pub(crate) async fn singles(server: &Server, count: usize) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    let payload = payload();
    let mut figures = Vec::new();
    for (name, callers) in [("enqueue one by one", 1), ("enqueue, 64 callers", 64)] {
        server.flush(&link).await?;
        let submitter = Submitter::start(queue(&link)?);
        let begun = Instant::now();
        let each = count / callers;
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (submitter, payload) = (submitter.clone(), payload.clone());
                tokio::spawn(async move {
                    for _ in 0..each {
                        submitter.submit(vec![task(&payload)?], true, None, PATIENCE).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for caller in tasks {
            caller.await??;
        }
        figures.push(figure(
            name,
            per_second(each * callers, begun.elapsed()),
            "/s",
            "each waits for its receipt",
        ));
    }
    Ok(figures)
}

/// From the send of an enqueue to the first line of the handler, on an idle queue; and one PING.
pub(crate) async fn latency(server: &Server, count: usize) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    server.flush(&link).await?;
    let (seen_in, mut seen) = mpsc::unbounded_channel::<Instant>();
    let mut registry = Registry::new();
    registry.register("noop", move |_: Context, _: serde_json::Value| {
        let sent = seen_in.send(Instant::now());
        async move { sent.map_err(|e| Failure::fatal(e.to_string())) }
    })?;
    let config = WorkerConfig::new(LinkConfig::from_url(&server.url())?, QueueName::new("bench")?);
    let stop = CancellationToken::new();
    let worker = tokio::spawn(Worker::new(config, registry)?.run(stop.clone()));
    let (queue, payload) = (queue(&link)?, payload());
    let submitter = Submitter::start(queue.clone());
    while queue.overview().await?.parked == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut pickups, mut pings) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let begun = Instant::now();
        link.call(&redis::cmd("PING")).await?;
        pings.push(begun.elapsed());
        let begun = Instant::now();
        submitter.submit(vec![task(&payload)?], true, None, PATIENCE).await?;
        let at = seen
            .recv()
            .await
            .ok_or_else(|| anyhow::anyhow!("the worker has ended"))?;
        pickups.push(at.saturating_duration_since(begun));
        // Until the worker is parked again the queue is not idle.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    worker.await??;
    let note = format!("{count} tasks, one at a time, idle queue");
    Ok(vec![
        figure(
            "PING p50",
            percentile(&mut pings, 50),
            "us",
            "same connection, same run",
        ),
        figure("pickup p50", percentile(&mut pickups, 50), "us", note.clone()),
        figure("pickup p99", percentile(&mut pickups, 99), "us", note),
    ])
}

fn percentile(spans: &mut [Duration], percent: usize) -> f64 {
    spans.sort_unstable();
    let at = (spans.len() * percent / 100).min(spans.len().saturating_sub(1));
    spans.get(at).map_or(0.0, |span| span.as_secs_f64() * 1e6)
}
