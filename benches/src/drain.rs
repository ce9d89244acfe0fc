//! Bulk enqueue, then a drain of no-op tasks by daemons: rates, CPU, bytes.
//!
//! The queue is paused until all daemons wait for work, so that neither their start nor the enqueue is in the
//! drain's figures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use workyard_shared::broker::Queue;
use workyard_shared::crypto::KeyRing;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::submit::Submitter;

use crate::daemon::Daemon;
use crate::figures::{Figure, figure, micros, per_second, per_task};
use crate::measure::{PATIENCE, PAYLOAD, payload, queue, task};
use crate::server::Server;

/// Tasks in one call of the bulk enqueue where nothing else is said, and most bytes of payload.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 2 << 20;
/// Pause between looks at a queue that drains.
const LOOK: Duration = Duration::from_millis(5);

/// What is drained, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    pub(crate) consumer: &'a Path,
    /// Tasks that are enqueued.
    pub(crate) tasks: usize,
    /// The drain is over when so many are done.
    pub(crate) enough: usize,
    pub(crate) payload: usize,
    /// Tasks in one call of the bulk enqueue.
    pub(crate) call: usize,
    pub(crate) daemons: usize,
    /// Tasks at once in each daemon.
    pub(crate) concurrency: usize,
    /// Where producers and daemons connect: the server, or a proxy before it.
    pub(crate) url: String,
    /// What producers seal and sign with.
    pub(crate) keys: Option<Arc<KeyRing>>,
    /// What else stands in the daemon's file, from the handler's table on ...
    pub(crate) settings: String,
    /// ... and before its tables.
    pub(crate) above: String,
}

impl<'a> Load<'a> {
    /// One daemon, 100 bytes, all of it.
    pub(crate) fn new(server: &Server, consumer: &'a Path, tasks: usize, concurrency: usize) -> Self {
        Self {
            consumer,
            tasks,
            enough: tasks,
            payload: PAYLOAD,
            call: CHUNK,
            daemons: 1,
            concurrency,
            url: server.url(),
            keys: None,
            settings: String::new(),
            above: String::new(),
        }
    }
}

/// What came of it; CPU in microseconds per task.
#[derive(Debug, Default, Clone)]
pub(crate) struct Drained {
    pub(crate) enqueue_rate: f64,
    pub(crate) drain_rate: f64,
    pub(crate) redis_enqueue: f64,
    pub(crate) redis_drain: f64,
    /// Share of the drain's time that Redis was not busy.
    pub(crate) redis_idle: f64,
    pub(crate) daemon: f64,
    pub(crate) bytes: f64,
    /// Most memory of one daemon, in bytes.
    pub(crate) resident: u64,
}

/// Enqueues in bulk over two submitters.
pub(crate) async fn fill(load: &Load<'_>) -> anyhow::Result<Duration> {
    let payload = payload(load.payload);
    let chunk = (CHUNK_BYTES / load.payload.max(1)).clamp(1, load.call);
    let begun = Instant::now();
    let mut lanes = Vec::new();
    for lane in 0..2 {
        let (link, payload) = (Link::new(LinkConfig::from_url(&load.url)?, None)?, payload.clone());
        let keys = load.keys.clone();
        let mine = load.tasks / 2 + if lane == 0 { load.tasks % 2 } else { 0 };
        lanes.push(tokio::spawn(async move {
            let queue = queue(&link)?;
            let name = queue.name().clone();
            let submitter = Submitter::start(queue);
            let mut left = mine;
            while left > 0 {
                let mut tasks = (0..left.min(chunk))
                    .map(|_| task(&payload))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                if let Some(keys) = &keys {
                    for (id, task) in &mut tasks {
                        keys.protect(&name, id, task)?;
                    }
                }
                left -= tasks.len();
                submitter.submit(tasks, true, None, PATIENCE).await?;
            }
            anyhow::Ok(())
        }));
    }
    for lane in lanes {
        lane.await??;
    }
    Ok(begun.elapsed())
}

/// Fills an empty queue in bulk. It stays paused.
pub(crate) async fn filled(server: &Server, load: &Load<'_>) -> anyhow::Result<Drained> {
    filled_by(server, load, || fill(load)).await
}

