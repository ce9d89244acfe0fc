//! The paper's scenario with real daemons: four unequal workers and 300 tasks under each policy, which come evenly or all at
//! once. The policies run side by side, each on a queue of its own, and meet the same luck.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use workyard_shared::balance::Policy;
use workyard_shared::broker::{Place, Queue, Seen};
use workyard_shared::name::TaskId;
use workyard_shared::settings::Setting;
use workyard_shared::submit::Submitter;
use workyard_tests::{Daemon, Yard, queue_name, tls_dir, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);
const TASKS: usize = 300;
/// Rounds with other luck each; over TLS, where everything runs once more, one that shows that nothing is lost and compares no times.
fn rounds_of_luck() -> u64 {
    if tls_dir().is_some() { 1 } else { 3 }
}
/// 60 % of the 66 tasks that the four do in a second.
const EVENLY: Duration = Duration::from_millis(25);
/// Name, seconds that a run takes, failures in 100 runs, slots.
const FLEET: [(&str, &str, u64, usize); 4] = [
    ("fast", "0.2", 5, 8),
    ("medium", "0.5", 10, 5),
    ("slow", "1.0", 15, 3),
    ("unreliable", "0.3", 30, 4),
];
/// Times are compared: one scenario at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Evenly,
    AtOnce,
}

/// What came of one policy, over all rounds.
#[derive(Debug, Default)]
struct Tally {
    /// From acceptance to the end by Redis' clock, of each task.
    totals_ms: Vec<u64>,
    /// From the first acceptance to the last end, of all rounds together.
    makespan_ms: u64,
    /// Runs of each worker.
    runs: BTreeMap<String, u64>,
}

impl Tally {
    fn p99_ms(&self) -> u64 {
        let mut sorted = self.totals_ms.clone();
        sorted.sort_unstable();
        sorted[sorted.len() * 99 / 100 - 1]
    }

    /// Of 100 runs, those of the unreliable one.
    fn unreliable(&self) -> u64 {
        self.runs["unreliable"] * 100 / self.runs.values().sum::<u64>()
    }
}

/// One of the four. The payload is its luck, a number below 100 for each attempt, so that every policy meets the same; what it
/// ran, it writes down.
fn daemon(yard: &Yard, queue: &Queue, (name, seconds, fails, slots): (&str, &str, u64, usize)) -> Daemon {
    let of_queue = yard.server.dir().join(queue.name().as_str());
    let runs = of_queue.with_extension("runs").display().to_string();
    let file = of_queue.with_extension(format!("{name}.toml"));
    let script = format!(
        r#"read -r luck; luck=${{luck#?}}; set -- ${{luck%?}}; shift $((WORKYARD_ATTEMPT - 1))
echo {name} >> {runs}; [ "$1" -ge {fails} ] || exit 1; exec sleep {seconds}"#
    );
    let text = format!(
        "watch_host = false\nconcurrency = {slots}\n\n[[queues]]\nname = \"{}\"\n\n[handlers.work]\ntype = \"command\"\nargv = [\"sh\", \"-c\", '''{script}''']\n",
        queue.name()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(&file);
    command.env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    Daemon::spawn(&mut command)
}

/// Sets the policy, and waits until all four wait in their places under it.
async fn settled(yard: &Yard, queue: &Queue, policy: Policy) {
    let parked = || async { queue.overview().await.map_or(0, |seen| seen.parked) };
    wait_until(SOON, || async { parked().await == 4 }).await;
    queue.set(&[Setting::Balance(policy)]).await.unwrap();
    wait_until(SOON, || async { yard.heard(queue, policy).await == 4 }).await;
    if policy != Policy::Pull {
        yard.ranked(queue).await;
    }
}

async fn submit(yard: &Yard, queue: &Queue, arrival: Arrival, seed: u64) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let luck: Vec<String> = (0..3).map(|_| rng.u64(0..100).to_string()).collect();
            let payload = format!("\"{}\"", luck.join(" "));
            (TaskId::fresh(), workyard_tests::new_task("work", &payload))
        })
        .collect();
    let ids = tasks.iter().map(|(id, _)| id.to_string()).collect();
    let submitter = Submitter::start(yard.broker.queue(queue.name()));
    if arrival == Arrival::AtOnce {
        submitter.submit(tasks, true, None, SOON).await.unwrap();
        return ids;
    }
    let mut ticks = tokio::time::interval(EVENLY);
    for task in tasks {
        ticks.tick().await;
        submitter.submit(vec![task], true, None, SOON).await.unwrap();
    }
    ids
}

