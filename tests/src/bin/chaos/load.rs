//! The load: producers of every sort, each with a ledger of what was accepted.
//!
//! Invariant: what is in a ledger was answered for by Redis, and is synced there before the producer goes on. A call without an answer
//! is sent again if its ids are the caller's own, and else written down as one that may have been applied.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use workyard_producer::{Client, ClientConfig, Durability, Error, NewTask, QueueName, Receipt, task};
use workyard_shared::acl::Role;
use workyard_tests::{monotonic_ms, queue_name};

use crate::args::Args;
use crate::inbox::Inbox;
use crate::ledger::{Ledger, Level};
use crate::mutant::Mutant;
use crate::profile::Profile;

/// How often a producer sends.
const TICK: Duration = Duration::from_millis(50);
/// Ticks that a producer may catch up in one.
const CATCH_UP: f64 = 2.0;
/// How long a replica may take to confirm: without one, producers go on at this pace.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
/// Pause between jobs.
const JOB_EVERY: Duration = Duration::from_secs(2);
/// Every so many batches a task of the batch is cancelled.
const CANCEL_EVERY: u64 = 20;

/// How a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Batches in calls of their own; ids are made.
    Bulk,
    /// Single tasks that go together; ids are made. Confirmed by a replica where there is one.
    Singles,
    /// Batches under ids of the producer's, sent until they are answered for. On the disk if the server says so, or confirmed by a replica.
    OwnIds,
    /// Plain pushes to the inbox, as from any Redis client.
    Inbox,
}

const WAYS: [(Way, f64); 4] = [
    (Way::Bulk, 0.35),
    (Way::Singles, 0.3),
    (Way::OwnIds, 0.3),
    (Way::Inbox, 0.05),
];

/// How many producers there are that have a ledger, the one of jobs left out.
pub(crate) const PRODUCERS: usize = WAYS.len();

struct Producer {
    way: Way,
    client: Client,
    /// Who cancels: producers may not.
    operator: Client,
    inbox: Inbox,
    queue: QueueName,
    ledger: Ledger,
    stop: CancellationToken,
    /// What it writes down in the place of what receipts say: a mutant.
    claims: Option<Level>,
    /// How many percent of its tasks take seconds.
    long: f64,
    batches: u64,
}

