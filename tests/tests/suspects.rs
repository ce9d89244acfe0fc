//! A task that kills its consumer takes no others with it as poison, in whichever queue of the consumer they are.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use workyard_shared::broker::Queue;
use workyard_shared::name::TaskId;
use workyard_shared::settings::Setting;
use workyard_tests::{Daemon, Signal, Yard, new_task, queue_name, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(120);

const FILE: &str = r#"
concurrency = 8
lease = "1s"
queue_order = "weighted"

[[queues]]
name = "q"

[[queues]]
name = "other"

[handlers.good]
type = "builtin"
function = "sleep"

[handlers.killer]
type = "command"
argv = ["sh", "-c", "kill -9 $PPID"]
"#;

async fn add(queue: &Queue, id: &str, kind: &str, payload: &str) {
    let submitter = workyard_shared::submit::Submitter::start(queue.clone());
    let tasks = vec![(TaskId::new(id).unwrap(), new_task(kind, payload))];
    submitter.submit(tasks, false, None, SOON).await.unwrap();
}

/// A daemon on both queues.
fn start(yard: &Yard, text: &str) -> Daemon {
    let file = yard.server.dir().join("workyard.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(&file)
        .env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    Daemon::spawn(&mut command)
}

async fn stop(daemon: &Daemon) {
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(0), "{}", daemon.log());
}

async fn total(queue: &Queue, counter: &str) -> u64 {
    let seen = queue.overview().await.unwrap();
    seen.totals.get(counter).copied().unwrap_or(0)
}

/// As if two consumers had died under it.
async fn make_suspect(yard: &Yard, id: &str) {
    let mut redis = yard.server.connection().await;
    let mut meta = redis::cmd("HSET");
    meta.arg(yard.queue.keys().named("meta"))
        .arg(id)
        .arg("0 2 0 0 0 - 0 -\n\n");
    meta.exec_async(&mut redis).await.unwrap();
}

/// Daemons on both queues, one after the other as systemd does it, until `ended`. How many died.
async fn live_through(yard: &Yard, text: &str, most: u32, ended: impl AsyncFn() -> bool) -> u32 {
    let mut deaths = 0;
    loop {
        let daemon = start(yard, text);
        wait_until(SOON, || async { ended().await || !daemon.is_running() }).await;
        if daemon.is_running() {
            stop(&daemon).await;
            return deaths;
        }
        deaths += 1;
        assert!(deaths <= most, "{deaths} deaths");
    }
}

/// Six that two consumers died under already, through no fault of theirs, and in the other queue three that kill: whoever they
/// take along for the third time is poison.
#[tokio::test(flavor = "multi_thread")]
async fn a_killer_in_one_queue_makes_no_poison_of_an_innocent_in_another() {
    let yard = Yard::start().await;
    let other = yard.broker.queue(&queue_name("other"));
    for n in 0..6 {
        let id = format!("innocent-{n}");
        add(&yard.queue, &id, "good", "{\"ms\": 50}").await;
        make_suspect(&yard, &id).await;
    }
    for n in 0..3 {
        add(&other, &format!("killer-{n}"), "killer", "null").await;
    }
    let ended = async || {
        (
            total(&yard.queue, "completed").await,
            total(&yard.queue, "failed").await,
            total(&other, "failed").await,
        )
    };
    // Each of three kills three times.
    let deaths = live_through(&yard, FILE, 9, async || {
        let (completed, failed, poisoned) = ended().await;
        completed + failed == 6 && poisoned == 3
    })
    .await;
    println!("{deaths} deaths");
    let (completed, innocents, killers) = ended().await;
    println!("{innocents} innocents poisoned");
    assert_eq!((completed + innocents, killers), (6, 3));
    assert_eq!(innocents, 0);
}

/// It goes on beside others when it has been alone for a second, and then what kills is one of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_suspect_beside_which_a_fresh_killer_starts_is_no_poison() {
    let yard = Yard::start().await;
    let other = yard.broker.queue(&queue_name("other"));
    for n in 0..2 {
        let id = format!("innocent-{n}");
        add(&yard.queue, &id, "good", "{\"ms\": 2500}").await;
        make_suspect(&yard, &id).await;
    }
    for n in 0..2 {
        add(&other, &format!("killer-{n}"), "killer", "null").await;
    }
    let deaths = live_through(&yard, FILE, 6, async || {
        yard.total("completed").await + yard.total("failed").await == 2 && total(&other, "failed").await == 2
    })
    .await;
    println!("{deaths} deaths");
    assert_eq!((yard.total("completed").await, yard.total("failed").await), (2, 0));
}

