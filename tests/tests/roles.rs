//! What each role may and may not, on a server where each is a user with exactly the printed rules.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use redis::Value;
use workyard_consumer::{Context, Failure, Registry};
use workyard_producer::{Client, ClientConfig, JobState, task};
use workyard_shared::Error;
use workyard_shared::acl::{Access, Role};
use workyard_shared::broker::{Broker, ClaimRequest, Queue};
use workyard_shared::check::Finding;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Prefix, SessionId, TaskId};
use workyard_shared::settings::Setting;
use workyard_shared::submit::Submitter;
use workyard_tests::{Daemon, PASSWORD, Running, TestServer, Yard, new_task, queue_name, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(15);

async fn guarded() -> Yard {
    Yard::on(TestServer::start_guarded().await)
}

fn broker(url: &str) -> Broker {
    Broker::new(
        Link::new(LinkConfig::from_url(url).unwrap(), None).unwrap(),
        Prefix::default(),
    )
}

fn queue(url: &str) -> Queue {
    broker(url).queue(&queue_name("q"))
}

fn client(url: &str) -> Client {
    Client::new(ClientConfig::from_url(url).unwrap()).unwrap()
}

async fn connect(url: &str) -> redis::aio::MultiplexedConnection {
    let client = workyard_tests::redis_client(url);
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Sends a command as it would be typed.
async fn typed(url: &str, line: &str) -> redis::RedisResult<Value> {
    let mut words = line.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    for word in words {
        cmd.arg(word);
    }
    cmd.query_async(&mut connect(url).await).await
}

/// Each of these commands is refused for want of permission, and for no other reason.
async fn are_denied(url: &str, lines: &[&str]) {
    for line in lines {
        let error = typed(url, line).await.expect_err(line);
        assert_eq!(error.code(), Some("NOPERM"), "{line}: {error}");
    }
}

/// What Redis has refused anybody so far, in its own words; the suite's own administrator is never refused.
async fn refusals(yard: &Yard) -> Vec<String> {
    let mut redis = yard.server.connection().await;
    let log: Vec<Value> = redis::cmd("ACL").arg("LOG").query_async(&mut redis).await.unwrap();
    log.iter().map(|entry| format!("{entry:?}")).collect()
}

async fn works(yard: &Yard) -> Running {
    let mut registry = Registry::new();
    registry
        .register("echo", |_: Context, n: u64| async move {
            if n == 0 { Err(Failure::fatal("no")) } else { Ok(n) }
        })
        .unwrap();
    yard.work(registry, yard.config()).await
}

const BEYOND: &[&str] = &[
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "SCAN 0",
    "CONFIG GET requirepass",
    "CONFIG SET appendonly no",
    "EVAL return(1) 0",
    "ACL LIST",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "GET foreign",
    "SET foreign 1",
    "DEL foreign",
    "GET other:{q}:fleet",
    "HGETALL other:{q}:tasks",
    "HSET workyard:{q}:unknown a b",
    "DEL workyard:{q}:tasks",
    "DEL workyard:{q}:cfg",
    "RENAME workyard:{q}:tasks workyard:{q}:meta",
    "SUBSCRIBE news",
    "SSUBSCRIBE news",
    "SPUBLISH news x",
    "SELECT 1",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_role_reaches_beyond_its_installation() {
    let yard = guarded().await;
    typed(&yard.server.url(), "SET foreign 1").await.unwrap();
    yard.add("echo", "1", |_| {}).await;
    for url in [
        yard.server.producer_url(),
        yard.server.consumer_url(),
        yard.server.operator_url(),
    ] {
        are_denied(&url, BEYOND).await;
    }
    let loads = [
        "FUNCTION FLUSH",
        "FUNCTION LIST",
        "FUNCTION DELETE workyard_1",
        "FUNCTION LOAD x",
    ];
    for url in [yard.server.producer_url(), yard.server.consumer_url()] {
        are_denied(&url, &loads).await;
    }
    are_denied(
        &yard.server.operator_url(),
        &["FUNCTION FLUSH", "FUNCTION DELETE workyard_1"],
    )
    .await;
    assert_eq!(yard.overview().await.pending, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_cannot_change_settings_by_any_road() {
    let yard = guarded().await;
    let url = yard.server.consumer_url();
    let set = queue(&url).set(&[Setting::Paused(true)]).await;
    assert!(matches!(set, Err(Error::Denied(_))), "{set:?}");
    are_denied(
        &url,
        &[
            "HSET workyard:{q}:cfg paused 1",
            "HDEL workyard:{q}:cfg paused",
            "SADD workyard:{q}:cfg x",
        ],
    )
    .await;
    assert_eq!(queue(&url).settings().await.unwrap().max_pending, 0, "it may read them");
    // Even if somebody let it call the function, what runs inside would be refused, before anything has changed.
    typed(
        &yard.server.url(),
        "ACL SETUSER consumer (+fcall|workyard_1_set ~workyard:{*}:*)",
    )
    .await
    .unwrap();
    let inside = queue(&url).set(&[Setting::Paused(true)]).await;
    assert!(matches!(inside, Err(Error::Denied(_))), "{inside:?}");
    assert!(!yard.overview().await.paused);
    // Nor does it operate. (It may enqueue, since its handlers may.)
    for refused in [
        queue(&url).retry(&["x".to_owned()]).await.map(|_| ()),
        queue(&url).cancel("x").await.map(|_| ()),
        queue(&url).delete(&["x".to_owned()]).await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(Error::Denied(_))), "{refused:?}");
    }
}

/// What `workyard` says as this user, and its exit code.
fn told(url: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = workspace_binary("workyard");
    let output = command.args(args).env("WORKYARD_REDIS_URL", url).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_look_or_operate_is_told_which_role_may_and_that_role_may() {
    let yard = guarded().await;
    let id = yard.add("echo", "1", |_| {}).await;
    let [producer, consumer, operator] = [
        yard.server.producer_url(),
        yard.server.consumer_url(),
        yard.server.operator_url(),
    ];
    let looks: [&[&str]; 5] = [
        &["stats", "-q", "q"],
        &["queues"],
        &["list", "-q", "q"],
        &["consumers"],
        &["explain", &id, "-q", "q"],
    ];
    for args in looks {
        let (code, said) = told(&consumer, args);
        let remedy = "to look at queues, tasks and consumers is for a producer or an operator";
        assert!(code == Some(4) && said.contains(remedy), "{args:?}: {code:?} {said}");
        for other in [&producer, &operator] {
            let (code, said) = told(other, args);
            assert_eq!(code, Some(0), "{args:?}: {said}");
        }
    }
    let operations: [&[&str]; 3] = [
        &["audit", "-q", "q"],
        &["pause", "-q", "q"],
        &["cancel", &id, "-q", "q"],
    ];
    for args in operations {
        let (code, said) = told(&producer, args);
        let remedy = "to pause, set, cancel and retry and to see the audit for an operator";
        assert!(code == Some(4) && said.contains(remedy), "{args:?}: {code:?} {said}");
        let (code, said) = told(&operator, args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    let (code, said) = told(&operator, &["doctor"]);
    assert!(
        code == Some(4) && said.contains("`doctor` for an administrator"),
        "{code:?} {said}"
    );
    let (code, said) = told(&yard.server.url(), &["doctor"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_bytes_refuses_a_producer_and_not_its_role() {
    let yard = guarded().await;
    yard.add("echo", "1", |_| {}).await;
    queue(&yard.server.operator_url())
        .set(&[Setting::MaxBytes(1)])
        .await
        .unwrap();
    for url in [yard.server.producer_url(), yard.server.consumer_url()] {
        assert!(queue(&url).held_bytes().await.unwrap() > 1);
        let client = Client::new(ClientConfig::from_url(&url).unwrap()).unwrap();
        let refused = client
            .enqueue(&queue_name("q"), task("echo").build().unwrap())
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("bytes of at most 1,"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_cannot_claim_by_any_road() {
    let yard = guarded().await;
    let id = yard.add("echo", "1", |_| {}).await;
    let url = yard.server.producer_url();
    let me = SessionId::fresh();
    let registered = queue(&url).heartbeat(&me, Duration::from_secs(3), true).await;
    assert!(matches!(registered, Err(Error::Denied(_))), "{registered:?}");
    are_denied(
        &url,
        &[
            &format!("HSET workyard:{{q}}:running:{me} {id} 1"),
            &format!("ZADD workyard:{{q}}:consumers 9000000000000 {me}"),
            "ZREMRANGEBYRANK workyard:{q}:pending 0 0",
            "ZPOPMIN workyard:{q}:pending",
            "HDEL workyard:{q}:tasks x",
            "SSUBSCRIBE workyard:{q}:wake:x",
            "HSET workyard:{q}:cfg paused 1",
        ],
    )
    .await;
    // A consumer's registration and the right to call the function are still not enough.
    typed(
        &yard.server.url(),
        "ACL SETUSER producer (+fcall|workyard_1_claim ~workyard:{*}:*)",
    )
    .await
    .unwrap();
    yard.queue.heartbeat(&me, Duration::from_secs(60), true).await.unwrap();
    let request = ClaimRequest::new(&me, 1, 0);
    let queue = queue(&url);
    let claimed = queue.link().call(&queue.claim_cmd(request)).await;
    assert!(matches!(claimed, Err(Error::Denied(_))), "{claimed:?}");
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_neither_adds_nor_claims() {
    let yard = guarded().await;
    let url = yard.server.operator_url();
    let submitter = Submitter::start(queue(&url));
    let added = submitter
        .submit(vec![(TaskId::fresh(), new_task("echo", "1"))], false, None, SOON)
        .await;
    assert!(matches!(added, Err(Error::Denied(_))), "{added:?}");
    let registered = queue(&url)
        .heartbeat(&SessionId::fresh(), Duration::from_secs(3), true)
        .await;
    assert!(matches!(registered, Err(Error::Denied(_))), "{registered:?}");
    are_denied(&url, &["RPUSH workyard:{q}:inbox x", "HSET workyard:{q}:running:x y z"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_together_do_all_that_a_queue_is_for_and_nothing_is_refused() {
    let yard = guarded().await;
    let (producer, operator) = (client(&yard.server.producer_url()), client(&yard.server.operator_url()));
    let (q, worker) = (queue_name("q"), works(&yard).await);
    let done = yard.add("echo", "7", |_| {}).await;
    assert_eq!(yard.result(&done).await, "7");
    let dead = yard.add("echo", "0", |_| {}).await;
    yard.reaches("failed", 1).await;
    assert_eq!(operator.retry(&q, std::slice::from_ref(&dead)).await.unwrap(), [true]);
    yard.reaches("failed", 2).await;
    operator.pause(&q).await.unwrap();
    let waiting = yard.add("echo", "1", |_| {}).await;
    operator.cancel(&q, &waiting).await.unwrap();
    operator.delete(&q, &[waiting, dead]).await.unwrap();
    operator.resume(&q).await.unwrap();
    typed(
        &yard.server.producer_url(),
        r#"RPUSH workyard:{q}:inbox {"kind":"echo","id":"raw","payload":3}"#,
    )
    .await
    .unwrap();
    assert_eq!(yard.result("raw").await, "3");
    let job = producer
        .map_reduce(&q, "count", "sum")
        .items(0..20)
        .chunk_size(5)
        .submit()
        .await;
    let job = job.unwrap();
    let job = operator.job(&q, job.id());
    assert!(job.cancel().await.unwrap());
    job.delete().await.unwrap();
    let empty = producer
        .map_reduce(&q, "count", "sum")
        .items(Vec::<u64>::new())
        .submit()
        .await
        .unwrap();
    assert_eq!(empty.wait(SOON).await.unwrap().state, JobState::Completed);
    operator
        .purge(&q, workyard_shared::broker::PurgePlace::Results)
        .await
        .unwrap();
    operator.stats(&q).await.unwrap();
    worker.stop().await;
    // Who asks for what it may do without is refused once and then does without.
    let refused = refusals(&yard).await;
    let asked = ["function|list", "config|get", "client|setinfo"];
    let others: Vec<_> = refused
        .iter()
        .filter(|entry| !asked.iter().any(|name| entry.contains(name)))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_one_queue_reaches_no_other() {
    let yard = guarded().await;
    for role in ["producer", "consumer", "operator"] {
        let said = acl(&["--role", role, "--user", &format!("only-{role}"), "--queue", "mine"]);
        typed(&yard.server.url(), &said).await.unwrap();
        typed(&yard.server.url(), &format!("ACL SETUSER only-{role} >{PASSWORD}"))
            .await
            .unwrap();
        let url = yard.server.url().replace("admin:", &format!("only-{role}:"));
        let broker = broker(&url);
        broker.queue(&queue_name("mine")).overview().await.unwrap();
        broker.partition(&queue_name("mine"), 3).overview().await.unwrap();
        for other in ["yours", "mine2", "min"] {
            let denied = broker.queue(&queue_name(other)).overview().await;
            assert!(matches!(denied, Err(Error::Denied(_))), "{role} {other}: {denied:?}");
        }
        are_denied(&url, &["HGETALL workyard:{yours}:tasks", "LLEN workyard:{yours}:inbox"]).await;
        // Reports are of consumers and of no queue: what SECURITY.md says of them, and no more.
        let report = typed(&url, "SET workyard:consumer:of-yours 1").await;
        assert_eq!(report.is_ok(), role == "consumer", "{role}: {report:?}");
        let read = typed(&url, "GET workyard:consumer:of-yours").await;
        assert_eq!(read.is_ok(), role != "consumer", "{role}: {read:?}");
    }
}

/// What `workyard acl` prints.
fn acl(args: &[&str]) -> String {
    let output = workspace_binary("workyard").arg("acl").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_what_the_suite_runs_with_and_gives_nobody_a_password() {
    let yard = guarded().await;
    for role in ["producer", "consumer", "operator"] {
        typed(&yard.server.url(), &acl(&["--role", role])).await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&acl(&["--role", role, "--json"])).unwrap();
        assert_eq!(json["command"], acl(&["--role", role]));
        assert_eq!(json["user"], format!("workyard-{role}"));
        let get = |user: String| {
            let url = yard.server.url();
            async move { typed(&url, &format!("ACL GETUSER {user}")).await.unwrap() }
        };
        let field = |value: &Value, name: &str| {
            let pairs = value.as_map_iter().unwrap();
            let found = pairs
                .into_iter()
                .find(|(key, _)| format!("{key:?}").contains(&format!("\"{name}\"")));
            format!("{:?}", found.unwrap().1)
        };
        let (printed, used) = (get(format!("workyard-{role}")).await, get(role.to_owned()).await);
        for name in ["commands", "keys", "channels", "selectors"] {
            assert_eq!(field(&printed, name), field(&used, name), "{role}");
        }
        assert!(!field(&printed, "flags").contains("nopass"), "{printed:?}");
        // Applied again, as after an upgrade, they leave the password.
        typed(&yard.server.url(), &acl(&["--role", role, "--user", role]))
            .await
            .unwrap();
        typed(&yard.server.url().replace("admin:", &format!("{role}:")), "PING")
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_who_finds_no_functions_says_who_must_load_them_and_goes_on_when_they_are_there() {
    let yard = guarded().await;
    typed(&yard.server.url(), "FUNCTION FLUSH").await.unwrap();
    let file = yard.server.dir().join("workyard.toml");
    std::fs::write(
        &file,
        "[[queues]]\nname = \"q\"\n[handlers.echo]\ntype = \"builtin\"\nfunction = \"echo\"\n",
    )
    .unwrap();
    let daemon = Daemon::spawn(
        workspace_binary("workyard-consumer")
            .arg("--config")
            .arg(file)
            .env("WORKYARD_REDIS_URL", yard.server.consumer_url()),
    );
    wait_until(SOON, || async { daemon.log().contains("workyard install") }).await;
    assert!(daemon.is_running(), "{}", daemon.log());
    let installed = workspace_binary("workyard")
        .arg("install")
        .env("WORKYARD_REDIS_URL", yard.server.operator_url())
        .output()
        .unwrap();
    assert!(
        installed.status.success(),
        "{}",
        String::from_utf8_lossy(&installed.stderr)
    );
    let id = yard.add("echo", "5", |_| {}).await;
    assert_eq!(yard.result(&id).await, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_who_may_not_read_settings_still_sees_that_redis_would_evict_tasks() {
    let yard = guarded().await;
    yard.server.config_set("maxmemory-policy", "allkeys-lru").await;
    let config = LinkConfig::from_url(&yard.server.consumer_url()).unwrap();
    let found = workyard_shared::check::server(&Link::new(config, None).unwrap())
        .await
        .unwrap();
    assert!(
        matches!(&found[0], Finding::Unsafe(text) if text.contains("allkeys-lru")),
        "{found:?}"
    );
    assert!(
        matches!(&found[1], Finding::Warning(text) if text.contains("appendonly is no")),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_with_roles_on_is_there_after_redis_died() {
    let yard = Yard::on(TestServer::start_guarded_with(&["--appendonly", "yes", "--appendfsync", "always"]).await);
    let id = yard.add("echo", "1", |_| {}).await;
    yard.server.kill9();
    yard.server.restart().await;
    assert_eq!(yard.overview().await.pending, 1);
    let worker = works(&yard).await;
    assert_eq!(yard.result(&id).await, "1");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_too_many_is_counted_with_others_whoever_counts_it() {
    let yard = guarded().await;
    yard.add("echo", "1", |_| {}).await;
    let mut fill = redis::cmd("HSET");
    fill.arg("workyard:{q}:stats");
    for kind in 0..20_000 {
        fill.arg(format!("submitted old{kind}")).arg(1);
    }
    let mut redis = yard.server.connection().await;
    fill.exec_async(&mut redis).await.unwrap();
    // The producer's own rules have to be enough.
    for _ in 0..2 {
        yard.add("late", "1", |_| {}).await;
    }
    yard.add("old7", "1", |_| {}).await;
    let mut look = redis::cmd("HMGET");
    look.arg("workyard:{q}:stats");
    for kind in ["late", "*", "old7"] {
        look.arg(format!("submitted {kind}"));
    }
    let counted: Vec<Option<u64>> = look.query_async(&mut redis).await.unwrap();
    assert_eq!(counted, [None, Some(2), Some(2)]);
}

/// Its rules were printed by a release that did not know of suspects.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_may_not_say_which_suspect_it_starts_runs_it_all_the_same() {
    let yard = guarded().await;
    let mut redis = yard.server.connection().await;
    let rules = Access::new(Role::Consumer, Prefix::default()).rules();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("older").arg(format!(">{PASSWORD}"));
    for rule in &rules {
        user.arg(rule.replace(" +fcall|workyard_1_try ", " "));
    }
    let () = user.query_async(&mut redis).await.unwrap();
    let ids = yard.add_many(3, "echo", "1").await;
    for id in &ids {
        let mut meta = redis::cmd("HSET");
        meta.arg("workyard:{q}:meta").arg(id).arg("0 2 0 0 0 - 0 -\n\n");
        let _: u64 = meta.query_async(&mut redis).await.unwrap();
    }
    let mut config = yard.config();
    let url = yard.server.consumer_url().replacen("//consumer:", "//older:", 1);
    config.link = LinkConfig::from_url(&url).unwrap();
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).unwrap();
    let worker = yard.work(registry, config).await;
    yard.reaches("completed", 3).await;
    let denied = typed(&url, "FCALL workyard_1_try 0").await.unwrap_err();
    assert_eq!(denied.code(), Some("NOPERM"), "{denied}");
    worker.stop().await;
}
