//! One thing varied, all else as in the main figures: persistence, round trip, payload, consumers, backlog.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;
use workyard_shared::crypto::{KeyRing, Use, edit};
use workyard_shared::link::Link;
use workyard_shared::name::KeyId;

use crate::daemon::Daemon;
use crate::drain::{Drained, Load, drained, fill_and_drain, filled, filled_by};
use crate::figures::{Figure, cell, micros, per_second, percentile};
use crate::measure::queue;
use crate::server::{Server, url};
use crate::{collector, proxy};

pub(crate) const AOF: &str = "Append-only file";
pub(crate) const ROUND_TRIP: &str = "Added round trip, both sides through a proxy";
pub(crate) const PAYLOAD: &str = "Payload";
pub(crate) const CONSUMERS: &str = "Consumers";
pub(crate) const EXTRAS: &str = "Sealed, signed, traced";
pub(crate) const BULK: &str = "Bulk enqueue, tasks in a call, and the inbox";
pub(crate) const BACKLOG: &str = "Backlog";

/// Drains of a small backlog that make one figure.
const REPEATS: usize = 10;
/// Tasks of a large backlog whose drain is timed.
const SLICE: usize = 300_000;
/// Absent fields asked for in one command, to move a rehash on.
const PROBES: usize = 1000;
const REHASH_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait until one daemon has taken an inbox in.
const TAKING_IN: Duration = Duration::from_secs(60);

/// Bytes of the log that a busy Redis syncs at once, about: a batch of 100 ends.
const SYNCED: usize = 16 << 10;
const SYNCING: Duration = Duration::from_millis(500);

/// How often a second the disk below Redis' log syncs what was just written: with `always`, Redis does it in each turn that wrote.
fn syncs(dir: &Path) -> anyhow::Result<f64> {
    let mut log = File::create(dir.join("syncs"))?;
    let (block, begun, mut done) = (vec![b'x'; SYNCED], Instant::now(), 0);
    while begun.elapsed() < SYNCING {
        log.write_all(&block)?;
        log.sync_data()?;
        done += 1;
    }
    Ok(per_second(done, begun.elapsed()))
}

/// What the sweeps have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep<'a> {
    pub(crate) server: &'a Server,
    pub(crate) consumer: &'a Path,
    pub(crate) tasks: usize,
    pub(crate) concurrency: usize,
}

/// The columns of all sweeps.
fn row(table: &'static str, row: &str, seen: &Drained) -> Vec<Figure> {
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
    let resident = seen.resident as f64 / 1e6;
    let of = |column, unit, value| cell(table, row, column, unit, value);
    vec![
        of("enqueue in bulk", "/s", seen.enqueue_rate),
        of("drain", "/s", seen.drain_rate),
        of("Redis CPU, enqueue", "us", seen.redis_enqueue),
        of("Redis CPU, drain", "us", seen.redis_drain),
        of("Redis idle, drain", "%", seen.redis_idle * 100.0),
        of("daemon CPU", "us", seen.daemon),
        of("daemon memory", "MB", resident),
        of("bytes queued", "B", seen.bytes),
    ]
}