/// It is never the only one that runs when it kills, but for longer and longer alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_killer_that_takes_longer_than_a_suspect_is_alone_is_poison_soon() {
    let yard = Yard::start().await;
    let other = yard.broker.queue(&queue_name("other"));
    add(&yard.queue, "slow-killer", "slow", "null").await;
    for n in 0..2000 {
        add(&other, &format!("other-{n}"), "good", "{\"ms\": 50}").await;
    }
    let slow = "\n[handlers.slow]\ntype = \"command\"\nargv = [\"sh\", \"-c\", \"sleep 1.6; kill -9 $PPID\"]\n";
    let deaths = live_through(&yard, &(FILE.to_owned() + slow), 6, async || {
        yard.total("failed").await == 1
    })
    .await;
    println!("{deaths} deaths");
    assert!(deaths >= 3, "{deaths}");
    let meta = yard.dead("slow-killer").await;
    assert_eq!(
        (meta.reason.as_str(), u64::from(deaths)),
        ("poison", u64::from(meta.crashes))
    );
    assert_eq!(total(&other, "failed").await, 0);
}

/// A daemon that was killed twice for its memory, say: what it held then is innocent, and must neither take minutes nor stop
/// what others need.
#[tokio::test(flavor = "multi_thread")]
async fn many_suspects_and_one_whose_kind_is_full_hold_up_others_for_half_of_the_time_at_most() {
    let yard = Yard::start().await;
    let other = yard.broker.queue(&queue_name("other"));
    add(&yard.queue, "fills-its-kind", "narrow", "{\"ms\": 60000}").await;
    let narrow = "\n[handlers.narrow]\ntype = \"builtin\"\nfunction = \"sleep\"\nconcurrency = 1\n";
    let text = FILE.replace("lease =", "drain_timeout = \"0s\"\nlease =") + narrow;
    let daemon = start(&yard, &text);
    wait_until(SOON, || async { yard.overview().await.running == 1 }).await;
    yard.operator.set(&[Setting::Paused(true)]).await.unwrap();
    for n in 0..4 {
        let id = format!("full-{n}");
        add(&yard.queue, &id, "narrow", "{\"ms\": 1}").await;
        make_suspect(&yard, &id).await;
    }
    for n in 0..100 {
        let id = format!("innocent-{n}");
        add(&yard.queue, &id, "good", "{\"ms\": 5}").await;
        make_suspect(&yard, &id).await;
    }
    for n in 0..1000 {
        add(&other, &format!("other-{n}"), "good", "{\"ms\": 5}").await;
    }
    let began = Instant::now();
    yard.operator.set(&[Setting::Paused(false)]).await.unwrap();
    wait_until(SOON, || async { total(&other, "completed").await == 1000 }).await;
    println!("the others: {:.1} s", began.elapsed().as_secs_f64());
    wait_until(SOON, || async { total(&yard.queue, "completed").await == 100 }).await;
    // One at a time with a pause for each took 0.6 s a task, 70 s in all.
    println!(
        "100 suspects: {:.1} s, {} hand-backs",
        began.elapsed().as_secs_f64(),
        yard.total("released").await
    );
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(yard.total("failed").await, 0);
    stop(&daemon).await;
}