/// Starts all producers of the load; `url_of` says where Redis is for who has a role.
pub(crate) fn start(
    url_of: impl Fn(Role) -> String,
    dir: &Path,
    args: &Args,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<JoinHandle<anyhow::Result<()>>>> {
    let mut running = Vec::new();
    for (index, (way, share)) in WAYS.into_iter().enumerate() {
        let mut config = ClientConfig::from_url(&url_of(Role::Producer))?;
        if args.profile.is_replicated() {
            config.confirm_within = CONFIRM_WITHIN;
        }
        let client = Client::new(config)?;
        let unconfirmed = args.mutant == Some(Mutant::Unconfirmed);
        let durability = if unconfirmed {
            Durability::Memory
        } else {
            way.durability(args.profile)
        };
        let producer = Producer {
            way,
            client: client.with_durability(durability),
            inbox: Inbox::new(client.broker().queue(&queue_name("q"))),
            operator: Client::new(ClientConfig::from_url(&url_of(Role::Operator))?)?,
            queue: queue_name("q"),
            ledger: Ledger::create(dir, index)?,
            stop: stop.clone(),
            claims: unconfirmed.then_some(args.profile.covering_level()),
            long: args.long,
            batches: 0,
        };
        running.push(tokio::spawn(producer.run(f64::from(args.rate) * share)));
    }
    let client = Client::new(ClientConfig::from_url(&url_of(Role::Producer))?)?;
    running.push(tokio::spawn(jobs(
        client,
        Ledger::create(dir, WAYS.len())?,
        stop.clone(),
    )));
    Ok(running)
}

impl Way {
    /// What it asks for; the others do without, so that losses show what that is worth.
    fn durability(self, profile: Profile) -> Durability {
        match self {
            Self::OwnIds => profile.covering(),
            Self::Singles if profile.is_replicated() => profile.covering(),
            Self::Singles | Self::Bulk | Self::Inbox => Durability::Memory,
        }
    }
}

impl Producer {
    async fn run(mut self, rate: f64) -> anyhow::Result<()> {
        let per_tick = rate * TICK.as_secs_f64();
        let (begun, mut sent) = (Instant::now(), 0.0);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let behind = begun.elapsed().as_secs_f64() * rate - sent;
            let count = behind.clamp(0.0, per_tick.max(1.0) * CATCH_UP).floor();
            if count >= 1.0 {
                sent += count;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "small and positive"
                )]
                self.batch(count as usize).await?;
            }
        }
        Ok(())
    }

    async fn batch(&mut self, count: usize) -> anyhow::Result<()> {
        self.batches += 1;
        let ids = match self.way {
            Way::Bulk => self.bulk(count).await?,
            Way::Singles => self.singles(count).await?,
            Way::OwnIds => self.own_ids(count).await?,
            Way::Inbox => self.push(count).await?,
        };
        if self.batches.is_multiple_of(CANCEL_EVERY)
            && let Some(id) = ids.first()
        {
            // Whether it comes in time is all the same: the task ends one way or the other.
            self.operator.cancel(&self.queue, id).await.ok();
        }
        Ok(())
    }

    async fn bulk(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let tasks = (0..count).map(|_| self.new_task(None)).collect::<Result<_, _>>()?;
        let sent_ms = monotonic_ms();
        self.note(sent_ms, self.client.enqueue_many(&self.queue, tasks).await, count)
    }

    async fn singles(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let tasks: Vec<NewTask> = (0..count).map(|_| self.new_task(None)).collect::<Result<_, _>>()?;
        let calls = tasks.into_iter().map(|task| self.client.enqueue(&self.queue, task));
        let (sent_ms, mut ids) = (monotonic_ms(), Vec::new());
        for answer in futures_util::future::join_all(calls).await {
            match answer {
                Ok(receipt) => ids.push(receipt),
                Err(error) => {
                    self.note(sent_ms, Err(error), 1)?;
                }
            }
        }
        self.note(sent_ms, Ok(ids), 0)
    }

    async fn own_ids(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let ids: Vec<String> = (0..count).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        let tasks: Vec<NewTask> = ids.iter().map(|id| self.new_task(Some(id))).collect::<Result<_, _>>()?;
        self.on_disk(|| self.ledger.tried(&ids))?;
        let sent_ms = monotonic_ms();
        while !self.stop.is_cancelled() {
            match self.client.enqueue_many(&self.queue, tasks.clone()).await {
                Err(error) if error.is_temporary() => {}
                other => return self.note(sent_ms, other, 0),
            }
        }
        Ok(Vec::new())
    }

    async fn push(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let ids: Vec<String> = (0..count).map(|_| uuid::Uuid::new_v4().to_string()).collect();
        self.on_disk(|| self.ledger.tried(&ids))?;
        let sent_ms = monotonic_ms();
        while !self.stop.is_cancelled() {
            if self.inbox.push(&ids).await? {
                self.on_disk(|| self.ledger.accepted(sent_ms, "memory", &ids))?;
                return Ok(ids);
            }
        }
        Ok(Vec::new())
    }

    /// Writes down what an answer says; the ids that were accepted.
    fn note(&self, sent_ms: u64, answer: Result<Vec<Receipt>, Error>, count: usize) -> anyhow::Result<Vec<String>> {
        let receipts = match answer {
            Ok(receipts) => receipts,
            Err(error) if error.is_temporary() => {
                self.on_disk(|| self.ledger.maybe(count))?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        // Tasks that went together may still have gone in several calls.
        let mut levels: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for receipt in &receipts {
            let says = self
                .claims
                .map_or_else(|| receipt.durability.to_string(), |level| level.name().to_owned());
            let level = levels.entry(says).or_default();
            level.push(receipt.id.to_string());
        }
        for (level, ids) in &levels {
            self.on_disk(|| self.ledger.accepted(sent_ms, level, ids))?;
        }
        Ok(levels.into_values().flatten().collect())
    }

    fn on_disk(&self, write: impl FnOnce() -> std::io::Result<()>) -> anyhow::Result<()> {
        Ok(tokio::task::block_in_place(write)?)
    }

    /// A task of the load: mostly short, some long; some fail, some are late, urgent, delayed or soon worthless.
    fn new_task(&self, id: Option<&str>) -> Result<NewTask, Error> {
        let ms = if fastrand::f64() * 100.0 < self.long {
            fastrand::u64(300..6000)
        } else {
            fastrand::u64(..15)
        };
        let plan = match fastrand::u32(..200) {
            0 => "fail",
            1..=3 => "retry",
            _ => "ok",
        };
        let mut builder = task("work").payload(&serde_json::json!({"ms": ms, "plan": plan}));
        if let Some(id) = id {
            builder = builder.id(id);
        }
        builder = match fastrand::u32(..100) {
            0 => builder.delay(Duration::from_millis(fastrand::u64(100..5000))),
            1 => builder.expires_in(Duration::from_millis(fastrand::u64(500..5000))),
            2..=10 => builder.priority(fastrand::u8(1..9)),
            _ => builder,
        };
        builder.build()
    }
}

/// Small map-reduce jobs, one after another.
async fn jobs(client: Client, ledger: Ledger, stop: CancellationToken) -> anyhow::Result<()> {
    let queue = queue_name("q");
    let mut ticks = tokio::time::interval(JOB_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let items = fastrand::i64(10..60);
        let job = client
            .map_reduce(&queue, "square", "add")
            .items(1..=items)
            .chunk_size(3)
            .fan_in(4);
        let sent_ms = monotonic_ms();
        match job.submit().await {
            Ok(job) => {
                let result = (1..=items).map(|n| n * n).sum();
                tokio::task::block_in_place(|| ledger.job(sent_ms, job.id().as_str(), result))?;
            }
            // A job without an answer is nobody's: its parts are not looked at.
            Err(error) if error.is_temporary() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