impl Sweep<'_> {
    fn load(&self, tasks: usize) -> Load<'_> {
        Load::new(self.server, self.consumer, tasks, self.concurrency)
    }

    pub(crate) async fn aof(&self) -> anyhow::Result<Vec<Figure>> {
        let link = self.server.link().await?;
        let mut figures = Vec::new();
        for policy in ["off", "everysec", "always"] {
            self.server.flush(&link).await?;
            self.server.aof(&link, policy).await?;
            let seen = fill_and_drain(self.server, &self.load(self.tasks)).await;
            self.server.aof(&link, "off").await?;
            figures.extend(row(AOF, policy, &seen?));
        }
        figures.push(cell(
            AOF,
            "always",
            "syncs of the disk",
            "/s",
            syncs(self.server.dir())?,
        ));
        Ok(figures)
    }

    pub(crate) async fn round_trip(&self) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        let one = Duration::from_millis(1);
        for (name, added, above) in [
            ("0 ms", Duration::ZERO, ""),
            ("1 ms", one, ""),
            // How much of what the trip costs is bought back by claiming further ahead.
            ("1 ms, prefetch 900", one, "prefetch = 900\n"),
            ("1 ms, prefetch 3900", one, "prefetch = 3900\n"),
            ("0 ms, prefetch 900", Duration::ZERO, "prefetch = 900\n"),
        ] {
            let through = url(proxy::start(self.server.address(), added)?.port());
            let load = Load {
                url: through.clone(),
                above: above.to_owned(),
                ..self.load(self.tasks)
            };
            let seen = fill_and_drain(self.server, &load).await?;
            figures.extend(row(ROUND_TRIP, name, &seen));
            figures.push(cell(ROUND_TRIP, name, "PING p50", "us", ping(&through).await?));
        }
        Ok(figures)
    }

    /// Calls of the function by their size; and plain pushes to the inbox, which consumers take in: what that costs is added.
    pub(crate) async fn bulk(&self) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for (name, call) in [("100", 100), ("250", 250), ("500", 500), ("1000", 1000)] {
            let load = Load {
                call,
                ..self.load(self.tasks)
            };
            figures.extend(row(BULK, name, &fill_and_drain(self.server, &load).await?));
        }
        let name = "inbox, pushes of 500";
        let (seen, taken_in, cpu) = self.inbox(&self.load(self.tasks)).await?;
        figures.extend(row(BULK, name, &seen));
        figures.push(cell(BULK, name, "taken in", "/s", taken_in));
        figures.push(cell(BULK, name, "Redis CPU, taken in", "us", cpu));
        Ok(figures)
    }

    /// Pushes, lets one daemon take all in while the queue is paused, drains; with the rate of the second and its CPU of Redis per task.
    async fn inbox(&self, load: &Load<'_>) -> anyhow::Result<(Drained, f64, f64)> {
        let link = self.server.link().await?;
        let queue = queue(&link)?;
        let pushed = filled_by(self.server, load, async || {
            let item = format!(
                r#"{{"kind":"noop","payload":"{}","retention":0}}"#,
                "x".repeat(load.payload - 2)
            );
            let (inbox, begun) = (queue.keys().named("inbox"), Instant::now());
            for first in (0..load.tasks).step_by(load.call) {
                let mut push = redis::cmd("RPUSH");
                push.arg(&inbox);
                (first..load.tasks.min(first + load.call)).for_each(|_| {
                    push.arg(&item);
                });
                link.call(&push).await?;
            }
            Ok(begun.elapsed())
        })
        .await?;
        let (cpu, begun) = (self.server.cpu(&link).await?, Instant::now());
        let daemon = Daemon::start(self.consumer, &load.url, self.concurrency, &load.settings)?;
        let mut tasks = redis::cmd("HLEN");
        tasks.arg(queue.keys().named("tasks"));
        while link.call(&tasks).await? != Value::Int(i64::try_from(load.tasks)?) {
            anyhow::ensure!(
                begun.elapsed() < TAKING_IN,
                "the inbox was not taken in within {TAKING_IN:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let taken_in = per_second(load.tasks, begun.elapsed());
        let cpu = micros(self.server.cpu(&link).await? - cpu, load.tasks);
        drop(daemon);
        Ok((drained(self.server, load, pushed).await?, taken_in, cpu))
    }

    pub(crate) async fn payload(&self) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        // The largest that is allowed stands for 1 MB.
        for (name, bytes, share) in [("100 B", 100, 1), ("10 kB", 10_000, 10), ("1 MB", 1_000_000, 1000)] {
            let load = Load {
                payload: bytes,
                ..self.load((self.tasks / share).max(100))
            };
            figures.extend(row(PAYLOAD, name, &fill_and_drain(self.server, &load).await?));
        }
        Ok(figures)
    }

    pub(crate) async fn consumers(&self) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for (name, daemons) in [("1", 1), ("2", 2), ("4", 4), ("8", 8)] {
            let load = Load {
                daemons,
                ..self.load(self.tasks)
            };
            figures.extend(row(CONSUMERS, name, &fill_and_drain(self.server, &load).await?));
        }
        Ok(figures)
    }

    /// What a task costs that is sealed, signed, or has spans: each alone, beside one that has nothing of it.
    pub(crate) async fn extras(&self) -> anyhow::Result<Vec<Figure>> {
        let collector = collector::start()?;
        let mut figures = Vec::new();
        for (name, usage, traced) in [
            ("plain", None, false),
            ("sealed", Some(Use::Encrypt), false),
            ("signed", Some(Use::Sign), false),
            ("traced", None, true),
        ] {
            let dir = tempfile::tempdir()?;
            let mut load = self.load(self.tasks);
            if let Some(usage) = usage {
                let (ours, theirs) = rings(usage)?;
                let file = dir.path().join("keys");
                std::fs::write(&file, theirs)?;
                std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
                let demand = if usage == Use::Sign { "signed = true\n\n" } else { "" };
                load.settings = format!("{demand}[keys]\nfile = {file:?}\n");
                load.keys = Some(Arc::new(KeyRing::parse(&ours).map_err(anyhow::Error::msg)?));
            }
            if traced {
                load.settings = format!("[telemetry]\nendpoint = \"http://{collector}\"\n");
            }
            figures.extend(row(EXTRAS, name, &fill_and_drain(self.server, &load).await?));
        }
        Ok(figures)
    }

    /// A small backlog is filled and drained several times; of a large one the first tasks are drained.
    pub(crate) async fn backlog(&self, sizes: &[(&str, usize)]) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for (name, size) in sizes {
            let mut load = self.load(*size);
            if *size > 100_000 {
                load.enough = SLICE.min(*size);
                let so_far = filled(self.server, &load).await?;
                let waited = rehashed(&self.server.link().await?).await?;
                figures.extend(row(BACKLOG, name, &drained(self.server, &load, so_far).await?));
                figures.push(cell(BACKLOG, *name, "rehash finished in", "s", waited.as_secs_f64()));
                continue;
            }
            for _ in 0..REPEATS {
                figures.extend(row(BACKLOG, name, &fill_and_drain(self.server, &load).await?));
            }
        }
        let link = self.server.link().await?;
        self.server.flush(&link).await?;
        Ok(figures)
    }
}

