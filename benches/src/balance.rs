//! The paper's scenario with real daemons on a real Redis: four of them, each with a pool of processes that run its tasks, 300
//! tasks, each policy on a queue of its own at the same time, so that all meet the same machine.
//!
//! Invariant: what a run draws depends on seed, task, attempt and profile alone, so every policy meets the same luck.
//! Times are Redis' own, from acceptance to the end, retries included; a task that is in no terminal state is counted
//! as lost.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use workyard_bench::profile::{Profile, capacity, percentile};
use workyard_shared::balance::Policy;
use workyard_shared::broker::{Broker, Place, Queue, Seen};
use workyard_shared::envelope::NewTask;
use workyard_shared::link::LinkConfig;
use workyard_shared::name::{Kind, Prefix, QueueName, TaskId};
use workyard_shared::settings::Setting;
use workyard_shared::submit::Submitter;

use crate::daemon::Daemon;
use crate::server::Server;

const TASKS: u64 = 300;
/// Share of the fleet's capacity that evenly arriving tasks take.
const EVEN_LOAD: f64 = 0.6;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(10);
/// The file of a trial that has a line for each run.
const RUNS: &str = "runs";

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
    runs: BTreeMap<String, u64>,
    wasted: u64,
    failed: u64,
    lost: u64,
}

/// Runs both arrivals, `rounds` times with another seed, and prints their tables.
pub(crate) async fn run(server: &Server, consumer: &Path, rounds: usize) -> anyhow::Result<()> {
    for arrival in [Arrival::Even, Arrival::AtOnce] {
        let mut tallies: [Tally; 3] = Default::default();
        for round in 0..rounds {
            let seed = u64::try_from(round)? + 1;
            let trials = Policy::ALL.map(|policy| Trial::new(server, consumer, policy, arrival, seed));
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

/// One policy in one round: a queue, and four daemons on it.
struct Trial {
    broker: Broker,
    queue: Queue,
    policy: Policy,
    arrival: Arrival,
    /// Where the processes of the daemons write down what they ran.
    dir: TempDir,
    _daemons: Vec<Daemon>,
}

impl Trial {
    fn new(server: &Server, consumer: &Path, policy: Policy, arrival: Arrival, seed: u64) -> anyhow::Result<Self> {
        let name = QueueName::new(format!("{policy}-{arrival:?}-{seed}"))?;
        let link = workyard_shared::link::Link::new(LinkConfig::from_url(&server.url())?, None)?;
        let (dir, us) = (tempfile::tempdir()?, std::env::current_exe()?);
        let mut daemons = Vec::new();
        for (n, profile) in Profile::of_the_paper().into_iter().enumerate() {
            let luck = (seed << 40) ^ (u64::try_from(n)? << 32);
            let argv = [
                us.display().to_string(),
                "--as-worker".to_owned(),
                profile.name.to_owned(),
                luck.to_string(),
                dir.path().join(RUNS).display().to_string(),
            ];
            // A list of texts reads the same in TOML.
            let text = format!(
                "[[queues]]\nname = \"{name}\"\n\n[handlers.work]\ntype = \"worker\"\nargv = {argv:?}\nprocesses = {}\n",
                profile.capacity
            );
            daemons.push(Daemon::with_file(consumer, &server.url(), profile.capacity, &text)?);
        }
        let broker = Broker::new(link, Prefix::default());
        Ok(Self {
            queue: broker.queue(&name),
            broker,
            policy,
            arrival,
            dir,
            _daemons: daemons,
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
        self.outcome(&ids).await
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
        for run in std::fs::read_to_string(self.dir.path().join(RUNS))?.lines() {
            let (profile, ok) = run.split_once(' ').context("a run is a name and how it ended")?;
            *outcome.runs.entry(profile.to_owned()).or_default() += 1;
            outcome.wasted += u64::from(ok != "ok");
        }
        Ok(outcome)
    }
}

/// Be one process of a daemon's pool, whose words are the profile, its luck, and the file where each run is written down: what
/// the daemon hands to it is drawn, slept through, and answered, until there is no more.
pub(crate) async fn worker(words: &[String]) -> anyhow::Result<()> {
    let [profile, luck, file] = words else {
        bail!("give a profile, a number, a file");
    };
    let known = Profile::of_the_paper().into_iter().find(|known| known.name == profile);
    let (profile, luck) = (known.context("the paper has no such worker")?, luck.parse::<u64>()?);
    let mut runs = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    for line in std::io::stdin().lines() {
        let message: serde_json::Value = serde_json::from_str(&line?)?;
        if message["type"] != "task" {
            continue;
        }
        let number = |field: &str| message[field].as_u64().with_context(|| format!("no {field}"));
        let (task, attempt) = (number("payload")?, number("attempt")?);
        let mut rng = fastrand::Rng::with_seed(luck ^ (task << 8) ^ attempt);
        let (ok, seconds) = profile.run(0.0, &mut rng);
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        // In one write, as other processes append to the same file.
        runs.write_all(format!("{} {}\n", profile.name, if ok { "ok" } else { "failed" }).as_bytes())?;
        let (id, token) = (&message["id"], &message["token"]);
        let answer = if ok {
            serde_json::json!({ "type": "result", "id": id, "token": token, "result": null })
        } else {
            serde_json::json!({ "type": "error", "id": id, "token": token, "error": "bad luck" })
        };
        writeln!(std::io::stdout(), "{answer}")?;
    }
    Ok(())
}

/// What came of one policy in one round.
#[derive(Debug, Default)]
struct Outcome {
    makespan: f64,
    totals: Vec<f64>,
    runs: BTreeMap<String, u64>,
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
