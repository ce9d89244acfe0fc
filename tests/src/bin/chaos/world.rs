//! A run from its beginning to its report.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use workyard_producer::{Client, ClientConfig};
use workyard_shared::broker::{Overview, Queue};
use workyard_tests::{Fault, FaultProxy, monotonic_ms, queue_name};

use crate::args::Args;
use crate::check::check;
use crate::evidence::{Death, Event, Evidence, Known, fates, job_result};
use crate::fleet::Fleet;
use crate::mutant::Mutant;
use crate::plan::Step;
use crate::report::Report;
use crate::runs::Runs;
use crate::store::Store;
use crate::{load, watch};

/// How long the consumers may take to start.
const START: Duration = Duration::from_secs(60);
/// How long the queue may stand still, with something in it, before it counts as stuck: longer than a lease, a poll and a timeout.
const STUCK: Duration = Duration::from_secs(15);
/// A broken protocol is known to be: it need not be waited for so long.
const STUCK_MUTANT: Duration = Duration::from_secs(5);

/// What faults happen to.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) fleet: Fleet,
    /// With which it looks itself.
    client: Client,
    pub(crate) queue: Queue,
    /// The producers' network, if there is one Redis alone: others tell clients addresses that lead past it.
    pub(crate) network: Option<FaultProxy>,
    pub(crate) deaths: Vec<Death>,
    /// The faults that happened.
    pub(crate) events: Vec<Event>,
    /// Things that went wrong in the run itself.
    pub(crate) wrong: Vec<String>,
    /// Who had the queue after the last fault.
    pub(crate) home: u16,
    /// One of so many replies is hit by a fault of replies.
    pub(crate) one_in: u32,
}

/// Runs the plan and says what came out.
///
/// # Errors
/// When the run could not be made; what went wrong in it stands in the report.
pub(crate) async fn run(args: &Args, plan: Vec<Step>) -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut world = World::start(args, dir.path()).await?;
    let (stop_load, stop_watch) = (CancellationToken::new(), CancellationToken::new());
    let watching = watch::start(&world.store.url(), stop_watch.clone())?;
    let url_of = |role| world.store.role_url(role, world.network.as_ref());
    let producers = load::start(url_of, dir.path(), args, &stop_load)?;

    let begun = Instant::now();
    for step in plan {
        tokio::time::sleep_until((begun + step.at).into()).await;
        world.stays("before a fault").await;
        eprintln!("{step}");
        world.apply(&step).await;
        world.home = world.store.master().await.port();
        if args.mutant == Some(Mutant::StaysAway) {
            let of_first = world.fleet.networks(Some(0));
            of_first.iter().for_each(|network| network.set(Fault::BlackHole));
        }
    }
    tokio::time::sleep_until((begun + args.duration()).into()).await;
    stop_load.cancel();
    let load_ended_ms = monotonic_ms();
    world.stays("at the end").await;
    let mut wrong = std::mem::take(&mut world.wrong);
    for producer in producers {
        if let Err(error) = producer.await? {
            wrong.push(format!("a producer was refused: {error}"));
        }
    }
    let stuck = if args.mutant.is_some() { STUCK_MUTANT } else { STUCK };
    let drained = drain(&world.queue, stuck).await;
    stop_watch.cancel();

    let known = Known::read(dir.path()).context("the ledgers of the producers")?;
    let ids: Vec<&str> = known.accepted.keys().map(String::as_str).collect();
    let fates = fates(&world.queue, &ids).await?;
    let mut jobs = Vec::new();
    for job in &known.jobs {
        jobs.push(job_result(&world.client, &job.id).await);
    }
    wrong.extend(doctor(&world.client).await);
    let runs = Runs::read(world.fleet.ledger()).context("the ledger of the consumers")?;
    let (lives, ended_badly) = world.fleet.stop().await;
    wrong.extend(ended_badly);
    let evidence = Evidence {
        known,
        runs,
        ends: watching.await?,
        fates,
        jobs,
        overview: drained,
        deaths: world.deaths,
        events: world.events,
        lives,
        load_ended_ms,
    };
    Ok(check(args, &evidence, wrong))
}

impl World {
    async fn start(args: &Args, dir: &Path) -> anyhow::Result<Self> {
        let store = Store::start(args.profile, args.mutant).await;
        if let (Store::Single(server), Some(mutant)) = (&store, args.mutant) {
            mutant.load(server).await?;
        }
        let network = match &store {
            Store::Single(server) => Some(FaultProxy::before(server.port()).await?),
            Store::Sentinel(_) | Store::Cluster { .. } => None,
        };
        let client = Client::new(ClientConfig::from_url(&store.url())?)?;
        let world = Self {
            fleet: Fleet::start(args, &store, dir).await?,
            queue: client.broker().queue(&queue_name("q")),
            client,
            network,
            deaths: Vec::new(),
            events: Vec::new(),
            wrong: Vec::new(),
            one_in: args.one_in,
            home: store.master().await.port(),
            store,
        };
        workyard_tests::wait_until(START, || async {
            let seen = world.queue.overview().await;
            seen.is_ok_and(|seen| seen.consumers == args.consumers as u64)
        })
        .await;
        Ok(world)
    }

    /// Servers that are too busy take each other for dead: then what was lost had another reason than the faults of the plan.
    async fn stays(&mut self, when: &str) {
        let home = self.store.master().await.port();
        if home != self.home {
            let text =
                format!("another server had the queue {when} than after the fault before: give the machine some rest");
            self.wrong.push(text);
        }
    }
}

/// A fault lasts so long. Its length is what was asked for: there is nothing else to wait for.
pub(crate) async fn hold(lasts: Duration) {
    tokio::time::sleep(lasts).await;
}

/// As [`hold`], for one that began at this time, ms.
pub(crate) async fn hold_until(began_ms: u64, lasts: Duration) {
    hold(lasts.saturating_sub(Duration::from_millis(monotonic_ms() - began_ms))).await;
}

/// What breaks an invariant when all is over: nothing may.
async fn doctor(client: &Client) -> Vec<String> {
    let found = match client.doctor(None, false).await {
        Ok(diagnosis) => diagnosis.findings,
        Err(error) => return vec![format!("the doctor could not look: {error}")],
    };
    let by_sort = found.iter().fold(BTreeMap::new(), |mut sorts, finding| {
        let (count, _) = sorts
            .entry(finding.ailment.word())
            .or_insert((0, String::from_utf8_lossy(&finding.subject)));
        *count += 1;
        sorts
    });
    let text = |(sort, (n, first))| format!("the doctor found {n} {sort}, such as {first}");
    by_sort.into_iter().map(text).collect()
}

/// Waits until everything has ended, or nothing moves any more; the last look at the queue.
async fn drain(queue: &Queue, stuck: Duration) -> Overview {
    let (mut moved, mut last) = (Instant::now(), Overview::default());
    loop {
        // Redis is there: no fault is under way. A look that fails is one that shows no movement.
        let inbox = queue.inbox_len().await.unwrap_or(1);
        if let Ok(seen) = queue.overview().await {
            if seen.totals != last.totals {
                moved = Instant::now();
            }
            last = seen;
            if inbox + last.pending + last.scheduled + last.running == 0 {
                return last;
            }
        }
        // A task that is delayed, or a retry, moves nothing while it waits.
        if moved.elapsed() > stuck {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
