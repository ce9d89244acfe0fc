//! A master, its replica, and a sentinel.

use workyard_consumer::{Failure, Registry, WorkerConfig};
use workyard_producer::{Client, ClientConfig, Durability, Kept, task};
use workyard_shared::Error;
use workyard_shared::acl::Role;
use workyard_shared::broker::Broker;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::Prefix;
use workyard_tests::{MASTER, TestSentinel, TestServer, info, queue_name, spawn, wait_until};

use crate::load::{LONG, Load};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_replaced_by_its_replica_which_has_what_it_confirmed() {
    let set = TestSentinel::start(&[]).await;
    let load = Load::start(|role| set.role_url(role), Durability::Replicas(1)).await;
    set.master.kill9();
    let took = load.goes_on().await;
    println!("a task ran {took:?} after the kill (the sentinel waits 1 s for a dead master)");
    // Empty, and for some seconds a master again: nobody may take it for the one.
    set.master.restart().await;
    load.goes_on().await;
    wait_until(LONG, || async {
        info(&set.master, "replication").await.contains("role:slave")
    })
    .await;
    load.goes_on().await;
    load.settle(Kept::Replicas(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_master_that_lives_on_is_left_for_the_new_one() {
    let set = TestSentinel::start(&[]).await;
    let load = Load::start(|role| set.role_url(role), Durability::Replicas(1)).await;
    fail_over(&set).await;
    wait_until(LONG, || async {
        info(&set.master, "replication").await.contains("role:slave")
    })
    .await;
    let took = load.goes_on().await;
    println!("a task ran {took:?} after the failover");
    load.settle(Kept::Replicas(1)).await;
}

/// Asks for a failover, until the sentinel has seen that the replica is well.
async fn fail_over(set: &TestSentinel) {
    wait_until(LONG, || async {
        let mut failover = redis::cmd("SENTINEL");
        failover.arg("FAILOVER").arg(MASTER);
        failover.exec_async(&mut set.sentinel.connection().await).await.is_ok()
    })
    .await;
}

async fn names_the_replica(set: &TestSentinel) -> bool {
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(MASTER);
    let said: (String, u16) = ask.query_async(&mut set.sentinel.connection().await).await.unwrap();
    said.1 == set.replicas[0].port()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_leave_a_former_master_that_does_not_know_yet_that_it_is_one() {
    let set = TestSentinel::start(&[]).await;
    let client = Client::new(ClientConfig::from_url(&set.role_url(Role::Producer)).unwrap()).unwrap();
    let queue = queue_name("q");
    let add = async || client.enqueue(&queue, task("k").build().unwrap()).await.unwrap();
    add().await;
    fail_over(&set).await;
    wait_until(LONG, || names_the_replica(&set)).await;
    // Nothing failed, no connection ended: only the sentinel's word makes a client go.
    let taken = async || {
        let id = add().await.id.to_string();
        let mut find = redis::cmd("HEXISTS");
        find.arg("workyard:{q}:tasks").arg(id);
        find.query_async::<bool>(&mut set.replicas[0].connection().await)
            .await
            .unwrap()
    };
    wait_until(LONG, taken).await;
    assert!(
        info(&set.master, "replication").await.contains("role:master"),
        "it was told, or too slow to show anything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sentinels_that_disagree_the_one_that_knows_of_the_latest_failover_is_believed() {
    let set = TestSentinel::start(&[]).await;
    fail_over(&set).await;
    wait_until(LONG, || names_the_replica(&set)).await;
    let late = set.latecomer().await;
    let client = Client::new(ClientConfig::from_url(&set.role_url_of(Role::Producer, &late)).unwrap()).unwrap();
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(MASTER);
    let said: (String, u16) = ask.query_async(&mut late.connection().await).await.unwrap();
    let id = client
        .enqueue(&queue_name("q"), task("k").build().unwrap())
        .await
        .unwrap()
        .id;
    assert_eq!(
        said.1,
        set.master.port(),
        "it has been told already, and disagrees with nobody"
    );
    let mut find = redis::cmd("HEXISTS");
    find.arg("workyard:{q}:tasks").arg(id.to_string());
    let there: bool = find.query_async(&mut set.replicas[0].connection().await).await.unwrap();
    assert!(there, "it went to the former master");
}

/// Closes the connections of clients, but for those that sent this last.
async fn cut_all_but(server: &TestServer, last: &str) {
    let mut redis = server.connection().await;
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    let (kept, cut): (Vec<&str>, Vec<&str>) = list.lines().partition(|line| line.contains(last));
    assert!(!kept.is_empty(), "nobody sent {last}:\n{list}");
    for line in cut
        .into_iter()
        .filter(|line| !line.contains("cmd=client") && !line.contains("flags=S"))
    {
        let id = line.trim_start_matches("id=").split(' ').next().unwrap();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        kill.exec_async(&mut redis).await.unwrap();
    }
}

/// The sum of the squares of one to ten, in a tree of three levels.
async fn sum_of_squares(url: &str) -> Option<i64> {
    let client = Client::new(ClientConfig::from_url(url).unwrap()).unwrap();
    let queue = queue_name("q");
    let job = client.map_reduce(&queue, "square", "add").items(1..=10);
    let job = job.chunk_size(1).fan_in(4).submit().await.unwrap();
    job.wait(LONG).await.unwrap();
    job.result::<i64>().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_does_not_believe_a_former_master_that_its_inputs_are_gone() {
    let set = TestSentinel::start(&[]).await;
    let mut registry = Registry::new();
    registry.map("square", |n: i64| Ok::<i64, Failure>(n * n)).unwrap();
    registry
        .reduce("add", |a: i64, b: i64| Ok::<i64, Failure>(a + b))
        .unwrap();
    let link = LinkConfig::from_url(&set.role_url(Role::Consumer)).unwrap();
    let worker = spawn(registry, WorkerConfig::new(link, queue_name("q")));
    assert_eq!(sum_of_squares(&set.role_url(Role::Producer)).await, Some(385));
    fail_over(&set).await;
    wait_until(LONG, || names_the_replica(&set)).await;
    // For some ten seconds the former master does not know. What reads data has no reason to look for the new one, yet.
    cut_all_but(&set.master, "cmd=hmget").await;
    assert_eq!(sum_of_squares(&set.role_url(Role::Producer)).await, Some(385));
    assert!(
        info(&set.master, "replication").await.contains("role:master"),
        "too slow to show anything"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_no_sentinel_knows_is_refused_with_its_name() {
    let set = TestSentinel::start(&[]).await;
    let url = set.url().replace(MASTER, "nobody");
    let link = Link::new(LinkConfig::from_url(&url).unwrap(), None).unwrap();
    let queue = Broker::new(link, Prefix::default()).queue(&queue_name("q"));
    let refused = queue.overview().await.unwrap_err();
    assert!(
        matches!(&refused, Error::Invalid(why) if why.contains("\"nobody\"")),
        "{refused:?}"
    );
}
