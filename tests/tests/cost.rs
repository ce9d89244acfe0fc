//! What a task costs, counted and not timed: script calls, commands inside of them, instructions of Redis, bytes while it is queued.
//!
//! The workload is fixed and the machine's speed is not in it, so a change that makes a task dearer fails here on any
//! machine. The bounds leave room over what was counted when they were written, which each one names.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use workyard_consumer::{Context, Failure, Registry, WorkerConfig};
use workyard_shared::balance::Policy;
use workyard_shared::broker::{Completion, Grant, Settled, Turn};
use workyard_shared::settings::Setting;
use workyard_tests::hand::Hand;
use workyard_tests::{Yard, report_missing, repository_path, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// Tasks of the workload; a bulk call has 500.
const TASKS: usize = 10_000;
const CALLS_IN: u64 = 20;
/// Tasks that are drained: so many that start and stop of a worker hardly count, and whose call takes how much averages out.
const DRAINED: usize = 30_000;

/// A payload of 100 bytes.
fn payload() -> String {
    format!("\"{}\"", "x".repeat(98))
}

/// Registries of so many workers, whose handlers tell when they have run so often together.
fn noop(workers: usize, wanted: usize) -> (Vec<Registry>, Arc<Notify>) {
    let (seen, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let registry = |_| {
        let (mut registry, seen, tell) = (Registry::new(), Arc::clone(&seen), Arc::clone(&done));
        registry
            .register("noop", move |_: Context, _: serde_json::Value| {
                if seen.fetch_add(1, Ordering::Relaxed) + 1 == wanted {
                    tell.notify_one();
                }
                async { Ok::<_, Failure>(()) }
            })
            .unwrap();
        registry
    };
    ((0..workers).map(registry).collect(), done)
}

/// How often Redis ran each command so far, those inside of functions too.
async fn commands(yard: &Yard) -> BTreeMap<String, u64> {
    let mut redis = yard.server.connection().await;
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut redis)
        .await
        .unwrap();
    info.lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()))
        .collect()
}

