//! Leases, fencing, repeats: what survives when a consumer dies, freezes, or loses a reply.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use workyard_consumer::{Context, Failure, Registry};
use workyard_shared::broker::{
    Beat, ClaimRequest, Claimed, Completion, FailVerdict, FailureReport, Grant, Handback, Queue, Settled, Tries, Turn,
};
use workyard_shared::name::{SessionId, TaskId};
use workyard_tests::{Yard, new_task, wait_until};

const SOON: Duration = Duration::from_secs(15);
const LEASE: Duration = Duration::from_millis(300);

async fn register(queue: &Queue, lease: Duration) -> SessionId {
    let consumer = SessionId::fresh();
    assert!(matches!(
        queue.heartbeat(&consumer, lease, true).await.unwrap(),
        Beat::Ok { .. }
    ));
    consumer
}

async fn claim(queue: &Queue, consumer: &SessionId, most: usize, above: u64) -> Vec<Grant> {
    claim_as(queue, ClaimRequest::new(consumer, most, above)).await
}

async fn claim_as(queue: &Queue, request: ClaimRequest<'_>) -> Vec<Grant> {
    match queue.claim(request).await.unwrap() {
        Claimed::Tasks(grants) | Claimed::More(grants) => grants,
        other => panic!("{other:?}"),
    }
}

/// Claims as a consumer that says which suspect it starts.
async fn claim_telling(queue: &Queue, consumer: &SessionId, most: usize) -> Vec<Grant> {
    let request = ClaimRequest {
        tries: Tries::Always,
        ..ClaimRequest::new(consumer, most, 0)
    };
    claim_as(queue, request).await
}

fn completion(grant: &Grant, result: &'static str) -> Completion {
    Completion {
        id: grant.id.clone(),
        token: grant.token,
        kind: "k".to_owned(),
        created_ms: 1,
        run: Duration::ZERO,
        retention: Duration::from_secs(60),
        result: bytes::Bytes::from_static(result.as_bytes()),
    }
}

async fn complete(queue: &Queue, consumer: &SessionId, number: u64, grant: &Grant, result: &'static str) -> Settled {
    let turn = Turn {
        number,
        completions: vec![completion(grant, result)],
        ..Turn::default()
    };
    turn.send(queue, consumer, None).await.unwrap().completions[0]
}

/// Waits until the leases of the dead have ended, and takes their work.
async fn reclaim_all(queue: &Queue) -> (u64, u64) {
    let (mut back, mut poisoned) = (0, 0);
    // Somebody has to live: nobody is judged in a silence of all.
    let alive = register(queue, SOON).await;
    wait_until(SOON, || async {
        queue.heartbeat(&alive, SOON, false).await.unwrap();
        !queue.dead_consumers().await.unwrap().is_empty()
    })
    .await;
    for dead in queue.dead_consumers().await.unwrap() {
        loop {
            let step = queue.reclaim(&dead).await.unwrap();
            back += step.back;
            poisoned += step.poisoned;
            if !step.more {
                break;
            }
        }
    }
    (back, poisoned)
}

#[tokio::test]
async fn a_reply_that_was_lost_strands_nothing_and_a_repeat_gets_its_first_answer() {
    let yard = Yard::start().await;
    let consumer = register(&yard.queue, Duration::from_secs(30)).await;
    yard.add_many(3, "k", "1").await;
    let first = claim(&yard.queue, &consumer, 2, 0).await;
    // The reply never came: the consumer still knows no token, and gets the same again.
    let again = claim(&yard.queue, &consumer, 2, 0).await;
    let ids = |grants: &[Grant]| {
        let mut ids: Vec<_> = grants.iter().map(|g| (g.id.clone(), g.token)).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&first), ids(&again));
    let next = claim(&yard.queue, &consumer, 2, first[0].token).await;
    assert_eq!(next.len(), 1);
    assert!(next[0].token > first[0].token);
    for _ in 0..3 {
        assert_eq!(
            complete(&yard.queue, &consumer, 7, &first[0], "1").await,
            Settled::Completed
        );
    }
    assert_eq!(yard.total("completed").await, 1);
    assert_eq!(
        complete(&yard.queue, &consumer, 8, &first[0], "2").await,
        Settled::Stale
    );
    assert_eq!(yard.result(&first[0].id).await, "1");
}