/// One policy in one round.
async fn trial(yard: &Yard, policy: Policy, arrival: Arrival, seed: u64, tally: &mut Tally) {
    let queue = yard.broker.queue(&queue_name(&format!("{policy}-{seed}")));
    let daemons = FLEET.map(|worker| daemon(yard, &queue, worker));
    settled(yard, &queue, policy).await;
    let ids = submit(yard, &queue, arrival, seed).await;
    wait_until(SOON * 3, || async {
        let seen = queue.overview().await.unwrap();
        seen.pending + seen.scheduled + seen.running == 0
    })
    .await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (mut first, mut last) = (u64::MAX, 0);
    for seen in queue.inspect(&ids).await.unwrap() {
        let (created, ended) = match seen {
            Seen::Ended(ended) => (ended.created_ms, ended.finished_ms),
            Seen::Live {
                place: Place::Failed(at_ms),
                record,
                ..
            } => (record.created_ms, at_ms),
            other => panic!("{policy}: a task was lost: {other:?}\n{}", daemons[0].log()),
        };
        (first, last) = (first.min(created), last.max(ended));
        tally.totals_ms.push(ended.saturating_sub(created));
    }
    tally.makespan_ms += last - first;
    let runs = yard.server.dir().join(queue.name().as_str()).with_extension("runs");
    for worker in std::fs::read_to_string(runs).unwrap().lines() {
        *tally.runs.entry(worker.to_owned()).or_default() += 1;
    }
}

/// All rounds: pull, round-robin, adaptive.
async fn rounds(arrival: Arrival, first: u64) -> [Tally; 3] {
    let [mut pull, mut in_turn, mut adaptive]: [Tally; 3] = Default::default();
    for seed in first..first + rounds_of_luck() {
        let yard = Yard::start().await;
        tokio::join!(
            trial(&yard, Policy::Pull, arrival, seed, &mut pull),
            trial(&yard, Policy::RoundRobin, arrival, seed, &mut in_turn),
            trial(&yard, Policy::Adaptive, arrival, seed, &mut adaptive),
        );
    }
    for (policy, tally) in Policy::ALL.iter().zip([&pull, &in_turn, &adaptive]) {
        println!(
            "{arrival:?}, {policy}: p99 {} ms, makespans {} ms together, runs {:?}",
            tally.p99_ms(),
            tally.makespan_ms,
            tally.runs
        );
    }
    [pull, in_turn, adaptive]
}

#[tokio::test(flavor = "multi_thread")]
async fn evenly_the_unreliable_one_gets_less_under_adaptive_and_nothing_is_lost() {
    let _alone = ALONE.lock().await;
    let [_, in_turn, adaptive] = rounds(Arrival::Evenly, 1).await;
    // About 60 % of what it has in turn. The slowest hundredth is printed and not compared: it is those few that fail twice, of
    // which a run this short has more or fewer by luck. `scripts/bench --only balance` has the rounds for that.
    assert!(
        adaptive.unreliable() * 5 < in_turn.unreliable() * 4 || tls_dir().is_some(),
        "{:?}",
        adaptive.runs
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_at_once_adaptive_is_done_no_later_than_round_robin_and_nothing_is_lost() {
    let _alone = ALONE.lock().await;
    // What else runs on this machine may hold up one policy: the better of two tries counts.
    for seed in [1, 11] {
        let [_, in_turn, adaptive] = rounds(Arrival::AtOnce, seed).await;
        if adaptive.makespan_ms <= in_turn.makespan_ms || tls_dir().is_some() {
            return;
        }
    }
    panic!("adaptive is done later than round-robin");
}
