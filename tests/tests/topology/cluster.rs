//! A cluster of three masters.

use std::time::Duration;

use workyard_producer::{Client, ClientConfig, Durability, Kept, task};
use workyard_shared::acl::Role;
use workyard_shared::broker::{Accepted, Batch, Broker};
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Prefix, SessionId, TaskId};
use workyard_shared::{Error, Outage};
use workyard_tests::{TestCluster, TestServer, info, new_task, queue_name, wait_until};

use crate::load::{LONG, Load};

fn broker(url: &str) -> Broker {
    let link = Link::new(LinkConfig::from_url(url).unwrap(), None).unwrap();
    Broker::new(link, Prefix::default())
}

async fn tell(server: &TestServer, words: &[&str]) {
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]);
    let answer = cmd.query_async::<redis::Value>(&mut server.connection().await).await;
    answer.unwrap_or_else(|e| panic!("{words:?}: {e}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_loses_nothing_and_runs_nothing_twice() {
    let cluster = TestCluster::start(0, &[]).await;
    let load = Load::start(|role| cluster.role_url(role), Durability::Memory).await;
    let slot = cluster.slot_of("{q}").await;
    // Long enough for every caller to meet the half-moved slot.
    cluster
        .move_slot(slot, 0, 1, || tokio::time::sleep(Duration::from_millis(700)))
        .await;
    let took = load.goes_on().await;
    println!("a task ran {took:?} after the slot had moved");
    // Only wake-ups make the worker claim, so they work from the new place, too.
    cluster.move_slot(slot, 1, 2, || async {}).await;
    load.goes_on().await;
    let queue = load.queue.clone();
    assert_eq!(load.settle(Kept::Memory).await, 0, "tasks ran twice");
    assert_eq!(queue.overview().await.unwrap().totals.get("stale"), None);
}

/// Every key that an enqueue names, so that nothing but the guard is missing on a slot that is on its way.
async fn fill(server: &TestServer) {
    let key = |name: &str| format!("workyard:{{q}}:{name}");
    for hash in [
        "cfg", "state", "tasks", "meta", "results", "waiters", "stats", "minutes",
    ] {
        tell(server, &["HSET", &key(hash), "some", "0"]).await;
    }
    for zset in [
        "pending",
        "scheduled",
        "failed",
        "done",
        "parked",
        "consumers",
        "expiring",
    ] {
        tell(server, &["ZADD", &key(zset), "9999999999999", "some"]).await;
    }
    tell(server, &["SET", &key("producer:p"), "0 c\n"]).await;
}

/// An enqueue as a client sends it that does not know of the guard.
fn unguarded(guarded: &redis::Cmd) -> redis::Cmd {
    let mut cmd = redis::Cmd::new();
    for (at, arg) in guarded.args_iter().enumerate() {
        let redis::Arg::Simple(bytes) = arg else { continue };
        match at {
            2 => cmd.arg(16),
            _ if bytes == b"workyard:{q}:guard" => continue,
            _ => cmd.arg(bytes),
        };
    }
    cmd
}

async fn parked(server: &TestServer) -> u64 {
    let mut cmd = redis::cmd("ZCARD");
    cmd.arg("workyard:{q}:parked");
    cmd.query_async(&mut server.connection().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_function_begins_on_a_slot_that_is_on_its_way() {
    let cluster = TestCluster::start(0, &[]).await;
    let owner = &cluster.masters[0];
    let queue = broker(&cluster.url()).queue(&queue_name("q"));
    queue.link().ensure_library().await.unwrap();
    fill(owner).await;
    let slot = cluster.slot_of("{q}").await;
    let tasks = [(TaskId::fresh(), new_task("k", "1"))];
    let session = SessionId::new("p").unwrap();
    let numbered = |number| {
        let batch = Batch {
            session: &session,
            number,
            waiter: None,
        };
        queue.enqueue_cmd(batch, true, &tasks).unwrap()
    };
    cluster.begin_to_move(slot, 0, 1).await;
    let refused = queue.enqueue(&numbered(1)).await.unwrap_err();
    let waits = matches!(&refused, Error::Unavailable { detail, .. } if detail.starts_with("TRYAGAIN"));
    assert!(waits, "{refused:?}");
    assert_eq!(parked(owner).await, 1, "it began");
    cluster.stay(slot, 0, 1).await;
    assert_eq!(queue.enqueue(&numbered(1)).await.unwrap(), [Accepted::Created]);

    // Without the guard it begins, takes the one that is parked, and fails at the key that went with it.
    fill(owner).await;
    cluster.begin_to_move(slot, 0, 1).await;
    let broken = unguarded(&numbered(2));
    let broken = broken.query_async::<redis::Value>(&mut owner.connection().await).await;
    assert!(broken.is_err(), "{broken:?}");
    cluster.stay(slot, 0, 1).await;
    assert_eq!(parked(owner).await, 0, "the guard is not needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_replaced_by_its_replica_which_has_what_it_confirmed() {
    let cluster = TestCluster::start(1, &[]).await;
    let load = Load::start(|role| cluster.role_url(role), Durability::Replicas(1)).await;
    cluster.masters[0].kill9();
    let took = load.goes_on().await;
    println!("a task ran {took:?} after the kill (nodes wait 1.5 s for a dead one)");
    load.settle(Kept::Replicas(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_became_master_without_the_functions_gets_them() {
    let cluster = TestCluster::start(1, &[]).await;
    // As users who may load functions: whose role does not let them has to wait for `workyard install`.
    let load = Load::start(|_| cluster.url(), Durability::Replicas(1)).await;
    let replica = &cluster.replicas[0];
    replica.config_set("replica-read-only", "no").await;
    tell(replica, &["FUNCTION", "FLUSH"]).await;
    replica.config_set("replica-read-only", "yes").await;
    tell(replica, &["CLUSTER", "FAILOVER"]).await;
    wait_until(LONG, || async {
        info(replica, "replication").await.contains("role:master")
    })
    .await;
    // The former master lives on: it answers, subscriptions to it stay, and it is not the one any more.
    let took = load.goes_on().await;
    println!("a task ran {took:?} after the failover");
    load.settle(Kept::Replicas(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_without_an_owner_is_waited_for() {
    let cluster = TestCluster::start(0, &[]).await;
    let slot = cluster.slot_of("{q}").await.to_string();
    let load = Load::start(|role| cluster.role_url(role), Durability::Memory).await;
    tell(&cluster.masters[0], &["CLUSTER", "DELSLOTS", &slot]).await;
    let refused = load.queue.overview().await.unwrap_err();
    let down = matches!(
        refused,
        Error::Unavailable {
            outage: Outage::ClusterDown,
            ..
        }
    );
    assert!(down, "{refused:?}");
    // Another queue, of another slot, is served meanwhile.
    broker(&cluster.url())
        .queue(&queue_name("other"))
        .overview()
        .await
        .unwrap();
    tell(&cluster.masters[0], &["CLUSTER", "ADDSLOTS", &slot]).await;
    load.goes_on().await;
    assert_eq!(load.settle(Kept::Memory).await, 0, "tasks ran twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_all_masters_are_seen_together() {
    let cluster = TestCluster::start(0, &[]).await;
    let client = Client::new(ClientConfig::from_url(&cluster.role_url(Role::Producer)).unwrap()).unwrap();
    let names: Vec<_> = (0..12).map(|n| queue_name(&format!("queue-{n}"))).collect();
    for name in &names {
        client.enqueue(name, task("k").build().unwrap()).await.unwrap();
    }
    let broker = broker(&cluster.url());
    let mut owners = std::collections::BTreeSet::new();
    for name in &names {
        owners.insert(u32::from(cluster.slot_of(&format!("{{{name}}}")).await) * 3 / 16384);
    }
    assert_eq!(owners.len(), 3, "the queues must be on all masters");
    let mut listed = broker.queues().await.unwrap();
    listed.sort();
    let mut wanted = names.clone();
    wanted.sort();
    assert_eq!(listed, wanted);
    let figures = broker.figures(&names).await.unwrap();
    assert!(figures.iter().all(|queue| queue.overview.pending == 1), "{figures:?}");
    // Each master runs the functions of its own queues; one alone has not run all of these calls.
    let calls = broker.server_figures().await.unwrap().script_calls.unwrap();
    assert!(calls >= 24, "{calls}");
    let mut clocks = Vec::new();
    for name in &names {
        clocks.push(broker.queue(name).now_us().await.unwrap());
    }
    assert!(clocks.is_sorted(), "one machine, one clock: {clocks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_of_the_wrong_form_is_refused_with_the_right_one() {
    let cluster = TestCluster::start(0, &[]).await;
    let mut node = broker(&cluster.masters[1].own_url());
    let refused = node.queue(&queue_name("q")).overview().await.unwrap_err();
    assert!(
        matches!(&refused, Error::Invalid(why) if why.contains("redis-cluster://")),
        "{refused:?}"
    );
    let single = TestServer::start_single(&[]).await;
    node = broker(&single.own_url().replacen("://", "-cluster://", 1));
    let refused = node.queue(&queue_name("q")).overview().await.unwrap_err();
    assert!(
        matches!(&refused, Error::Invalid(why) if why.contains("no node of a cluster")),
        "{refused:?}"
    );
}