#[tokio::test]
async fn only_the_newest_holder_may_settle_extend_or_report() {
    let yard = Yard::start().await;
    let frozen = register(&yard.queue, LEASE).await;
    let id = yard.add("k", "1", |_| {}).await;
    let old = claim(&yard.queue, &frozen, 1, 0).await.remove(0);
    assert_eq!(reclaim_all(&yard.queue).await, (1, 0));
    let heir = register(&yard.queue, Duration::from_secs(30)).await;
    let new = claim(&yard.queue, &heir, 1, 0).await.remove(0);
    assert!(new.token > old.token);
    assert_eq!(new.meta.crashes, 1);

    assert_eq!(
        complete(&yard.queue, &frozen, 1, &old, "\"late\"").await,
        Settled::Stale
    );
    // Not even with the new owner's name and the old token.
    assert_eq!(complete(&yard.queue, &heir, 1, &old, "\"late\"").await, Settled::Stale);
    let back = Handback {
        id: id.clone(),
        token: old.token,
        unhandled: None,
        delay: Duration::ZERO,
    };
    let failure = FailureReport {
        id: id.clone(),
        token: old.token,
        verdict: FailVerdict::Final,
        delay: None,
        run: Duration::ZERO,
        random: 0.0,
        error: "late".to_owned(),
    };
    let turn = Turn {
        number: 2,
        handbacks: vec![back],
        failures: vec![failure],
        ..Turn::default()
    };
    for consumer in [&frozen, &heir] {
        let answer = turn.send(&yard.queue, consumer, None).await.unwrap();
        assert_eq!(
            (answer.handbacks, answer.failures),
            (vec![Settled::Stale], vec![Settled::Stale])
        );
        assert!(!yard.consumer.progress(consumer, &id, old.token, "50%").await.unwrap());
    }
    assert_eq!(
        yard.consumer.heartbeat(&frozen, LEASE, false).await.unwrap(),
        Beat::Lost
    );
    let request = ClaimRequest {
        park: true,
        ..ClaimRequest::new(&frozen, 1, 0)
    };
    assert!(matches!(yard.consumer.claim(request).await.unwrap(), Claimed::Lost));

    assert_eq!(
        complete(&yard.queue, &heir, 3, &new, "\"right\"").await,
        Settled::Completed
    );
    assert_eq!(yard.result(&id).await, "\"right\"");
    assert!(yard.total("stale").await >= 4);
}

#[tokio::test]
async fn tasks_of_a_dead_consumer_come_back_in_their_old_order_and_the_third_death_is_poison() {
    let yard = Yard::start().await;
    // Ids that sort the other way: the order is that of arrival, not of names.
    let mut ids = Vec::new();
    for n in 0..450 {
        let id = TaskId::new(format!("t{}", 999 - n)).unwrap();
        ids.push(yard.add_as(id, "k", "1", |_| {}).await);
    }
    for death in 1..=3_u64 {
        let consumer = register(&yard.queue, LEASE).await;
        let grants = claim(&yard.queue, &consumer, 450, 0).await;
        let order: Vec<_> = grants.iter().map(|g| g.id.clone()).collect();
        assert_eq!(order, ids, "death {death}");
        assert_eq!(
            reclaim_all(&yard.queue).await,
            if death < 3 { (450, 0) } else { (0, 450) }
        );
    }
    let seen = yard.overview().await;
    assert_eq!((seen.failed, seen.pending, seen.running), (450, 0, 0));
    let meta = yard.dead(&ids[0]).await;
    assert_eq!((meta.reason.as_str(), meta.failures, meta.crashes), ("poison", 0, 3));
}

#[tokio::test]
async fn of_the_suspects_that_a_dead_consumer_held_only_the_one_that_it_had_started_is_charged() {
    let yard = Yard::start().await;
    let ids = yard.add_many(5, "k", "1").await;
    for death in 1..=6 {
        let consumer = register(&yard.queue, LEASE).await;
        let grants = claim_telling(&yard.queue, &consumer, 100).await;
        assert_eq!(grants.len(), 5);
        let suspects = grants.iter().filter(|grant| grant.is_suspect()).count();
        assert_eq!(suspects, if death <= 2 { 0 } else { 5 });
        if death == 6 {
            // The last one counts, and only under the token of its claim.
            for (at, token) in [(0, grants[0].token), (3, grants[3].token), (1, grants[1].token + 1)] {
                let known = yard.queue.try_suspect(&consumer, &ids[at], token, false).await.unwrap();
                assert_eq!(known, at != 1);
            }
        }
        assert_eq!(reclaim_all(&yard.queue).await, if death < 6 { (5, 0) } else { (4, 1) });
    }
    let meta = yard.dead(&ids[3]).await;
    assert_eq!((meta.reason.as_str(), meta.crashes), ("poison", 3));
    let (_, meta) = yard.live(&ids[0]).await;
    assert_eq!((meta.crashes, meta.releases), (2, 4), "it only waited there");
}

