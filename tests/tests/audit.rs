//! What operators did stands in the audit: once, with who and when, and only if it changed something.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use workyard_producer::AuditEntry;
use workyard_shared::broker::PurgePlace;
use workyard_shared::settings::Setting;
use workyard_tests::{Daemon, Signal, TestServer, Yard, queue_name, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(20);

/// Oldest first.
async fn audit(yard: &Yard) -> Vec<AuditEntry> {
    let mut entries = yard.queue.audit(1000).await.unwrap();
    entries.reverse();
    entries
}

fn told(entries: &[AuditEntry]) -> Vec<String> {
    let of = |entry: &AuditEntry| format!("{} {} {}", entry.action, entry.count, entry.detail);
    entries.iter().map(of).collect()
}

fn workyard(yard: &Yard, args: &[&str]) -> std::process::Command {
    let mut command = workspace_binary("workyard");
    command
        .args(args)
        .args(["-q", "q", "--operator", "ada"])
        .env("WORKYARD_REDIS_URL", yard.server.cli_url(args));
    command
}

fn ran(yard: &Yard, args: &[&str]) -> String {
    let output = workyard(yard, args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_act_is_noted_once_with_who_what_and_when() {
    let yard = Yard::on(TestServer::start_guarded().await);
    let begun = yard.broker.now_ms().await.unwrap();
    for id in ["a", "b"] {
        yard.add_as(id.parse().unwrap(), "k", "1", |_| {}).await;
    }
    ran(&yard, &["pause"]);
    ran(&yard, &["queue", "set", "q", "max_pending=10", "overload=shed"]);
    ran(&yard, &["cancel", "a"]);
    ran(&yard, &["delete", "a"]);
    ran(&yard, &["purge", "pending", "--yes"]);
    ran(&yard, &["resume"]);
    // What changes nothing is no act.
    workyard(&yard, &["cancel", "a"]).output().unwrap();
    workyard(&yard, &["retry", "a"]).output().unwrap();
    workyard(&yard, &["delete", "a"]).output().unwrap();
    ran(&yard, &["purge", "failed", "--yes"]);
    let entries = audit(&yard).await;
    let expected = [
        "set 1 paused=1",
        "set 2 max_pending=10 overload=shed",
        "cancel 1 a",
        "delete 1 a",
        "purge 1 pending",
        "set 1 paused=0",
    ];
    assert_eq!(told(&entries), expected);
    let now = yard.broker.now_ms().await.unwrap();
    for entry in &entries {
        assert_eq!((entry.user.as_str(), entry.name.as_str()), ("operator", "ada"));
        assert!((begun..=now).contains(&entry.at_ms), "{entry:?}");
    }
    let shown: serde_json::Value = serde_json::from_str(&ran(&yard, &["audit", "--json", "--limit", "2"])).unwrap();
    assert_eq!(shown[0]["action"], "purge");
    assert_eq!(shown[1]["detail"], "paused=0");
    assert_eq!(shown[1]["queue"], "q");
    let table = ran(&yard, &["audit"]);
    assert!(
        table.contains("max_pending=10 overload=shed") && table.contains("ada"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_job_is_noted_once_each() {
    let yard = Yard::on(TestServer::start_guarded().await);
    let items = yard.server.dir().join("items");
    std::fs::write(&items, "[1, 2]").unwrap();
    let job = ["--map", "sum", "--reduce", "sum", "--id", "j", "--detach", "--items"];
    let submit = [&["map-reduce"][..], &job, &[items.to_str().unwrap()]].concat();
    ran(&yard, &submit);
    let acts = [
        &["job", "cancel", "j"][..],
        &["job", "retry", "j"],
        &["job", "cancel", "j"],
        &["job", "delete", "j"],
    ];
    for act in acts {
        ran(&yard, act);
    }
    // It is gone: nothing is done to it any more.
    for act in acts {
        assert!(!workyard(&yard, act).output().unwrap().status.success(), "{act:?}");
    }
    let entries = audit(&yard).await;
    let expected = ["cancel-job 1 j", "retry-job 1 j", "cancel-job 1 j", "delete-job 1 j"];
    assert_eq!(told(&entries), expected);
    let is_hers = |entry: &AuditEntry| (entry.user.as_str(), entry.name.as_str()) == ("operator", "ada");
    assert!(entries.iter().all(is_hers), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_no_name_has_that_of_the_system_though_no_variable_says_it() {
    let yard = Yard::start().await;
    let mut command = workspace_binary("workyard");
    command.args(["pause", "-q", "q"]).env("HOSTNAME", "here");
    for name in ["USER", "LOGNAME", "WORKYARD_OPERATOR"] {
        command.env_remove(name);
    }
    command.env("WORKYARD_REDIS_URL", yard.server.operator_url());
    assert!(command.output().unwrap().status.success());
    let known = std::process::Command::new("id").arg("-un").output().unwrap();
    let name = String::from_utf8(known.stdout).unwrap();
    let entries = audit(&yard).await;
    assert_eq!(entries[0].name, format!("{}@here", name.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_names_its_first_ids_and_a_purge_of_many_steps_is_one_act() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    yard.add_many(1700, "k", "1").await;
    // Dead letters, without a consumer that fails them: only their places change.
    let ids: Vec<String> = yard.queue.page("pending", 0, 30, false).await.unwrap();
    for id in &ids {
        let () = redis::pipe()
            .cmd("ZREM")
            .arg("workyard:{q}:pending")
            .arg(id)
            .ignore()
            .cmd("ZADD")
            .arg("workyard:{q}:failed")
            .arg(1)
            .arg(id)
            .ignore()
            .query_async(&mut redis)
            .await
            .unwrap();
    }
    assert_eq!(yard.operator.retry(&ids).await.unwrap().len(), 30);
    while yard.operator.purge_step(PurgePlace::Pending).await.unwrap() > 0 {}
    let entries = audit(&yard).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!((entries[0].action.as_str(), entries[0].count), ("retry", 30));
    assert_eq!(entries[0].detail, format!("{} ...", ids[..10].join(" ")));
    assert_eq!(told(&entries[1..]), ["purge 1700 pending"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_keeps_the_newest_ten_thousand() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    let mut fill = redis::pipe();
    for n in 0..12_000 {
        fill.cmd("XADD")
            .arg("workyard:{q}:audit")
            .arg("*")
            .arg(&["who", "x y", "what", "old"])
            .arg("count")
            .arg(n)
            .ignore();
    }
    let () = fill.query_async(&mut redis).await.unwrap();
    yard.operator.set(&[Setting::Paused(false)]).await.unwrap();
    let length: u64 = redis::cmd("XLEN")
        .arg("workyard:{q}:audit")
        .query_async(&mut redis)
        .await
        .unwrap();
    // Redis cuts whole nodes of a stream, of 100 entries each.
    assert!((10_000..=10_100).contains(&length), "{length}");
    assert_eq!(yard.queue.audit(1).await.unwrap()[0].action, "set");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_be_noted_does_nothing_and_foreign_entries_are_shown() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    yard.add("k", "1", |_| {}).await;
    let () = redis::cmd("SET")
        .arg("workyard:{q}:audit")
        .arg("text")
        .query_async(&mut redis)
        .await
        .unwrap();
    yard.operator
        .purge_step(PurgePlace::Pending)
        .await
        .expect_err("the audit is no stream");
    yard.operator
        .set(&[Setting::Paused(true)])
        .await
        .expect_err("the audit is no stream");
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.paused), (1, false));
    let () = redis::cmd("DEL")
        .arg("workyard:{q}:audit")
        .query_async(&mut redis)
        .await
        .unwrap();
    let named = yard.broker.clone().acting_as("two\nlines").queue(&queue_name("q"));
    named.set(&[Setting::Paused(true)]).await.unwrap();
    assert_eq!(audit(&yard).await[0].name, "two?lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_are_followed_as_they_happen() {
    let yard = Yard::start().await;
    yard.broker.announce(&queue_name("q")).await.unwrap();
    yard.operator.set(&[Setting::Paused(true)]).await.unwrap();
    let follower = Daemon::spawn(&mut workyard(&yard, &["audit", "--follow", "--json"]));
    wait_until(SOON, || async { follower.stdout().contains("paused=1") }).await;
    yard.operator.set(&[Setting::Paused(false)]).await.unwrap();
    wait_until(SOON, || async { follower.stdout().contains("paused=0") }).await;
    let human = Daemon::spawn(&mut workyard(&yard, &["audit", "--follow", "--patience", "200ms"]));
    wait_until(SOON, || async { human.stdout().contains("paused=0") }).await;

    yard.server.sigstop();
    wait_until(SOON, || async { human.stderr().contains("still following") }).await;
    yard.server.sigcont();
    yard.operator.set(&[Setting::Paused(true)]).await.unwrap();
    wait_until(SOON, || async {
        [&follower, &human]
            .iter()
            .all(|shown| shown.stdout().matches("paused=1").count() == 2)
    })
    .await;
    let told = human.stderr();
    assert_eq!(told.lines().count(), 2, "an outage and its end are told once: {told}");
    for shown in [&follower, &human] {
        shown.signal(Signal::INT);
        assert_eq!(shown.wait_exit(SOON).await.code(), Some(0), "{}", shown.log());
        assert_eq!(shown.stdout().lines().count(), 3, "{}", shown.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_queue_can_be_removed_and_one_in_use_cannot() {
    let yard = Yard::on(TestServer::start_guarded().await);
    let in_queue = |args: &[&str]| {
        let mut command = workspace_binary("workyard");
        command.args(args).env("WORKYARD_REDIS_URL", yard.server.operator_url());
        command.output().unwrap()
    };
    let delete = |more: &[&str]| in_queue(&[&["queue", "delete", "q"], more].concat());
    let refused = |more: &[&str], why: &str| {
        let output = delete(more);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(why), "{error}");
    };
    refused(&["--yes"], "no queue \"q\" has ever been used here");
    yard.add_as("a".parse().unwrap(), "k", "1", |_| {}).await;
    let mut redis = yard.server.connection().await;
    redis::cmd("RPUSH")
        .arg("workyard:{q}:inbox")
        .arg("{}")
        .exec_async(&mut redis)
        .await
        .unwrap();
    refused(
        &["--yes"],
        "1 task, dead letters included (cancel or purge first), 1 item in its inbox",
    );
    assert!(in_queue(&["cancel", "-q", "q", "a"]).status.success());
    assert!(in_queue(&["purge", "inbox", "-q", "q", "--yes"]).status.success());
    let worker = yard.work(workyard_consumer::Registry::new(), yard.config()).await;
    refused(&["--yes"], "1 consumer at work (stop first)");
    worker.stop().await;
    refused(
        &[],
        "this would remove queue q for good: its settings, its counters and 1 result",
    );
    let output = delete(&["--yes", "--operator", "ada"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(yard.broker.queues().await.unwrap().is_empty());
    let keys: Vec<String> = redis::cmd("KEYS").arg("*{q}*").query_async(&mut redis).await.unwrap();
    let left: Vec<_> = keys.iter().filter(|key| !key.contains(":producer:")).collect();
    assert_eq!(left, ["workyard:{q}:audit"]);
    let days: i64 = redis::cmd("TTL").arg(left[0]).query_async(&mut redis).await.unwrap();
    assert!((89 * 86_400..=90 * 86_400).contains(&days), "{days}");
    assert_eq!(
        told(&audit(&yard).await),
        ["cancel 1 a", "purge 1 inbox", "delete-queue 1 "]
    );
    let shown = String::from_utf8(in_queue(&["audit", "-q", "q"]).stdout).unwrap();
    assert!(shown.contains("delete-queue"), "{shown}");
    // Used again, it is a queue like any other, and its audit stays.
    assert!(in_queue(&["queue", "set", "q", "paused=1"]).status.success());
    let days: i64 = redis::cmd("TTL").arg(left[0]).query_async(&mut redis).await.unwrap();
    assert_eq!(days, -1);
}
