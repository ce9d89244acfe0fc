//! Load balancing by measured health, with real consumers: shares, circuits, breakers, and what an idle fleet costs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use workyard_consumer::{Concurrency, Context, Failure, Registry, WorkerConfig};
use workyard_shared::balance::Policy;
use workyard_shared::name::QueueName;
use workyard_shared::settings::Setting;
use workyard_tests::{Running, Yard, queue_name, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// Three times what is promised of a consumer that begins to fail, ...
const PROBES_ONLY: Duration = Duration::from_secs(9);
/// ... of one that is mended, ...
const SHARE_AGAIN: Duration = Duration::from_secs(30);
/// ... and of a kind whose downstream is dead.
const BREAKER: Duration = Duration::from_secs(6);

/// A worker whose handler counts and can be made to fail.
struct Watched {
    started: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
    /// A task that starts while this is set goes on until it is cancelled ...
    hangs: Arc<AtomicBool>,
    /// ... and stands here.
    hanging: Arc<Mutex<Vec<String>>>,
    running: Running,
}

impl Watched {
    async fn start(yard: &Yard, config: WorkerConfig, takes: Duration) -> Self {
        let (started, fails) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (hangs, hanging) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let mut registry = Registry::new();
        for kind in ["work", "other"] {
            let (started, fails) = (Arc::clone(&started), Arc::clone(&fails));
            let (hangs, hanging) = (Arc::clone(&hangs), Arc::clone(&hanging));
            registry
                .register(kind, move |ctx: Context, _: serde_json::Value| {
                    started.fetch_add(1, Ordering::SeqCst);
                    let fails = fails.load(Ordering::SeqCst) && ctx.kind() == "work";
                    let hangs = hangs.load(Ordering::SeqCst);
                    if hangs {
                        hanging.lock().unwrap().push(ctx.id().to_owned());
                    }
                    async move {
                        if hangs {
                            ctx.cancellation().cancelled().await;
                        }
                        tokio::time::sleep(takes).await;
                        if fails { Err(Failure::retry("down")) } else { Ok(()) }
                    }
                })
                .unwrap();
        }
        let running = yard.work(registry, config).await;
        Self {
            started,
            fails,
            hangs,
            hanging,
            running,
        }
    }

    fn count(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }
}

/// Sets the policy and waits until the maintainer has told everybody.
async fn choose(yard: &Yard, policy: &str) {
    let set = workyard_tests::workspace_binary("workyard")
        .args(["--redis-url", &yard.server.operator_url(), "queue", "set", "q"])
        .arg(format!("balance={policy}"))
        .output()
        .unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    yard.fleet_says(&format!("\"policy\":\"{policy}\""), SOON).await;
    // Everybody has heard it when its health key says so, and stands in its new place: with a beat under `adaptive`, whose
    // ranks are far below any time of parking, and under `round-robin` with the next task, which the caller runs first.
    let heard = format!("\"balance\":\"{policy}\"");
    wait_until(SOON, || async {
        let consumers = yard.queue.consumers().await.unwrap();
        let mut all = !consumers.is_empty();
        for (consumer, _) in consumers {
            all &= yard
                .broker
                .health(&consumer)
                .await
                .unwrap()
                .is_some_and(|json| json.contains(&heard));
        }
        all
    })
    .await;
    if policy == "adaptive" {
        let connection = yard.server.connection().await;
        let late = redis::Cmd::zcount(yard.queue.keys().named("parked"), 1_i64 << 50, "+inf");
        let late = &late;
        wait_until(SOON, || {
            let mut connection = connection.clone();
            async move { late.query_async::<u64>(&mut connection).await.unwrap() == 0 }
        })
        .await;
    }
}

/// Two workers of which one begins to fail, and a steady stream of tasks, about a quarter of what they can do.
struct Pair {
    yard: Yard,
    well: Watched,
    sick: Watched,
    stop: Arc<AtomicBool>,
    stream: tokio::task::JoinHandle<()>,
}

impl Pair {
    /// Both are at work.
    async fn start() -> Self {
        let yard = Yard::start().await;
        let config = WorkerConfig {
            concurrency: 4,
            ..yard.config()
        };
        let well = Watched::start(&yard, config.clone(), Duration::from_millis(20)).await;
        let sick = Watched::start(&yard, config, Duration::from_millis(20)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let stream = tokio::spawn(steady(yard.queue.clone(), Arc::clone(&stop)));
        wait_until(SOON, || async { well.count() > 50 && sick.count() > 50 }).await;
        Self {
            yard,
            well,
            sick,
            stop,
            stream,
        }
    }

    /// Makes it fail everything; how long it took until it gets probes only: its circuit is open, and in half a second it
    /// began not more than two tasks.
    async fn sicken(&self) -> Duration {
        self.sick.fails.store(true, Ordering::SeqCst);
        let at = Instant::now();
        circuit_opens(&self.yard, PROBES_ONLY).await;
        loop {
            let before = self.sick.count();
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.sick.count() - before <= 2 {
                return at.elapsed() - Duration::from_millis(500);
            }
            assert!(at.elapsed() < PROBES_ONLY, "it still gets its share");
        }
    }

    /// How long it takes until the one that was sick does its half again, or nearly: of 50 tasks luck moves a few.
    async fn share_again(&self) -> Duration {
        let at = Instant::now();
        loop {
            let (a, b) = (self.well.count(), self.sick.count());
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (a, b) = (self.well.count() - a, self.sick.count() - b);
            if b * 3 >= a * 2 && b > 5 {
                return at.elapsed();
            }
            assert!(
                at.elapsed() < SHARE_AGAIN,
                "its share did not come back: {b} beside {a}"
            );
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.stream.await.unwrap();
        self.well.running.stop().await;
        self.sick.running.stop().await;
    }
}

/// Until the circuit of a consumer is open.
async fn circuit_opens(yard: &Yard, limit: Duration) {
    wait_until(limit, || async {
        let mut open = false;
        for (consumer, _) in yard.queue.consumers().await.unwrap() {
            let health = yard.broker.health(&consumer).await.unwrap().unwrap_or_default();
            open |= health.contains(r#""circuit":"open""#) || health.contains(r#""circuit":"probing""#);
        }
        open
    })
    .await;
}

async fn steady(queue: workyard_shared::broker::Queue, stop: Arc<AtomicBool>) {
    let submitter = workyard_shared::submit::Submitter::start(queue);
    while !stop.load(Ordering::SeqCst) {
        let mut tasks = Vec::new();
        for _ in 0..10 {
            let mut task = workyard_tests::new_task("work", "1");
            task.options.max_attempts = Some(1000);
            task.options.backoff = Some(workyard_shared::options::Backoff {
                base: Duration::from_millis(10),
                factor: 1.0,
                ..workyard_shared::options::Backoff::default()
            });
            tasks.push((workyard_shared::name::TaskId::fresh(), task));
        }
        submitter.submit(tasks, true, None, SOON).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How far the share of one of four workers is from a quarter of 100 tasks, one at a time.
async fn unfairness(yard: &Yard, workers: &[Watched], policy: &str) -> u64 {
    // The first round tells each its new rank.
    for _ in 0..8 {
        let id = yard.add("work", "1", |_| {}).await;
        yard.ended(&id).await;
    }
    let before: Vec<u64> = workers.iter().map(Watched::count).collect();
    for _ in 0..100 {
        // Idle is who has parked again: a claim behind the last result may still be on its way.
        wait_until(SOON, || async { yard.overview().await.parked == 4 }).await;
        let id = yard.add("work", "1", |_| {}).await;
        yard.ended(&id).await;
    }
    let shares: Vec<u64> = workers.iter().zip(&before).map(|(w, b)| w.count() - b).collect();
    println!("{policy}: shares of 100 tasks, one at a time: {shares:?}");
    shares.iter().map(|share| share.abs_diff(25)).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_equal_idle_consumers_get_equal_shares() {
    let yard = Yard::start().await;
    let config = WorkerConfig {
        concurrency: 2,
        ..yard.config()
    };
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Watched::start(&yard, config.clone(), Duration::from_millis(5)).await);
    }
    // In turn is exact at once. Adaptive shares follow what is measured, on a machine that runs other tests too: the aim is 5,
    // the best of three counts.
    for (policy, allowed, tries) in [("round-robin", 0, 1), ("adaptive", 5, 3)] {
        choose(&yard, policy).await;
        let mut best = u64::MAX;
        for _ in 0..tries {
            best = best.min(unfairness(&yard, &workers, policy).await);
            if best <= allowed {
                break;
            }
        }
        assert!(best <= allowed, "{policy}: {best} beside a quarter");
    }
    for worker in workers {
        worker.running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_tasks_ended_stands_by_its_new_load_at_once_not_with_its_next_beat() {
    let yard = Yard::start().await;
    yard.operator.set(&[Setting::Balance(Policy::Adaptive)]).await.unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (waits, mut registry) = (Arc::clone(&gate), Registry::new());
    registry
        .register("work", move |_: Context, _: serde_json::Value| {
            let waits = Arc::clone(&waits);
            async move {
                drop(waits.acquire().await.unwrap());
                Ok::<(), Failure>(())
            }
        })
        .unwrap();
    let config = WorkerConfig {
        concurrency: 10,
        // A beat every 40 s.
        lease: Duration::from_secs(120),
        watch_host: false,
        ..yard.config()
    };
    let worker = yard.work(registry, config).await;
    let connection = yard.server.connection().await;
    let (consumer, _) = yard.queue.consumers().await.unwrap().pop().unwrap();
    let rank = redis::Cmd::zscore(yard.queue.keys().named("parked"), consumer.as_str());
    // The load score in tenths of what it is parked with; a time of parking is far above.
    let step = || async {
        let score: Option<f64> = rank.query_async(&mut connection.clone()).await.unwrap();
        score.map(|score| score / 2_f64.powi(45))
    };
    gate.add_permits(1);
    // The first to end makes it beat at once, and so hear of the policy.
    let first = yard.add("work", "1", |_| {}).await;
    yard.ended(&first).await;
    wait_until(SOON, || async {
        let id = yard.add("work", "1", |_| {}).await;
        yard.ended(&id).await;
        step().await.is_some_and(|step| step < 12.0)
    })
    .await;
    gate.acquire().await.unwrap().forget();
    // Beats that the first tasks asked for are over by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..6 {
        let before = yard.overview().await.running;
        yard.add("work", "1", |_| {}).await;
        wait_until(SOON, || async { yard.overview().await.running > before }).await;
        wait_until(SOON, || async { yard.overview().await.parked == 1 }).await;
    }
    assert!(step().await.is_some_and(|step| step > 13.0), "{:?}", step().await);
    gate.add_permits(1);
    let took = wait_until(Duration::from_secs(15), || async {
        step().await.is_some_and(|step| step < 12.0)
    })
    .await;
    println!("its rank followed its load after {took:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_fails_everything_gets_probes_only_and_its_share_again_when_mended() {
    let pair = Pair::start().await;
    println!("probes only after {:?} (aim 3 s)", pair.sicken().await);
    pair.sick.fails.store(false, Ordering::SeqCst);
    println!("its full share again after {:?} (aim 10 s)", pair.share_again().await);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_cancelled_is_followed_by_another() {
    let pair = Pair::start().await;
    let sick = &pair.sick;
    pair.sicken().await;
    sick.hangs.store(true, Ordering::SeqCst);
    wait_until(SOON, || async { !sick.hanging.lock().unwrap().is_empty() }).await;
    sick.hangs.store(false, Ordering::SeqCst);
    sick.fails.store(false, Ordering::SeqCst);
    let probe = sick.hanging.lock().unwrap()[0].clone();
    pair.yard.queue.cancel(&probe).await.unwrap();
    println!(
        "its full share again {:?} after its probe was cancelled",
        pair.share_again().await
    );
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_in_one_queue_keeps_no_slots_from_the_next() {
    let yard = Yard::start().await;
    let one = WorkerConfig {
        concurrency: 4,
        ..yard.config()
    };
    let next = yard.broker.queue(&queue_name("next"));
    let mut both = one.clone();
    both.queues.push((queue_name("next"), 1));
    // More than is done in the time of this test: the first queue never runs dry.
    yard.add_many(10_000, "work", "1").await;
    let well = Watched::start(&yard, one, Duration::from_millis(20)).await;
    let sick = Watched::start(&yard, both, Duration::from_millis(20)).await;
    wait_until(SOON, || async { well.count() > 50 && sick.count() > 50 }).await;
    sick.fails.store(true, Ordering::SeqCst);
    circuit_opens(&yard, SOON).await;
    let at = Instant::now();
    let submitter = workyard_shared::submit::Submitter::start(next.clone());
    let tasks = (0..8).map(|_| {
        let task = workyard_tests::new_task("other", "1");
        (workyard_shared::name::TaskId::fresh(), task)
    });
    submitter
        .submit(tasks.collect::<Vec<_>>(), true, None, SOON)
        .await
        .unwrap();
    wait_until(SOON, || async {
        next.overview().await.unwrap().totals.get("completed") == Some(&8)
    })
    .await;
    println!("8 tasks of the next queue took {:?}", at.elapsed());
    assert!(
        yard.overview().await.pending > 0,
        "the first queue ran dry: nothing was shown"
    );
    well.running.stop().await;
    sick.running.stop().await;
}

/// Every command that shows the queue names the open breaker, and so does `explain` of a task that waits behind it.
fn everybody_is_told(yard: &Yard, waiting: &str) {
    for command in ["consumers", "queues", "stats"] {
        let text = yard.said(&[command]);
        assert!(
            text.contains("queue q: kind work fails everywhere: its breaker is open"),
            "{command}: {text}"
        );
    }
    let text = yard.said(&["explain", waiting, "-q", "q", "--json"]);
    assert!(text.contains(r#""why":"breaker-open","kind":"work""#), "{text}");
}

/// Adds so many that may fail twice and are tried again soon: the last of them.
async fn add_many_retried(yard: &Yard, count: u64) -> String {
    let mut last = String::new();
    for _ in 0..count {
        let added = yard.add("work", "1", |options| {
            options.max_attempts = Some(3);
            options.backoff = Some(workyard_shared::options::Backoff {
                base: Duration::from_millis(500),
                factor: 1.0,
                ..workyard_shared::options::Backoff::default()
            });
        });
        last = added.await;
    }
    last
}

/// How long 50 tasks of another kind take, one by one.
async fn others(yard: &Yard) -> Duration {
    let begun = Instant::now();
    for _ in 0..50 {
        let id = yard.add("other", "1", |o| o.priority = Some(0)).await;
        yard.ended(&id).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_fails_everywhere_waits_without_burning_attempts_and_others_go_on() {
    let yard = Yard::start().await;
    let config = WorkerConfig {
        concurrency: 4,
        ..yard.config()
    };
    let workers = [
        Watched::start(&yard, config.clone(), Duration::from_millis(5)).await,
        Watched::start(&yard, config, Duration::from_millis(5)).await,
    ];
    let undisturbed = others(&yard).await;
    for worker in &workers {
        worker.fails.store(true, Ordering::SeqCst);
    }
    let at = Instant::now();
    let count = 1000;
    let last = add_many_retried(&yard, count).await;
    yard.fleet_says("\"open\"", BREAKER.saturating_sub(at.elapsed())).await;
    println!("the breaker of the kind opened after {:?} (aim 2 s)", at.elapsed());
    everybody_is_told(&yard, &last);
    // Others go on undisturbed.
    let mut beside = others(&yard).await;
    println!("50 tasks of another kind, one by one, took {beside:?}, before {undisturbed:?}");
    // What runs beside this test may hold one up.
    if beside > undisturbed * 3 {
        beside = others(&yard).await;
        println!("... and again {beside:?}");
    }
    assert!(beside <= undisturbed * 3, "{beside:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    for worker in &workers {
        worker.fails.store(false, Ordering::SeqCst);
    }
    yard.reaches("completed", count).await;
    let seen = yard.overview().await;
    let burnt = seen.totals.get("retried").copied().unwrap_or(0);
    println!("{burnt} of {} attempts were burnt (below 5 %)", count + burnt);
    assert_eq!(
        seen.totals.get("failed").copied().unwrap_or(0),
        0,
        "a task was lost to the outage"
    );
    assert!(burnt * 100 < (count + burnt) * 5, "{burnt}");
    for worker in workers {
        worker.running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_data_that_fails_for_good_opens_no_breaker_and_holds_up_nobody() {
    let yard = Yard::start().await;
    let mut registry = Registry::new();
    registry
        .register("work", |_: Context, n: i64| async move {
            if n < 0 {
                Err(Failure::fatal("no such number"))
            } else {
                Ok(n)
            }
        })
        .unwrap();
    let worker = yard.work(registry, yard.config()).await;
    let begun = Instant::now();
    for _ in 0..500 {
        yard.add("work", "-1", |_| {}).await;
    }
    yard.reaches("failed", 500).await;
    let took = begun.elapsed();
    // One at a time with a pause after each, as behind a breaker, they would take minutes.
    println!("500 tasks with bad data took {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let good = yard.add("work", "7", |_| {}).await;
    yard.ended(&good).await;
    let seen = yard.overview().await;
    assert_eq!(seen.totals.get("completed"), Some(&1), "{:?}", seen.totals);
    let fleet = yard.queue.fleet().await.unwrap().unwrap_or_default();
    assert!(!fleet.contains("open"), "{fleet}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_idle_consumers_one_task_wakes_exactly_one() {
    let yard = Yard::start().await;
    let mut connection = {
        let (push_in, pushes) = tokio::sync::mpsc::unbounded_channel();
        let link = workyard_shared::link::Link::new(
            workyard_shared::link::LinkConfig::from_url(&yard.server.consumer_url()).unwrap(),
            Some(push_in),
        )
        .unwrap();
        (link, pushes)
    };
    for _ in 0..200 {
        let consumer = workyard_shared::name::SessionId::fresh();
        connection
            .0
            .subscribe(&yard.queue.keys().wake_channel(&consumer))
            .await
            .unwrap();
        yard.consumer.heartbeat(&consumer, SOON * 4, true).await.unwrap();
        let request = workyard_shared::broker::ClaimRequest {
            park: true,
            ..workyard_shared::broker::ClaimRequest::new(&consumer, 4, 0)
        };
        yard.consumer.claim(request).await.unwrap();
    }
    yard.add("work", "1", |_| {}).await;
    let work = |push: &redis::PushInfo| {
        push.data
            .iter()
            .any(|value| matches!(value, redis::Value::BulkString(text) if text == b"work"))
    };
    let mut woken = 0;
    while let Ok(Some(push)) = tokio::time::timeout(Duration::from_secs(1), connection.1.recv()).await {
        woken += u32::from(work(&push));
    }
    assert_eq!(woken, 1);
    assert_eq!(yard.overview().await.parked, 199);
}

/// The limit of kind `work` as the only consumer's health key says it.
async fn slots_now(yard: &Yard) -> Option<u64> {
    let (consumer, _) = yard.queue.consumers().await.unwrap().pop()?;
    let json = yard.broker.health(&consumer).await.unwrap()?;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    report["concurrency"]["work"]["limit"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_gets_slower_side_by_side_runs_with_fewer_slots_and_gets_them_back_when_mended() {
    const PATIENCE: Duration = Duration::from_secs(90);
    let yard = Yard::start().await;
    let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let crowded = Arc::new(AtomicBool::new(false));
    let mut registry = Registry::new();
    let (now, peak, slow) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&crowded));
    registry
        .register("work", move |_: Context, _: serde_json::Value| {
            let beside = now.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(beside, Ordering::SeqCst);
            let takes = 30 * if slow.load(Ordering::SeqCst) { beside } else { 1 };
            let now = Arc::clone(&now);
            async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<(), Failure>(())
            }
        })
        .unwrap()
        .limit("work", Concurrency::Adaptive { min: 2, max: 12 })
        .unwrap();
    let config = WorkerConfig {
        concurrency: 50,
        // The machine that runs these tests is full of others.
        watch_host: false,
        ..yard.config()
    };
    let worker = yard.work(registry, config).await;
    let feed = async {
        loop {
            if yard.overview().await.pending < 500 {
                yard.add_many(500, "work", "1").await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let act = async {
        wait_until(SOON, || async { slots_now(&yard).await.is_some_and(|n| n < 6) }).await;
        let took = wait_until(PATIENCE, || async { slots_now(&yard).await == Some(12) }).await;
        println!("from 2 slots to 12 in {took:?} (about 10 s)");
        crowded.store(true, Ordering::SeqCst);
        let took = wait_until(PATIENCE, || async { slots_now(&yard).await.is_some_and(|n| n <= 6) }).await;
        println!("down to 6 in {took:?} (about 10 s)");
        // What is claimed follows: nothing lies here that others could run.
        wait_until(SOON, || async { yard.overview().await.running <= 7 }).await;
        most.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let peak = most.load(Ordering::SeqCst);
        assert!((1..=7).contains(&peak), "{peak} ran side by side");
        crowded.store(false, Ordering::SeqCst);
        let took = wait_until(PATIENCE, || async { slots_now(&yard).await == Some(12) }).await;
        println!("back to 12 in {took:?} (about 10 s)");
    };
    tokio::select! {
        () = feed => {}
        () = act => {}
    }
    worker.stop().await;
}

/// One of the paper's workers: its name, what it started, the worker.
type Hand = (&'static str, Arc<AtomicU64>, Running);

/// The paper's four (mean run time in ms, failures in 100 runs, slots) on a queue.
fn papers_workers(yard: &Yard, name: &QueueName) -> Vec<Hand> {
    let fleet = [
        ("fast", 200, 5, 8),
        ("medium", 500, 10, 5),
        ("slow", 1000, 15, 3),
        ("unreliable", 300, 30, 4),
    ];
    let start = |(profile, ms, fails, slots)| {
        let started = Arc::new(AtomicU64::new(0));
        let mut registry = Registry::new();
        let count = Arc::clone(&started);
        registry
            .register("work", move |ctx: Context, task: u64| {
                count.fetch_add(1, Ordering::SeqCst);
                let luck = fastrand::Rng::with_seed(task << 8 | u64::from(ctx.attempt())).u64(0..100);
                async move {
                    if luck < fails {
                        return Err(Failure::retry("bad luck"));
                    }
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok(())
                }
            })
            .unwrap();
        let config = WorkerConfig {
            concurrency: slots,
            queues: vec![(name.clone(), 1)],
            ..yard.config()
        };
        (profile, started, workyard_tests::spawn(registry, config))
    };
    fleet.map(start).into_iter().collect()
}

/// 300 tasks, evenly at 60 % of the capacity of the paper's workers. Answers how many were completed and how many
/// dead-lettered, and which percentage of the runs each worker had.
async fn paper(yard: &Yard, policy: Policy) -> ([u64; 2], Vec<(&'static str, u64)>) {
    let name = workyard_tests::queue_name(policy.as_str());
    let (queue, workers) = (yard.broker.queue(&name), papers_workers(yard, &name));
    wait_until(SOON, || async {
        queue.overview().await.is_ok_and(|seen| seen.parked == 4)
    })
    .await;
    queue.set(&[Setting::Balance(policy)]).await.unwrap();
    let said = format!("\"policy\":\"{policy}\"");
    wait_until(SOON, || async {
        queue.fleet().await.unwrap().is_some_and(|json| json.contains(&said))
    })
    .await;

    let submitter = workyard_shared::submit::Submitter::start(queue.clone());
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    for n in 0..300_u64 {
        ticks.tick().await;
        let mut task = workyard_tests::new_task("work", &n.to_string());
        task.options.backoff = Some(workyard_shared::options::Backoff {
            base: Duration::from_millis(100),
            ..workyard_shared::options::Backoff::default()
        });
        let task = (workyard_shared::name::TaskId::fresh(), task);
        submitter.submit(vec![task], true, None, SOON).await.unwrap();
    }
    wait_until(SOON * 3, || async {
        let seen = queue.overview().await.unwrap();
        seen.pending + seen.scheduled + seen.running == 0
    })
    .await;
    let totals = queue.overview().await.unwrap().totals;
    let ended = ["completed", "failed"].map(|name| totals.get(name).copied().unwrap_or(0));
    let runs: u64 = workers
        .iter()
        .map(|(_, started, _)| started.load(Ordering::SeqCst))
        .sum();
    let mut shares = Vec::new();
    for (profile, started, worker) in workers {
        shares.push((profile, started.load(Ordering::SeqCst) * 100 / runs));
        worker.stop().await;
    }
    (ended, shares)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_papers_four_workers_the_unreliable_one_gets_less_under_adaptive_and_nothing_is_lost() {
    let yard = Yard::start().await;
    let outcomes = tokio::join!(
        paper(&yard, Policy::Pull),
        paper(&yard, Policy::RoundRobin),
        paper(&yard, Policy::Adaptive)
    );
    let (pull, in_turn, adaptive) = outcomes;
    println!(
        "shares in % of all runs: pull {:?}, round-robin {:?}, adaptive {:?}",
        pull.1, in_turn.1, adaptive.1
    );
    for ([completed, failed], _) in [&pull, &in_turn, &adaptive] {
        assert_eq!(completed + failed, 300, "a task was lost");
    }
    let unreliable = |(_, shares): &([u64; 2], Vec<(&'static str, u64)>)| shares[3].1;
    // About 60 % of what it has in turn.
    assert!(unreliable(&adaptive) * 5 < unreliable(&in_turn) * 4, "{adaptive:?}");
}