/// Fresh killers start beside it, each time another: it is charged with their deaths, and has three more of them.
#[tokio::test]
async fn a_suspect_beside_which_others_had_started_bears_three_more_deaths_than_one_that_was_alone() {
    let yard = Yard::start().await;
    let id = yard.add_many(1, "k", "1").await.remove(0);
    for death in 1..=6_u32 {
        let consumer = register(&yard.queue, LEASE).await;
        let grant = claim_telling(&yard.queue, &consumer, 1).await.remove(0);
        assert_eq!(
            (grant.meta.crashes, grant.survived()),
            (death - 1, death.saturating_sub(3))
        );
        for (beside, token) in [(false, grant.token), (true, grant.token), (true, grant.token + 1)] {
            let known = yard.queue.try_suspect(&consumer, &id, token, beside).await.unwrap();
            assert_eq!(known, token == grant.token);
        }
        let expected = if death < 6 { (1, 0) } else { (0, 1) };
        assert_eq!(reclaim_all(&yard.queue).await, expected, "death {death}");
    }
    let meta = yard.dead(&id).await;
    assert_eq!((meta.reason.as_str(), meta.crashes), ("poison", 6));
}

#[tokio::test]
async fn what_is_said_late_of_a_suspect_that_has_ended_takes_no_charge_from_the_next_one() {
    let yard = Yard::start().await;
    let ids = yard.add_many(2, "k", "1").await;
    for death in 1..=3 {
        let consumer = register(&yard.queue, LEASE).await;
        let grants = claim_telling(&yard.queue, &consumer, 2).await;
        for (id, beside) in [(&ids[0], false), (&ids[1], false), (&ids[0], true)] {
            assert!(
                yard.queue
                    .try_suspect(&consumer, id, grants[0].token, beside)
                    .await
                    .unwrap()
            );
        }
        let expected = if death < 3 { (2, 0) } else { (1, 1) };
        assert_eq!(reclaim_all(&yard.queue).await, expected);
    }
    assert_eq!(yard.dead(&ids[1]).await.reason, "poison", "it was alone");
}

#[tokio::test]
async fn a_silence_of_everybody_gives_every_session_one_more_lease() {
    let yard = Yard::start().await;
    let lease = Duration::from_millis(600);
    let (a, b) = (register(&yard.queue, lease).await, register(&yard.queue, lease).await);
    yard.add_many(2, "k", "1").await;
    claim(&yard.queue, &a, 1, 0).await;
    claim(&yard.queue, &b, 1, 0).await;
    // Redis is away for longer than the lease: nobody could renew.
    yard.server.sigstop();
    tokio::time::sleep(lease * 2).await;
    yard.server.sigcont();
    // Whoever is back first, a maintainer before any heartbeat or a heartbeat, must see nobody as dead.
    assert!(yard.consumer.dead_consumers().await.unwrap().is_empty());
    for consumer in [&a, &b] {
        assert_eq!(yard.consumer.reclaim(consumer).await.unwrap().back, 0);
    }
    assert!(matches!(
        yard.consumer.heartbeat(&a, lease, false).await.unwrap(),
        Beat::Ok { .. }
    ));
    assert!(yard.consumer.dead_consumers().await.unwrap().is_empty());
    assert_eq!(yard.consumer.reclaim(&b).await.unwrap().back, 0);
    assert!(matches!(
        yard.consumer.heartbeat(&b, lease, false).await.unwrap(),
        Beat::Ok { .. }
    ));
}