/// A new ring of one key for the producers, and what the consumers need of it.
fn rings(usage: Use) -> anyhow::Result<(String, String)> {
    let ours = edit::with_new_key("", usage, &KeyId::new("bench")?)?;
    let ring = KeyRing::parse(&ours).map_err(anyhow::Error::msg)?;
    let theirs = match usage {
        Use::Sign => ring.public_lines().join("\n"),
        Use::Encrypt | Use::Verify => ours.clone(),
    };
    Ok((ours, theirs))
}

/// The median of 200 round trips.
async fn ping(url: &str) -> anyhow::Result<f64> {
    let link = Link::new(workyard_shared::link::LinkConfig::from_url(url)?, None)?;
    let mut spans = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        link.call(&redis::cmd("PING")).await?;
        spans.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(percentile(&mut spans, 0.5))
}

/// Redis moves a growing hash to its new table a step per access, so a queue that was just filled is half way.
/// Asks for fields that are not there until the big keys are through; answers how long that took.
async fn rehashed(link: &Link) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let queue = queue(link)?;
    for (key, probe) in [("tasks", "HMGET"), ("pending", "ZMSCORE")] {
        let key = queue.keys().named(key);
        while rehashing(link, &key).await? {
            anyhow::ensure!(begun.elapsed() < REHASH_LIMIT, "{key} is still being rehashed");
            for _ in 0..500 {
                let mut cmd = redis::cmd(probe);
                cmd.arg(&key);
                (0..PROBES).for_each(|n| {
                    cmd.arg(format!("absent-{n}"));
                });
                link.call(&cmd).await?;
            }
        }
    }
    Ok(begun.elapsed())
}

async fn rehashing(link: &Link, key: &str) -> anyhow::Result<bool> {
    let mut cmd = redis::cmd("DEBUG");
    cmd.arg("HTSTATS-KEY").arg(key);
    let text = match link.call(&cmd).await? {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        other => anyhow::bail!("DEBUG HTSTATS-KEY answered {other:?}"),
    };
    Ok(text.contains("rehashing target"))
}