/// What was run since.
fn since(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = after.into_iter().map(|(name, calls)| {
        let known = before.get(&name).copied().unwrap_or(0);
        (name, calls - known)
    });
    grown.filter(|(_, calls)| *calls > 0).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn each(count: u64, tasks: usize) -> f64 {
    count as f64 / tasks as f64
}

async fn memory(yard: &Yard) -> u64 {
    let mut redis = yard.server.connection().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut redis).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_task_of_100_bytes_needs_few_bytes_and_few_commands() {
    let yard = Yard::start().await;
    // The function library and the queue's own keys are no part of a task.
    yard.add_many(500, "noop", &payload()).await;
    let (before, bytes) = (commands(&yard).await, memory(&yard).await);
    yard.add_many(TASKS, "noop", &payload()).await;
    let per_task = each(memory(&yard).await - bytes, TASKS);
    let run = since(&before, commands(&yard).await);
    println!("{per_task} bytes, {run:?}");
    assert_eq!(run["fcall"], CALLS_IN, "one call for 500 tasks");
    let inside: u64 = run
        .iter()
        .filter(|(name, _)| !["fcall", "info"].contains(&name.as_str()))
        .map(|(_, n)| n)
        .sum();
    let inside = each(inside, TASKS);
    // Counted: 0.026, the same 13 for every call.
    assert!(inside < 0.04, "{inside} commands per task: {run:?}");
    // Counted: 378.
    assert!(per_task < 450.0, "{per_task} bytes per queued task");
}

/// Script calls and commands inside of them per task, while so many workers drain the workload under a policy.
async fn drained(policy: Policy, count: usize) -> (f64, f64) {
    let yard = Yard::start().await;
    yard.operator.set(&[Setting::Balance(policy)]).await.unwrap();
    yard.operator.set_paused(true).await.unwrap();
    yard.add_many(DRAINED, "noop", &payload()).await;
    let (registries, done) = noop(count, DRAINED);
    let mut workers = Vec::new();
    for registry in registries {
        let config = WorkerConfig {
            concurrency: 100,
            ..yard.config()
        };
        workers.push(yard.work(registry, config).await);
    }
    wait_until(SOON, || async {
        yard.heard(&yard.queue, policy).await == count && yard.overview().await.parked == count as u64
    })
    .await;

    let before = commands(&yard).await;
    yard.operator.set_paused(false).await.unwrap();
    // No look at the queue meanwhile: it would be counted. A stop settles what ran.
    tokio::time::timeout(SOON, done.notified())
        .await
        .expect("the tasks did not all run");
    for worker in workers {
        worker.stop().await;
    }
    let run = since(&before, commands(&yard).await);
    assert_eq!(yard.total("completed").await, DRAINED as u64);
    println!("{policy}: {run:?}");
    let calls = run["fcall"];
    let inside: u64 = run
        .iter()
        .filter(|(name, _)| name.as_str() != "fcall")
        .map(|(_, n)| n)
        .sum();
    (each(calls, DRAINED), each(inside, DRAINED))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_needs_few_script_calls_and_few_commands() {
    let (calls, inside) = drained(Policy::Pull, 1).await;
    // Counted: 0.006, claims and settlements of hundreds.
    assert!(calls < 0.02, "{calls} script calls per task");
    // Counted: 0.17.
    assert!(inside < 0.4, "{inside} commands per task");
}

#[tokio::test(flavor = "multi_thread")]
async fn adaptive_needs_hardly_more_calls_and_commands_than_pull_where_there_is_a_backlog() {
    let (mut pull, mut adaptive) = ((0.0, 0.0), (0.0, 0.0));
    for n in 0..6 {
        let (policy, sum) = if n % 2 == 0 {
            (Policy::Pull, &mut pull)
        } else {
            (Policy::Adaptive, &mut adaptive)
        };
        let (calls, inside) = drained(policy, 2).await;
        *sum = (sum.0 + calls / 3.0, sum.1 + inside / 3.0);
    }
    println!("calls and commands per task: pull {pull:?}, adaptive {adaptive:?}");
    // Counted: 0.99 to 1.09 times pull's 0.0074 and 0.17. Of single drains 0.8 to 1.4 times, as how much a call takes along depends
    // on who comes first: hence what is allowed beside the tenth. A claim behind each task that ends would be 50 times the calls.
    assert!(adaptive.0 <= 1.1 * pull.0 + 0.002, "{adaptive:?} beside {pull:?}");
    assert!(adaptive.1 <= 1.1 * pull.1 + 0.02, "{adaptive:?} beside {pull:?}");
}

async fn complete(yard: &Yard, hand: &Hand, number: u64, grant: &Grant) {
    let completion = Completion {
        id: grant.id.clone(),
        token: grant.token,
        kind: "noop".to_owned(),
        created_ms: 0,
        run: Duration::ZERO,
        retention: Duration::ZERO,
        result: Bytes::from_static(b"null"),
    };
    let turn = Turn {
        number,
        completions: vec![completion],
        ..Turn::default()
    };
    let answer = turn.send(&yard.queue, &hand.consumer, None).await.unwrap();
    assert_eq!(answer.completions, [Settled::Completed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_comes_alone_needs_few_commands_at_each_step() {
    let yard = Yard::start().await;
    let mut hand = Hand::register(&yard.queue).await;
    yard.add_many(1, "noop", &payload()).await; // what only the first one does
    let first = hand.claim(1).await;
    complete(&yard, &hand, 1, &first[0]).await;

    let before = commands(&yard).await;
    yard.add_many(1, "noop", &payload()).await;
    let enqueued = commands(&yard).await;
    let claimed = hand.claim(1).await;
    assert_eq!(claimed.len(), 1);
    let taken = commands(&yard).await;
    complete(&yard, &hand, 2, &claimed[0]).await;
    let done = commands(&yard).await;
    let steps = [
        since(&before, enqueued.clone()),
        since(&enqueued, taken.clone()),
        since(&taken, done),
    ];
    // Counted, with FCALL itself: 14, 16, 15; each costs about as much as the rest of what a function does for a task.
    for (step, bound) in steps.iter().zip([15, 17, 16]) {
        // The producer's user may have to log in first, on a connection of its own.
        let others = ["info", "auth", "hello", "client|setinfo", "command|info"];
        let count: u64 = step
            .iter()
            .filter(|(name, _)| !others.contains(&name.as_str()))
            .map(|(_, n)| n)
            .sum();
        assert!(count <= bound, "{count} commands, at most {bound}: {step:?}");
    }
    println!("{steps:?}");
}

/// What was counted of the functions with Debian's redis-server 7.0.15: tasks a call, whether results are kept and awaited, and the
/// instructions of Redis for a task from enqueue to completion.
const INSTRUCTIONS: [(&str, &str, f64); 5] = [
    ("1", "", 574_500.0),
    ("24", "", 83_700.0),
    ("24", "kept, awaited", 115_700.0),
    ("100", "", 62_100.0),
    ("500", "", 57_600.0),
];

#[test]
fn a_task_costs_redis_few_instructions() {
    if std::process::Command::new("valgrind")
        .arg("--version")
        .output()
        .is_err()
    {
        report_missing(
            "valgrind",
            "the instructions of Redis were not counted",
            "`apt-get install valgrind` brings it.",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("library");
    std::fs::write(&library, workyard_shared::functions::library()).unwrap();
    let mut script = std::process::Command::new("python3");
    script.arg(repository_path("scripts/instructions")).arg(&library);
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{said}");
    let rows: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (tasks, what, counted) in INSTRUCTIONS {
        let row = rows
            .iter()
            .find(|row| row.len() > 6 && row[1] == tasks && row[2] == what);
        let row = row.unwrap_or_else(|| panic!("no row of {tasks} {what}: {said}"));
        let together: f64 = row[6].replace(',', "").parse().unwrap();
        // Other versions of Redis count otherwise; what makes a task dearer by a quarter is seen with any.
        assert!(
            together < counted * 1.25,
            "{together} instructions for a task in calls of {tasks} {what}, counted were {counted}"
        );
    }
}
