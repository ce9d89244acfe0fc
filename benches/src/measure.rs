//! Single tasks: how fast they are accepted, and how soon they are picked up.

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

use crate::figures::{Figure, figure, per_second, percentile};
use crate::server::Server;

/// Bytes of payload where nothing else is said.
pub(crate) const PAYLOAD: usize = 100;
/// Outages are no part of a benchmark.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn queue(link: &Link) -> anyhow::Result<Queue> {
    Ok(Broker::new(link.clone(), Prefix::default()).queue(&QueueName::new("bench")?))
}

/// A task whose result is not kept.
pub(crate) fn task(payload: &Bytes) -> anyhow::Result<(TaskId, NewTask)> {
    let mut task = NewTask::new(Kind::new("noop")?, payload.clone())?;
    task.options.retention = Some(Duration::ZERO);
    Ok((TaskId::fresh(), task))
}

/// JSON of so many bytes, at least two.
pub(crate) fn payload(bytes: usize) -> Bytes {
    Bytes::from(format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))))
}

/// Enqueue of single tasks by one caller that waits for each, and by 64 at once, with and without the calls being gathered.
pub(crate) async fn singles(server: &Server, count: usize) -> anyhow::Result<Vec<Figure>> {
    let link = server.link().await?;
    let payload = payload(PAYLOAD);
    let mut figures = Vec::new();
    // How many calls may be under way: a submitter gathers what its callers send while its last call is.
    for (name, callers, under_way) in [
        ("enqueue one by one", 1, 1),
        ("enqueue, 64 callers", 64, 1),
        ("enqueue, 64 callers, two calls under way", 64, 2),
        ("enqueue, 64 callers, four calls under way", 64, 4),
        ("enqueue, 64 callers, not coalesced", 64, 64),
    ] {
        server.flush(&link).await?;
        let submitters = (0..under_way)
            .map(|_| anyhow::Ok(Submitter::start(queue(&link)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let begun = Instant::now();
        let each = count / callers;
        let mut tasks = Vec::new();
        for caller in 0..callers {
            let submitter = submitters[caller % under_way].clone();
            let payload = payload.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..each {
                    submitter.submit(vec![task(&payload)?], true, None, PATIENCE).await?;
                }
                anyhow::Ok(())
            }));
        }
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
    let (queue, payload) = (queue(&link)?, payload(PAYLOAD));
    let submitter = Submitter::start(queue.clone());
    while queue.overview().await?.parked == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut pickups, mut pings) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let begun = Instant::now();
        link.call(&redis::cmd("PING")).await?;
        pings.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        submitter.submit(vec![task(&payload)?], true, None, PATIENCE).await?;
        let at = seen
            .recv()
            .await
            .ok_or_else(|| anyhow::anyhow!("the worker has ended"))?;
        pickups.push(at.saturating_duration_since(begun).as_secs_f64() * 1e6);
        // Until the worker is parked again the queue is not idle.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    worker.await??;
    let note = format!("{count} tasks, one at a time, idle queue");
    Ok(vec![
        figure(
            "PING p50",
            percentile(&mut pings, 0.5),
            "us",
            "same connection, same run",
        ),
        figure("pickup p50", percentile(&mut pickups, 0.5), "us", note.clone()),
        figure("pickup p99", percentile(&mut pickups, 0.99), "us", note.clone()),
        figure("pickup p99.9", percentile(&mut pickups, 0.999), "us", note),
    ])
}