/// Fills an empty queue with what says how long it took. It stays paused.
pub(crate) async fn filled_by(
    server: &Server,
    load: &Load<'_>,
    fill: impl AsyncFnOnce() -> anyhow::Result<Duration>,
) -> anyhow::Result<Drained> {
    let link = server.link().await?;
    server.flush(&link).await?;
    link.ensure_library().await?;
    queue(&link)?.set_paused(true).await?;
    let (memory, cpu) = (server.memory(&link).await?, server.cpu(&link).await?);
    let took = fill().await?;
    let cpu = server.cpu(&link).await? - cpu;
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    let bytes = server.memory(&link).await?.saturating_sub(memory) as f64;
    Ok(Drained {
        enqueue_rate: per_second(load.tasks, took),
        redis_enqueue: micros(cpu, load.tasks),
        bytes: per_task(bytes, load.tasks),
        ..Drained::default()
    })
}

/// Drains a filled queue, and completes its figures.
pub(crate) async fn drained(server: &Server, load: &Load<'_>, so_far: Drained) -> anyhow::Result<Drained> {
    let link = server.link().await?;
    let queue = queue(&link)?;
    let daemons = (0..load.daemons)
        .map(|_| {
            let text = Daemon::file(&load.above, &load.settings);
            Daemon::with_file(load.consumer, &load.url, load.concurrency, &text)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    while queue.overview().await?.parked < load.daemons as u64 {
        tokio::time::sleep(LOOK).await;
    }
    let spent = || daemons.iter().map(Daemon::cpu).sum::<Duration>();
    let (cpu, cpu_daemons, begun) = (server.cpu(&link).await?, spent(), Instant::now());
    queue.set_paused(false).await?;
    let done = await_rest(&link, &queue, load).await?;
    let took = begun.elapsed();
    let (cpu, cpu_daemons) = (server.cpu(&link).await? - cpu, spent() - cpu_daemons);
    Ok(Drained {
        drain_rate: per_second(done, took),
        redis_drain: micros(cpu, done),
        redis_idle: (1.0 - cpu.as_secs_f64() / took.as_secs_f64()).max(0.0),
        daemon: micros(cpu_daemons, done),
        resident: daemons.iter().map(Daemon::resident).max().unwrap_or(0),
        ..so_far
    })
}

/// Until enough are done; answers how many that were. One HLEN a look: a slow drain must not be billed for its watcher.
pub(crate) async fn await_rest(link: &Link, queue: &Queue, load: &Load<'_>) -> anyhow::Result<usize> {
    let mut left = redis::cmd("HLEN");
    left.arg(queue.keys().named("tasks"));
    loop {
        let redis::Value::Int(left) = link.call(&left).await? else {
            anyhow::bail!("HLEN did not answer with a number");
        };
        let done = load.tasks.saturating_sub(usize::try_from(left)?);
        if done >= load.enough {
            return Ok(done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The whole: fill, then drain.
pub(crate) async fn fill_and_drain(server: &Server, load: &Load<'_>) -> anyhow::Result<Drained> {
    let so_far = filled(server, load).await?;
    drained(server, load, so_far).await
}

/// The main figures.
pub(crate) async fn throughput(server: &Server, load: &Load<'_>) -> anyhow::Result<Vec<Figure>> {
    let seen = fill_and_drain(server, load).await?;
    let by = format!(
        "one workyard-consumer process, concurrency {}, no-op tasks, results not kept",
        load.concurrency
    );
    let calls = format!("{} tasks, calls of {CHUNK}", load.tasks);
    let whole = seen.redis_enqueue + seen.redis_drain;
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    let resident = seen.resident as f64 / 1e6;
    Ok(vec![
        figure("enqueue in bulk", seen.enqueue_rate, "/s", calls),
        figure("drain", seen.drain_rate, "/s", by),
        figure("Redis idle during the drain", seen.redis_idle * 100.0, "%", ""),
        figure("Redis CPU, enqueue", seen.redis_enqueue, "us/task", "in bulk"),
        figure("Redis CPU, claim + complete", seen.redis_drain, "us/task", ""),
        figure("Redis CPU, whole life", whole, "us/task", ""),
        figure("daemon CPU", seen.daemon, "us/task", "claim, run, complete"),
        figure("daemon memory", resident, "MB", "most resident during the drain"),
        figure(
            "memory",
            seen.bytes,
            "B/task",
            "queued, 100 bytes of payload, UUIDv7 id",
        ),
    ])
}
