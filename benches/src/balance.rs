//! The paper's scenario with real consumers on a real Redis: four workers, 300 tasks, each policy of its own queue at the
//! same time, so that all meet the same machine.
//!
//! Invariant: what a run draws depends on seed, task, attempt and profile alone, so every policy meets the same luck.
//! Times are Redis' own, from acceptance to the end, retries included; a task that is in no terminal state is counted
//! as lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workyard_bench::profile::{Profile, capacity, percentile};
use workyard_consumer::{Context, Failure, Registry, Worker, WorkerConfig};
use workyard_shared::Error;
use workyard_shared::balance::Policy;
use workyard_shared::broker::{Broker, Place, Queue, Seen};
use workyard_shared::envelope::NewTask;
use workyard_shared::link::LinkConfig;
use workyard_shared::name::{Kind, Prefix, QueueName, TaskId};
use workyard_shared::settings::Setting;
use workyard_shared::submit::Submitter;

use crate::server::Server;

const TASKS: u64 = 300;
/// Share of the fleet's capacity that evenly arriving tasks take.
const EVEN_LOAD: f64 = 0.6;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);

/// How the tasks come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Even,
    AtOnce,
}

/// What came of one policy, over all rounds.
#[derive(Debug, Default)]
struct Tally {
    makespans: Vec<f64>,
    totals: Vec<f64>,
    p99s: Vec<f64>,
    runs: BTreeMap<&'static str, u64>,
    wasted: u64,
    failed: u64,
    lost: u64,
}

