//! Side by side: the same modes for Workyard and every peer, one after the other on one Redis.
//!
//! A peer that is not there, or fails, stays in the table with the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use workyard_shared::link::Link;

use crate::figures::{Figure, cell, micros, per_task};
use crate::harness::{Harness, Place, Report, install, run};
use crate::peers::{Kind, PEERS, Peer};
use crate::server::Server;

pub(crate) const RATES: &str = "Side by side: rates";
pub(crate) const COSTS: &str = "Side by side: costs per task";
pub(crate) const IDLE: &str = "Side by side: pickup on an idle queue";
pub(crate) const HALF: &str = "Side by side: pickup at half load";
pub(crate) const PICKUP: [&str; 3] = ["p50", "p99", "p99.9"];

/// Tasks of the idle pickup, and how many a second at most.
const IDLE_TASKS: usize = 500;
const IDLE_RATE: f64 = 200.0;
/// Seconds of half load.
const HALF_SECONDS: f64 = 3.0;
/// From an enqueue's end until Redis has freed what its client needed.
const CALM: Duration = Duration::from_millis(200);

/// The peers of this run, and why some of them are not measured.
#[derive(Debug)]
pub(crate) struct Field {
    place: Place,
    pub(crate) peers: Vec<Peer>,
    /// By peer: what went wrong, first word first.
    pub(crate) reasons: BTreeMap<&'static str, String>,
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
        let (mut reasons, mut versions) = (BTreeMap::new(), BTreeMap::new());
        let mut groups: BTreeMap<&str, Option<String>> = BTreeMap::new();
        for peer in &peers {
            if let Kind::Absent(reason) = peer.kind {
                reasons.insert(peer.name, reason.to_owned());
            }
            if let Some((group, folder)) = peer.folder(&root) {
                if !groups.contains_key(group) {
                    eprintln!("# installing the {group} peers into {}", folder.display());
                    let failed = install(group, &folder, &sources).await.err();
                    groups.insert(group, failed.map(|error| error.to_string()));
                }
                if let Some(reason) = groups.get(group).cloned().flatten() {
                    reasons.insert(peer.name, reason);
                }
            }
            versions.insert(peer.name, peer.version(&root, &sources));
        }
        let place = Place { root, sources, url };
        Ok(Self {
            place,
            peers,
            reasons,
            versions,
        })
    }

    /// One round over all peers.
    pub(crate) async fn round(&mut self, server: &Server) -> anyhow::Result<Vec<Figure>> {
        let link = server.link().await?;
        let mut figures = Vec::new();
        for peer in self.peers.clone() {
            if self.reasons.contains_key(peer.name) {
                continue;
            }
            eprintln!("#   {}", peer.name);
            let mut bout = Bout {
                peer,
                place: &self.place,
                server,
                link: &link,
                figures: Vec::new(),
            };
            if let Err(error) = bout.all().await {
                eprintln!("#   {}: {error:#}", peer.name);
                self.reasons.insert(peer.name, format!("{error:#}"));
            }
            figures.extend(bout.figures);
        }
        Ok(figures)
    }
}

/// One peer in one round.
struct Bout<'a> {
    peer: Peer,
    place: &'a Place,
    server: &'a Server,
    link: &'a Link,
    figures: Vec<Figure>,
}

impl Bout<'_> {
    fn note(&mut self, table: &'static str, column: &'static str, unit: &'static str, value: f64) {
        self.figures.push(cell(table, self.peer.name, column, unit, value));
    }

    async fn mode(&self, mode: &str, count: usize) -> anyhow::Result<Report> {
        run(self.place, &self.peer, &[mode.to_owned(), count.to_string()]).await
    }

    async fn flush(&self) -> anyhow::Result<()> {
        self.server.flush(self.link).await
    }

    async fn all(&mut self) -> anyhow::Result<()> {
        self.flush().await?;
        let one = self.mode("one", (self.peer.tasks / 10).max(200)).await?;
        self.note(RATES, "enqueue one by one", "/s", one.rate());
        self.flush().await?;
        let many = self.mode("many", self.peer.tasks).await?;
        self.note(RATES, "enqueue, 64 callers", "/s", many.rate());
        let drain = self.fill_and_drain().await?;
        self.idle().await?;
        // What a producer and a worker reach together, when they share the machine; half of it.
        let half = 0.5 / (1.0 / drain + 1.0 / many.rate());
        self.note(HALF, "rate", "/s", half);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few hundred thousand"
        )]
        let tasks = ((half * HALF_SECONDS) as usize).clamp(200, 300_000);
        // A worker that does not get through this has its other figures nevertheless.
        let paced = self.pickup(HALF, tasks, half).await;
        if self.peer.cycle {
            self.cycle().await?;
        }
        self.flush().await?;
        paced
    }

    /// Fills the queue, then drains it; answers the drain's rate.
    async fn fill_and_drain(&mut self) -> anyhow::Result<f64> {
        self.flush().await?;
        let (memory, cpu) = (self.server.memory(self.link).await?, self.server.cpu(self.link).await?);
        let filled = self
            .mode(if self.peer.bulk { "bulk" } else { "many" }, self.peer.tasks)
            .await?;
        if self.peer.bulk {
            self.note(RATES, "enqueue in bulk", "/s", filled.rate());
        }
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
        let worker = Harness::worker(self.place, &self.peer, &work).await?;
        let feed = ["feed".to_owned(), tasks.to_string(), rate.to_string()];
        run(self.place, &self.peer, &feed).await?;
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
        let worker = Harness::worker(self.place, &self.peer, &work).await?;
        let cycled = self.mode("cycle", tasks).await?;
        worker.report().await?;
        self.note(RATES, "full cycle, 64 callers", "/s", cycled.rate());
        Ok(())
    }
}