#[tokio::test]
async fn a_repeated_enqueue_is_recognised_and_a_callers_own_id_is_one_task() {
    use workyard_shared::broker::{Accepted, Batch};
    let yard = Yard::start().await;
    let session = SessionId::fresh();
    let tasks = vec![
        (TaskId::fresh(), new_task("k", "1")),
        (TaskId::fresh(), new_task("k", "2")),
    ];
    let cmd = yard
        .queue
        .enqueue_cmd(
            Batch {
                session: &session,
                number: 1,
                waiter: None,
            },
            true,
            &tasks,
        )
        .unwrap();
    assert_eq!(yard.producer.enqueue(&cmd).await.unwrap(), [Accepted::Created; 2]);
    assert_eq!(yard.overview().await.pending, 2);
    // The reply was lost, and meanwhile both have run and left no result: only the batch number tells.
    let consumer = register(&yard.queue, SOON).await;
    let grants = claim(&yard.queue, &consumer, 2, 0).await;
    let completions = grants
        .iter()
        .map(|g| Completion {
            retention: Duration::ZERO,
            ..completion(g, "1")
        })
        .collect();
    Turn {
        number: 1,
        completions,
        ..Turn::default()
    }
    .send(&yard.queue, &consumer, None)
    .await
    .unwrap();
    for _ in 0..3 {
        assert_eq!(yard.producer.enqueue(&cmd).await.unwrap(), [Accepted::Created; 2]);
    }
    assert_eq!((yard.overview().await.pending, yard.total("submitted").await), (0, 2));
    let own = TaskId::new("order-42").unwrap();
    for (number, wanted) in [(2, Accepted::Created), (3, Accepted::Duplicate)] {
        let tasks = vec![(own.clone(), new_task("k", "1"))];
        let cmd = yard
            .queue
            .enqueue_cmd(
                Batch {
                    session: &session,
                    number,
                    waiter: None,
                },
                false,
                &tasks,
            )
            .unwrap();
        assert_eq!(yard.producer.enqueue(&cmd).await.unwrap(), [wanted]);
    }
    assert_eq!(yard.overview().await.pending, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_nobody_knows_burns_no_attempt_and_is_dead_lettered_after_ten_tries() {
    let yard = Yard::start().await;
    let id = yard.add("mystery", "1", |o| o.max_attempts = Some(1)).await;
    for round in 1..=10_u64 {
        let consumer = register(&yard.queue, Duration::from_secs(30)).await;
        let grant = claim(&yard.queue, &consumer, 1, 0).await.remove(0);
        assert_eq!(grant.meta.failures, 0);
        let back = Handback {
            id: id.clone(),
            token: grant.token,
            unhandled: Some("mystery".to_owned()),
            delay: Duration::ZERO,
        };
        let turn = Turn {
            number: 1,
            handbacks: vec![back],
            ..Turn::default()
        };
        let settled = turn.send(&yard.queue, &consumer, None).await.unwrap().handbacks[0];
        assert_eq!(settled, if round < 10 { Settled::Released } else { Settled::Failed });
    }
    let meta = yard.dead(&id).await;
    assert_eq!(meta.reason, "no-handler");
    assert!(meta.error.contains("mystery"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_knows_no_handler_leaves_the_task_to_one_that_does() {
    let yard = Yard::start().await;
    let ignorant = yard.work(Registry::new(), yard.config()).await;
    let id = yard.add("k", "1", |_| {}).await;
    yard.reaches("released", 1).await;
    let mut registry = Registry::new();
    registry
        .register("k", |_: Context, n: u32| async move { Ok::<_, Failure>(n + 1) })
        .unwrap();
    let able = yard.work(registry, yard.config()).await;
    ignorant.stop().await;
    assert_eq!(yard.result(&id).await, "2");
    able.stop().await;
}

#[tokio::test]
async fn an_idle_consumer_that_was_woken_and_froze_does_not_keep_the_task_from_others() {
    let yard = Yard::start().await;
    let frozen = register(&yard.queue, LEASE).await;
    let request = ClaimRequest {
        park: true,
        ..ClaimRequest::new(&frozen, 1, 0)
    };
    assert!(matches!(yard.consumer.claim(request).await.unwrap(), Claimed::Tasks(g) if g.is_empty()));
    assert_eq!(yard.overview().await.parked, 1);
    yard.add("k", "1", |_| {}).await;
    assert_eq!(
        yard.overview().await.parked,
        0,
        "its wake-up was sent and it is not asked twice"
    );
    let mut registry = Registry::new();
    registry
        .register("k", |_: Context, n: u32| async move { Ok::<_, Failure>(n) })
        .unwrap();
    // Whether it is registered cannot be told by their number: the frozen one's lease may end meanwhile.
    let worker = workyard_tests::spawn(registry, yard.config());
    yard.reaches("completed", 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn while_nobody_could_renew_nobody_is_dead() {
    let yard = Yard::start().await;
    let lease = Duration::from_millis(200);
    let consumer = register(&yard.queue, lease).await;
    yard.add("k", "1", |_| {}).await;
    assert_eq!(claim(&yard.queue, &consumer, 1, 0).await.len(), 1);
    tokio::time::sleep(3 * lease).await;
    // Redis can serve again, and the maintainer's step comes before any heartbeat.
    assert!(yard.consumer.dead_consumers().await.unwrap().is_empty());
    assert_eq!(yard.consumer.reclaim(&consumer).await.unwrap().back, 0);
    assert!(matches!(
        yard.consumer.heartbeat(&consumer, lease, false).await.unwrap(),
        Beat::Ok { .. }
    ));
}
