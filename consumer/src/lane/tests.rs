//! The lane's decisions at the races that a whole worker meets once in thousands of tasks.

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use workyard_shared::broker::{Broker, Claimed, Turn, TurnAnswer};
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Prefix, QueueName};
use workyard_shared::outage::Watch;
use workyard_shared::record::{Meta, Record};

use super::turn::TurnEnd;
use super::*;
use crate::counters::Counters;
use crate::health::{Desk, Host};
use crate::jobs::Spill;
use crate::metrics::Meters;
use crate::ops::Progress;
use crate::queues::{Queues, Refusals, Served};
use crate::registry::Registry;
use crate::slots::{QueueOrder, Slots};

/// A lane whose turn has been made and never sent: nothing polls it.
fn lane_with_a_claim_under_way() -> Lane {
    let link = Link::new(LinkConfig::from_url("redis://127.0.0.1:1/").unwrap(), None).unwrap();
    let broker = Broker::new(link, Prefix::default());
    let fleet = Fleet {
        bulk: broker.clone(),
        broker,
        stages: Arc::new(Registry::new().stages(&[])),
        spill: Arc::new(Spill::new(Vec::new())),
        host: Arc::new(Host::new()),
        urgent: Arc::new(Notify::new()),
        queues: Queues::default(),
        handlers: std::sync::RwLock::new(Arc::new(Registry::new())),
        protection: std::sync::RwLock::default(),
        retiring: tokio_util::task::TaskTracker::new(),
        middleware: Arc::from([]),
        hooks: tokio_util::task::TaskTracker::new(),
        tracing: None,
        suspects: Arc::default(),
        slots: Slots::of(4, QueueOrder::Strict, &[1]),
        counters: Counters::default(),
        meters: Meters::new(),
        progress: Arc::new(Progress::new()),
        watch: Watch::default(),
        drain: CancellationToken::new(),
        halt: CancellationToken::new(),
        over: CancellationToken::new(),
        poll: Duration::from_secs(600),
        prefetch: 0,
    };
    let (_, events) = mpsc::unbounded_channel();
    let served = Served {
        name: QueueName::new("q").unwrap(),
        lane: 0,
        desk: Arc::new(Desk::new("q", Arc::new(Host::new()), Arc::new(Notify::new()))),
        meter: fleet.meters.queue(),
        mark: fleet.progress.mark(),
        refusals: Refusals::default(),
        drain: fleet.drain.child_token(),
        halt: fleet.halt.child_token(),
    };
    let mut lane = Lane::new(Arc::new(fleet), Arc::new(served), events, Over::default());
    lane.hear(LaneEvent::Session(SessionId::fresh()));
    lane.next_claim(false);
    assert!(lane.claiming.is_some());
    lane
}

fn empty_reply(lane: &Lane, connection: u64) -> TurnDone {
    reply(lane, connection, Claimed::Tasks(Vec::new()))
}

fn reply(lane: &Lane, connection: u64, claimed: Claimed) -> TurnDone {
    TurnDone {
        turn: Turn::default(),
        session: lane.session.as_ref().unwrap().session.clone(),
        wanted: 4,
        subscribed: true,
        connection,
        end: TurnEnd::Answered(TurnAnswer {
            claimed: Some(claimed),
            ..TurnAnswer::default()
        }),
    }
}

#[tokio::test]
async fn an_empty_reply_lets_the_lane_rest_until_it_is_woken() {
    let mut lane = lane_with_a_claim_under_way();
    lane.finish_turn(empty_reply(&lane, 0));
    assert!(!lane.hungry && lane.subscribed);
    lane.hear(LaneEvent::Work);
    assert!(lane.hungry);
}

#[tokio::test]
async fn a_wake_up_heard_before_the_empty_reply_that_it_came_behind_is_kept() {
    let mut lane = lane_with_a_claim_under_way();
    lane.hear(LaneEvent::Work);
    lane.finish_turn(empty_reply(&lane, 0));
    assert!(lane.hungry, "the task was left to the poll");
}

#[tokio::test]
async fn a_subscription_on_a_connection_that_was_lost_meanwhile_counts_for_nothing() {
    let mut lane = lane_with_a_claim_under_way();
    lane.hear(LaneEvent::Disconnected);
    lane.finish_turn(empty_reply(&lane, 0));
    assert!(lane.hungry && !lane.subscribed);
}

#[tokio::test]
async fn all_reservations_are_given_back_with_an_empty_reply() {
    let mut lane = lane_with_a_claim_under_way();
    assert_eq!(
        lane.fleet.slots.reserve(0, 0, 100),
        0,
        "all slots are reserved by the claim under way"
    );
    lane.finish_turn(empty_reply(&lane, 0));
    assert_eq!(lane.fleet.slots.reserve(0, 0, 100), 4);
}

#[tokio::test]
async fn a_reply_that_the_byte_limit_cut_short_leaves_the_lane_hungry() {
    let mut lane = lane_with_a_claim_under_way();
    lane.finish_turn(reply(&lane, 0, Claimed::More(Vec::new())));
    assert!(lane.hungry, "the rest was left to the poll");
}

#[tokio::test]
async fn a_lost_session_does_not_claim_in_a_circle() {
    let mut lane = lane_with_a_claim_under_way();
    lane.finish_turn(reply(&lane, 0, Claimed::Lost));
    assert!(!lane.hungry && lane.poll_at > Instant::now() + Duration::from_secs(60));
}

/// A task that two consumers died under.
fn suspect(id: &str) -> Grant {
    Grant {
        id: id.to_owned(),
        token: 7,
        record: Record::parse(Bytes::from_static(b"d1700000000000 work\n\nnull")),
        meta: Meta {
            crashes: 2,
            ..Meta::default()
        },
    }
}

#[tokio::test]
async fn a_suspect_starts_when_redis_knows_of_it_and_others_that_came_with_it_wait() {
    let mut lane = lane_with_a_claim_under_way();
    let mut registry = Registry::new();
    registry
        .register("work", |_: crate::Context, (): ()| {
            std::future::pending::<Result<(), crate::Failure>>()
        })
        .unwrap();
    *lane.fleet.handlers.write().unwrap() = Arc::new(registry);
    lane.claiming = None;
    lane.finish_turn(reply(&lane, 0, Claimed::More(["a", "b", "c"].map(suspect).into())));
    assert_eq!(lane.ready.len(), 1);
    assert!(!lane.outbox.is_empty(), "others may have time for these");
    lane.start_ready();
    assert!(
        lane.held_back && lane.trying.is_none(),
        "another may have been let start just now"
    );
    tokio::time::sleep(LOOK_AGAIN).await;
    lane.start_ready();
    assert!(
        lane.ready.is_empty() && lane.suspects_waiting() == 1,
        "Redis is being told"
    );
    assert!(!lane.fleet.suspects.lets_start(), "nothing else starts meanwhile");
    lane.hear(LaneEvent::Cancel("a".to_owned()));
    assert!(lane.trying.is_none() && lane.held.is_empty());
}
