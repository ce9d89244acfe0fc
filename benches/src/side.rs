//! Side by side: the same modes for Workyard and every peer, one after the other on one Redis.
//!
//! A peer that is not there, or fails in a mode, stays in the table with the reason; a mode that failed bars neither the others
//! nor the next round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use workyard_shared::link::Link;

use crate::figures::{Figure, cell, micros, per_task};
use crate::harness::{Harness, Place, Report, install, run};
use crate::peers::{Kind, PEERS, Peer};
use crate::proxy;
use crate::server::{Server, url};

pub(crate) const RATES: &str = "Side by side: rates";
pub(crate) const COSTS: &str = "Side by side: costs per task";
pub(crate) const IDLE: &str = "Side by side: pickup on an idle queue";
pub(crate) const HALF: &str = "Side by side: pickup at half load";
pub(crate) const PICKUP: [&str; 3] = ["p50", "p99", "p99.9"];
/// One thing varied, one round: added in bulk, by 64 callers where a peer has no bulk call; and drained.
pub(crate) const VARIED_ADD: &str =
    "Side by side: enqueue, in bulk where there is such a call, with one thing varied (one round)";
pub(crate) const VARIED_DRAIN: &str = "Side by side: drain, with one thing varied (one round)";

/// Tasks of a single caller.
const ONES: usize = 5_000;
/// Tasks of the idle pickup, and how many a second at most.
const IDLE_TASKS: usize = 500;
const IDLE_RATE: f64 = 200.0;
/// Seconds of half load.
const HALF_SECONDS: f64 = 3.0;
/// From an enqueue's end until Redis has freed what its client needed.
const CALM: Duration = Duration::from_millis(200);
/// Tasks before those that are drained, for peers that get through so many in a minute.
const BACKLOG: usize = 1_000_000;

/// The peers of this run, and why some of them are not measured.
#[derive(Debug)]
pub(crate) struct Field {
    place: Place,
    pub(crate) peers: Vec<Peer>,
    /// By peer: why it could not be installed.
    absent: BTreeMap<&'static str, String>,
    /// By peer: the modes that failed, and why.
    failures: BTreeMap<&'static str, Vec<String>>,
    pub(crate) versions: BTreeMap<&'static str, String>,
}

impl Field {
    /// Installs the peers whose names `wanted` admits.
    pub(crate) async fn install(
        root: PathBuf,
        sources: &Path,
        url: String,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Self> {
        let sources = sources.to_owned();
        let peers: Vec<Peer> = PEERS.into_iter().filter(|peer| wanted(peer.name)).collect();
        let (mut absent, mut versions) = (BTreeMap::new(), BTreeMap::new());
        let mut groups: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for peer in &peers {
            if let Kind::Absent(reason) = peer.kind {
                absent.insert(peer.name, reason.to_owned());
            }
            if let Some((group, folder)) = peer.folder(&root) {
                if !groups.contains_key(group) {
                    eprintln!("# installing the {group} peers into {}", folder.display());
                    let failed = install(group, &folder, &sources).await.err();
                    groups.insert(group, failed.map(|error| error.to_string()));
                }
                if let Some(reason) = groups.get(group).cloned().flatten() {
                    absent.insert(peer.name, reason);
                }
            }
            versions.insert(peer.name, peer.version(&root, &sources));
        }
        let place = Place {
            root,
            sources,
            url,
            payload: 100,
        };
        Ok(Self {
            place,
            peers,
            absent,
            failures: BTreeMap::new(),
            versions,
        })
    }

    /// Why there are no figures of a peer, or not all.
    pub(crate) fn reason(&self, name: &str) -> String {
        let failures = self.failures.get(name).map(|all| all.join("; "));
        self.absent.get(name).cloned().or(failures).unwrap_or_default()
    }

    /// One round over all peers.
    pub(crate) async fn round(&mut self, server: &Server) -> anyhow::Result<Vec<Figure>> {
        self.each(server, async |bout| bout.all().await).await
    }

    /// One round over all peers with one thing varied.
    pub(crate) async fn varied(&mut self, server: &Server) -> anyhow::Result<Vec<Figure>> {
        self.each(server, async |bout| bout.varied().await).await
    }

    async fn each(&mut self, server: &Server, work: impl AsyncFn(&mut Bout<'_>)) -> anyhow::Result<Vec<Figure>> {
        let link = server.link().await?;
        let mut figures = Vec::new();
        for peer in &self.peers {
            if self.absent.contains_key(peer.name) {
                continue;
            }
            eprintln!("#   {}", peer.name);
            let mut bout = Bout {
                peer: *peer,
                place: self.place.clone(),
                server,
                link: &link,
                figures: Vec::new(),
                failures: Vec::new(),
            };
            work(&mut bout).await;
            server.flush(&link).await?;
            figures.extend(bout.figures);
            if !bout.failures.is_empty() {
                self.failures.entry(peer.name).or_default().extend(bout.failures);
            }
        }
        Ok(figures)
    }
}

/// One peer in one round.
struct Bout<'a> {
    peer: Peer,
    place: Place,
    server: &'a Server,
    link: &'a Link,
    figures: Vec<Figure>,
    failures: Vec<String>,
}

impl Bout<'_> {
    fn note(&mut self, table: &'static str, column: &'static str, unit: &'static str, value: f64) {
        self.figures.push(cell(table, self.peer.name, column, unit, value));
    }

