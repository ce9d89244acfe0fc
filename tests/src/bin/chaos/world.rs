//! A run from its beginning to its report.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use workyard_producer::{Client, ClientConfig};
use workyard_shared::broker::{Overview, Queue};
use workyard_tests::{FaultProxy, TestServer, monotonic_ms, queue_name};

use crate::args::Args;
use crate::check::check;
use crate::evidence::{Death, Event, Evidence, Known, fates, job_result};
use crate::fleet::Fleet;
use crate::mutant::Mutant;
use crate::plan::Step;
use crate::report::Report;
use crate::runs::Runs;
use crate::{load, watch};

/// How long the consumers may take to start.
const START: Duration = Duration::from_secs(60);
/// How long the queue may stand still, with something in it, before it counts as stuck: longer than a lease, a poll and a timeout.
const STUCK: Duration = Duration::from_secs(15);
/// A broken protocol is known to be: it need not be waited for so long.
const STUCK_MUTANT: Duration = Duration::from_secs(5);

/// What faults happen to.
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) fleet: Fleet,
    /// The producers' network.
    pub(crate) network: FaultProxy,
    pub(crate) deaths: Vec<Death>,
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
    let client = Client::new(ClientConfig::from_url(&world.server.url())?)?;
    let queue = client.broker().queue(&queue_name("q"));
    let (stop_load, stop_watch) = (CancellationToken::new(), CancellationToken::new());
    let watching = watch::start(&world.server.url(), stop_watch.clone())?;
    let producers = load::start(&world.network.url(), dir.path(), args, &stop_load)?;

    let begun = Instant::now();
    let mut events = Vec::new();
    for step in plan {
        tokio::time::sleep_until((begun + step.at).into()).await;
        eprintln!("{step}");
        let began_ms = monotonic_ms();
        world.apply(&step).await;
        events.push(Event {
            step,
            began_ms,
            healed_ms: monotonic_ms(),
        });
    }
    tokio::time::sleep_until((begun + args.duration()).into()).await;
    stop_load.cancel();
    let load_ended_ms = monotonic_ms();
    let mut wrong = Vec::new();
    for producer in producers {
        if let Err(error) = producer.await? {
            wrong.push(format!("a producer was refused: {error}"));
        }
    }
    let stuck = if args.mutant.is_some() { STUCK_MUTANT } else { STUCK };
    let drained = drain(&queue, stuck).await;
    stop_watch.cancel();

    let known = Known::read(dir.path()).context("the ledgers of the producers")?;
    let ids: Vec<&str> = known.accepted.keys().map(String::as_str).collect();
    let fates = fates(&queue, &ids).await?;
    let mut jobs = Vec::new();
    for (id, _, _) in &known.jobs {
        jobs.push(job_result(&client, id).await);
    }
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
        events,
        lives,
        load_ended_ms,
    };
    Ok(check(args, &evidence, wrong))
}

impl World {
    async fn start(args: &Args, dir: &Path) -> anyhow::Result<Self> {
        let mut server_args: Vec<String> = args.profile.server_args().map(str::to_owned).to_vec();
        if args.mutant.is_some() {
            server_args.extend(Mutant::server_args());
        }
        let server_args: Vec<&str> = server_args.iter().map(String::as_str).collect();
        let server = TestServer::start_recorded(&server_args).await;
        if let Some(mutant) = args.mutant {
            mutant.load(&server).await?;
        }
        let world = Self {
            fleet: Fleet::start(args.consumers, server.port(), dir).await?,
            network: FaultProxy::before(server.port()).await?,
            deaths: Vec::new(),
            one_in: args.one_in,
            server,
        };
        let client = Client::new(ClientConfig::from_url(&world.server.url())?)?;
        let queue = client.broker().queue(&queue_name("q"));
        workyard_tests::wait_until(START, || async {
            let seen = queue.overview().await;
            seen.is_ok_and(|seen| seen.consumers == args.consumers as u64)
        })
        .await;
        Ok(world)
    }
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
