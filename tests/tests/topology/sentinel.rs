//! A master, its replica, and a sentinel.

use workyard_producer::{Durability, Kept};
use workyard_shared::Error;
use workyard_shared::broker::Broker;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::Prefix;
use workyard_tests::{MASTER, TestSentinel, info, queue_name, wait_until};

use crate::load::{LONG, Load};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_replaced_by_its_replica_which_has_what_it_confirmed() {
    let set = TestSentinel::start(&[]).await;
    let load = Load::start(&set.url(), Durability::Replicas(1)).await;
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
    let load = Load::start(&set.url(), Durability::Replicas(1)).await;
    let mut failover = redis::cmd("SENTINEL");
    failover.arg("FAILOVER").arg(MASTER);
    let answer = failover
        .query_async::<String>(&mut set.sentinel.connection().await)
        .await;
    assert_eq!(answer.unwrap(), "OK");
    wait_until(LONG, || async {
        info(&set.master, "replication").await.contains("role:slave")
    })
    .await;
    let took = load.goes_on().await;
    println!("a task ran {took:?} after the failover");
    load.settle(Kept::Replicas(1)).await;
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