    /// What a measurement gave; a failure is written down.
    fn seen<T>(&mut self, what: &str, outcome: anyhow::Result<T>) -> Option<T> {
        outcome
            .inspect_err(|error| {
                eprintln!("#   {}, {what}: {error:#}", self.peer.name);
                self.failures.push(format!("{what}: {error:#}"));
            })
            .ok()
    }

    async fn mode(&self, mode: &str, count: usize) -> anyhow::Result<Report> {
        run(&self.place, &self.peer, &[mode.to_owned(), count.to_string()]).await
    }

    async fn flush(&self) -> anyhow::Result<()> {
        self.server.flush(self.link).await
    }

    async fn all(&mut self) {
        let one = self.added("one", ONES).await;
        self.rate("enqueue one by one", one);
        let many = self.added("many", self.peer.many).await;
        let many = self.rate("enqueue, 64 callers", many);
        if self.peer.bulk > 0 {
            let bulk = self.added("bulk", self.peer.bulk).await;
            self.rate("enqueue in bulk", bulk);
        }
        let drain = self.fill_and_drain().await;
        let drain = self.seen("drain", drain);
        let idle = self.idle().await;
        self.seen("idle pickup", idle);
        if let (Some(drain), Some(many)) = (drain, many) {
            let half = self.half_load(drain, many).await;
            self.seen("pickup at half load", half);
        }
        if self.peer.cycle {
            let cycle = self.cycle().await;
            self.seen("full cycle", cycle);
        }
    }

    /// Adds tasks to an empty queue.
    async fn added(&self, mode: &str, count: usize) -> anyhow::Result<Report> {
        self.flush().await?;
        self.mode(mode, count).await
    }

    fn rate(&mut self, column: &'static str, outcome: anyhow::Result<Report>) -> Option<f64> {
        let rate = self.seen(column, outcome)?.rate();
        self.note(RATES, column, "/s", rate);
        Some(rate)
    }

    /// Fills an empty queue the fastest way that the peer has.
    async fn filled(&self, count: usize) -> anyhow::Result<Report> {
        self.added(if self.peer.bulk > 0 { "bulk" } else { "many" }, count)
            .await
    }

    /// Fills the queue, then drains it; answers the drain's rate.
    async fn fill_and_drain(&mut self) -> anyhow::Result<f64> {
        self.flush().await?;
        let (memory, cpu) = (self.server.memory(self.link).await?, self.server.cpu(self.link).await?);
        let filled = self.filled(self.peer.tasks).await?;
        let spent = self.server.cpu(self.link).await? - cpu;
        self.note(COSTS, "Redis CPU, enqueue", "us", micros(spent, filled.count));
        tokio::time::sleep(CALM).await;
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
        let bytes = self.server.memory(self.link).await?.saturating_sub(memory) as f64;
        self.note(COSTS, "bytes queued", "B", per_task(bytes, filled.count));

        let cpu = self.server.cpu(self.link).await?;
        let drained = self.mode("work", filled.count).await?;
        let spent = self.server.cpu(self.link).await? - cpu;
        self.note(RATES, "drain", "/s", drained.rate());
        self.note(COSTS, "Redis CPU, drain", "us", micros(spent, drained.count));
        self.note(
            COSTS,
            "worker CPU, drain",
            "us",
            per_task(drained.cpu * 1e6, drained.count),
        );
        Ok(drained.rate())
    }