/// Runs by profile, and how many of all failed.
type Runs = Arc<Mutex<(BTreeMap<&'static str, u64>, u64)>>;

/// Runs both arrivals, `rounds` times with another seed, and prints their tables.
pub(crate) async fn run(server: &Server, rounds: usize) -> anyhow::Result<()> {
    for arrival in [Arrival::Even, Arrival::AtOnce] {
        let mut tallies: [Tally; 3] = Default::default();
        for round in 0..rounds {
            let seed = u64::try_from(round)? + 1;
            let trials = Policy::ALL.map(|policy| Trial::new(server, policy, arrival, seed));
            let [a, b, c] = trials;
            let (a, b, c) = tokio::try_join!(a?.run(), b?.run(), c?.run())?;
            for (tally, outcome) in tallies.iter_mut().zip([a, b, c]) {
                tally.add(outcome);
            }
        }
        print(arrival, rounds, &mut tallies);
    }
    Ok(())
}

/// One policy in one round: a queue, and four workers on it.
struct Trial {
    broker: Broker,
    queue: Queue,
    policy: Policy,
    arrival: Arrival,
    runs: Runs,
    stop: CancellationToken,
    workers: Vec<JoinHandle<Result<(), Error>>>,
}

impl Trial {
    fn new(server: &Server, policy: Policy, arrival: Arrival, seed: u64) -> anyhow::Result<Self> {
        let name = QueueName::new(format!("{policy}-{arrival:?}-{seed}"))?;
        let config = LinkConfig::from_url(&server.url())?;
        let link = workyard_shared::link::Link::new(config.clone(), None)?;
        let (runs, stop) = (Runs::default(), CancellationToken::new());
        let mut workers = Vec::new();
        for (n, profile) in Profile::of_the_paper().into_iter().enumerate() {
            let mut registry = Registry::new();
            let (runs, luck) = (Arc::clone(&runs), (seed << 40) ^ (u64::try_from(n)? << 32));
            registry.register("work", move |ctx: Context, task: u64| {
                attempt(
                    profile,
                    luck ^ (task << 8) ^ u64::from(ctx.attempt()),
                    Arc::clone(&runs),
                )
            })?;
            let config = WorkerConfig {
                concurrency: profile.capacity,
                name: profile.name.to_owned(),
                ..WorkerConfig::new(config.clone(), name.clone())
            };
            workers.push(tokio::spawn(Worker::new(config, registry)?.run(stop.clone())));
        }
        let broker = Broker::new(link, Prefix::default());
        Ok(Self {
            queue: broker.queue(&name),
            broker,
            policy,
            arrival,
            runs,
            stop,
            workers,
        })
    }

    async fn run(self) -> anyhow::Result<Outcome> {
        self.settled().await?;
        let ids = self.submit().await?;
        loop {
            let seen = self.queue.overview().await?;
            if seen.pending + seen.scheduled + seen.running == 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let outcome = self.outcome(&ids).await?;
        self.stop.cancel();
        for worker in self.workers {
            worker.await??;
        }
        Ok(outcome)
    }

    /// Waits until all four wait for work under the policy.
    async fn settled(&self) -> anyhow::Result<()> {
        let all = Profile::of_the_paper().len();
        while self.queue.overview().await.map_or(0, |seen| seen.parked) < u64::try_from(all)? {
            tokio::time::sleep(LOOK).await;
        }
        self.queue.set(&[Setting::Balance(self.policy)]).await?;
        let heard = format!("\"balance\":\"{}\"", self.policy);
        loop {
            let mut told = 0;
            for (consumer, _) in self.queue.consumers().await? {
                let report = self.broker.health(&consumer).await?;
                told += usize::from(report.is_some_and(|json| json.contains(&heard)));
            }
            if told == all {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        // Whoever waits takes its new place with the beat after that.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Ok(())
    }

    async fn submit(&self) -> anyhow::Result<Vec<String>> {
        let submitter = Submitter::start(self.queue.clone());
        let task = |n: u64| anyhow::Ok((TaskId::fresh(), NewTask::new(Kind::new("work")?, n.to_string())?));
        let tasks = (0..TASKS).map(task).collect::<anyhow::Result<Vec<_>>>()?;
        let ids = tasks.iter().map(|(id, _)| id.to_string()).collect();
        match self.arrival {
            Arrival::AtOnce => drop(submitter.submit(tasks, true, None, PATIENCE).await?),
            Arrival::Even => {
                let every = Duration::from_secs_f64(1.0 / (EVEN_LOAD * capacity(&Profile::of_the_paper())));
                let mut ticks = tokio::time::interval(every);
                for task in tasks {
                    ticks.tick().await;
                    submitter.submit(vec![task], true, None, PATIENCE).await?;
                }
            }
        }
        Ok(ids)
    }

    async fn outcome(&self, ids: &[String]) -> anyhow::Result<Outcome> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut outcome = Outcome::default();
        let (mut first, mut last) = (u64::MAX, 0);
        for seen in self.queue.inspect(&ids).await? {
            let (created, finished) = match seen {
                Seen::Ended(ended) => (ended.created_ms, ended.finished_ms),
                Seen::Live {
                    place: Place::Failed(at_ms),
                    record,
                    ..
                } => {
                    outcome.failed += 1;
                    (record.created_ms, at_ms)
                }
                Seen::Live { .. } | Seen::Unreadable { .. } | Seen::Unknown => {
                    outcome.lost += 1;
                    continue;
                }
            };
            (first, last) = (first.min(created), last.max(finished));
            outcome.totals.push(seconds(finished.saturating_sub(created)));
        }
        outcome.makespan = seconds(last.saturating_sub(first));
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        (outcome.runs, outcome.wasted) = (runs.0.clone(), runs.1);
        Ok(outcome)
    }
}

/// One run, slept through.
async fn attempt(profile: Profile, luck: u64, runs: Runs) -> Result<(), Failure> {
    let (ok, seconds) = profile.run(0.0, &mut fastrand::Rng::with_seed(luck));
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let mut runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
    *runs.0.entry(profile.name).or_default() += 1;
    runs.1 += u64::from(!ok);
    if ok { Ok(()) } else { Err(Failure::retry("bad luck")) }
}

/// What came of one policy in one round.
#[derive(Debug, Default)]
struct Outcome {
    makespan: f64,
    totals: Vec<f64>,
    runs: BTreeMap<&'static str, u64>,
    wasted: u64,
    failed: u64,
    lost: u64,
}

impl Tally {
    fn add(&mut self, mut outcome: Outcome) {
        outcome.totals.sort_unstable_by(f64::total_cmp);
        self.p99s.push(percentile(&outcome.totals, 99));
        self.makespans.push(outcome.makespan);
        self.totals.extend(outcome.totals);
        for (profile, runs) in outcome.runs {
            *self.runs.entry(profile).or_default() += runs;
        }
        self.wasted += outcome.wasted;
        self.failed += outcome.failed;
        self.lost += outcome.lost;
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "rounds are few")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// A Markdown table, as it stands in docs/balancing.md.
fn print(arrival: Arrival, rounds: usize, tallies: &mut [Tally]) {
    let how = match arrival {
        Arrival::Even => "evenly at 60 % of capacity",
        Arrival::AtOnce => "all at once",
    };
    println!("\n{TASKS} tasks {how}, {rounds} round(s)\n");
    println!(
        "| policy | makespan s | total p50 s | total p99 s | p99 of each round s | wasted runs | failed | lost | shares of runs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (policy, tally) in Policy::ALL.iter().zip(tallies) {
        tally.totals.sort_unstable_by(f64::total_cmp);
        let runs: u64 = tally.runs.values().sum();
        let shares: Vec<String> = Profile::of_the_paper()
            .iter()
            .map(|profile| {
                let own = tally.runs.get(profile.name).copied().unwrap_or_default();
                format!("{} {:.0} %", profile.name, 100.0 * ratio(own, runs))
            })
            .collect();
        let each: Vec<String> = tally.p99s.iter().map(|p99| format!("{p99:.1}")).collect();
        println!(
            "| {policy} | {:.1} | {:.2} | {:.2} | {} | {:.1} % | {} | {} | {} |",
            mean(&tally.makespans),
            percentile(&tally.totals, 50),
            percentile(&tally.totals, 99),
            each.join(" "),
            100.0 * ratio(tally.wasted, runs),
            tally.failed,
            tally.lost,
            shares.join(", "),
        );
    }
}
