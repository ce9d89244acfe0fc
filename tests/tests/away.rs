//! Redis away for a minute, under load: nobody loses anything, and everybody works at full rate soon after its return.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use workyard_tests::{Daemon, Signal, TestServer, Yard, monotonic_ms, wait_until};

const AWAY: Duration = Duration::from_secs(60);
/// Within this of the return of Redis each consumer has its full rate again.
const DEADLINE: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(120);
const SLOTS: usize = 8;
/// Each task takes so long, so that one consumer starts at most 40 a second, far from what the machine can do.
const TASK: &str = r#"{"ms":200,"tell":true}"#;
const FULL_RATE: usize = 40;

/// How many tasks each process has begun since `from_ms`.
fn begun_since(yard: &Yard, from_ms: u64) -> HashMap<u32, usize> {
    let told = std::fs::read_to_string(yard.server.dir().join("ledger.started")).unwrap_or_default();
    let mut begun = HashMap::new();
    for line in told.lines() {
        let mut words = line.split(' ');
        let (pid, at_ms): (u32, u64) = (
            words.next().unwrap().parse().unwrap(),
            words.next().unwrap().parse().unwrap(),
        );
        if at_ms >= from_ms {
            *begun.entry(pid).or_default() += 1;
        }
    }
    begun
}

/// Whether each of them began four fifths of what its slots allow in the last second.
fn at_full_rate(yard: &Yard, daemons: &[Daemon]) -> bool {
    let begun = begun_since(yard, monotonic_ms() - 1000);
    daemons
        .iter()
        .all(|daemon| begun.get(&daemon.pid()).is_some_and(|n| n * 5 >= FULL_RATE * 4))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_minute_without_redis_all_work_at_full_rate_within_five_seconds_and_nothing_is_lost() {
    let yard = Yard::on(TestServer::start_durable().await);
    let daemons: Vec<Daemon> = (0..3)
        .map(|_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ledger-consumer"));
            let ledger = yard.server.dir().join("ledger");
            command
                .arg(yard.server.consumer_url())
                .arg(ledger)
                .arg(SLOTS.to_string());
            Daemon::spawn(&mut command)
        })
        .collect();
    // Enough for what is before and behind the outage, whatever the machine does.
    let accepted = yard.add_many(2400, "record", TASK).await.len() as u64;
    wait_until(LONG, || async { at_full_rate(&yard, &daemons) }).await;
    let told: Vec<usize> = daemons.iter().map(|daemon| daemon.stderr().lines().count()).collect();

    yard.server.kill9();
    // It is away for so long: there is nothing to wait for.
    tokio::time::sleep(AWAY).await;
    yard.server.restart().await;
    let back = monotonic_ms();
    // Three times the deadline, for busy machines; what it took is printed.
    let took = wait_until(DEADLINE * 3, || async {
        monotonic_ms() > back + 1000 && at_full_rate(&yard, &daemons)
    })
    .await;
    println!("Redis was away for {AWAY:?}: three consumers at full rate after {took:?} (deadline {DEADLINE:?})");

    yard.reaches("completed", accepted).await;
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.scheduled, seen.running, seen.failed), (0, 0, 0, 0));
    assert_eq!(seen.totals.get("completed"), Some(&accepted));
    for (daemon, before) in daemons.iter().zip(told) {
        let log = daemon.stderr();
        let lines: Vec<&str> = log.lines().skip(before).collect();
        let [gone, back] = lines[..] else {
            panic!("one line for each change: {lines:#?}")
        };
        assert!(
            gone.contains("Redis cannot serve") && back.contains("Redis serves again"),
            "{lines:#?}"
        );
        daemon.signal(Signal::TERM);
        assert!(daemon.wait_exit(LONG).await.success(), "{}", daemon.log());
    }
}