    /// Persistence, round trip, payload, backlog: each alone.
    async fn varied(&mut self) {
        let tasks = self.peer.tasks;
        for policy in ["everysec", "always"] {
            let outcome = self.with_aof(policy, tasks).await;
            self.seen(policy, outcome);
        }
        let outcome = self.with_delay(tasks).await;
        self.seen("1 ms", outcome);
        for (column, bytes, share) in [("10 kB", 10_000, 4), ("1 MB", 1_000_000, 400)] {
            self.place.payload = bytes;
            let tasks = (tasks / share).max(64).next_multiple_of(64);
            let outcome = self.pair(column, tasks, tasks).await;
            self.seen(column, outcome);
        }
        self.place.payload = 100;
        if self.peer.backlog {
            // Only as many are drained as in the other drains.
            let outcome = self.pair("1M queued", BACKLOG, tasks).await;
            self.seen("1M queued", outcome);
        }
    }

    async fn pair(&mut self, column: &'static str, fill: usize, drain: usize) -> anyhow::Result<()> {
        let filled = self.filled(fill).await?;
        self.note(VARIED_ADD, column, "/s", filled.rate());
        tokio::time::sleep(CALM).await;
        let drained = self.mode("work", drain).await?;
        self.note(VARIED_DRAIN, column, "/s", drained.rate());
        Ok(())
    }

    async fn with_aof(&mut self, policy: &'static str, tasks: usize) -> anyhow::Result<()> {
        self.flush().await?;
        self.server.aof(self.link, policy).await?;
        let outcome = self.pair(policy, tasks, tasks).await;
        self.server.aof(self.link, "off").await?;
        outcome
    }

    async fn with_delay(&mut self, tasks: usize) -> anyhow::Result<()> {
        let through = proxy::start(self.server.address(), Duration::from_millis(1))?;
        let direct = std::mem::replace(&mut self.place.url, url(through.port()));
        let outcome = self.pair("1 ms", tasks, tasks).await;
        self.place.url = direct;
        outcome
    }

    /// Half of what a producer and a worker reach together, when they share the machine.
    async fn half_load(&mut self, drain: f64, many: f64) -> anyhow::Result<()> {
        let half = 0.5 / (1.0 / drain + 1.0 / many);
        self.note(HALF, "rate", "/s", half);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred thousand"
        )]
        let tasks = ((half * HALF_SECONDS) as usize).clamp(200, 300_000);
        self.pickup(HALF, tasks, half).await
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        // The slow ones get fewer a second, or their queue would not be idle.
        let rate = IDLE_RATE.min(self.peer.tasks as f64 / 30.0);
        let tasks = if rate < IDLE_RATE { IDLE_TASKS / 4 } else { IDLE_TASKS };
        self.pickup(IDLE, tasks, rate).await
    }

    /// A worker waits; a feeder adds tasks at a rate; from each send to the handler's first line.
    async fn pickup(&mut self, table: &'static str, tasks: usize, rate: f64) -> anyhow::Result<()> {
        self.flush().await?;
        let work = ["work".to_owned(), tasks.to_string()];
        let worker = Harness::worker(&self.place, &self.peer, &work).await?;
        let feed = ["feed".to_owned(), tasks.to_string(), rate.to_string()];
        run(&self.place, &self.peer, &feed).await?;
        let seen = worker.report().await?;
        for (column, value) in PICKUP.into_iter().zip([seen.p50_us, seen.p99_us, seen.p999_us]) {
            self.note(table, column, "us", value);
        }
        Ok(())
    }

    /// 64 producers each add a task and wait for its result.
    async fn cycle(&mut self) -> anyhow::Result<()> {
        self.flush().await?;
        let tasks = (self.peer.tasks / 4).next_multiple_of(64);
        let work = ["work".to_owned(), tasks.to_string(), "keep".to_owned()];
        let worker = Harness::worker(&self.place, &self.peer, &work).await?;
        let cycled = self.mode("cycle", tasks).await?;
        worker.report().await?;
        self.note(RATES, "full cycle, 64 callers", "/s", cycled.rate());
        Ok(())
    }
}
