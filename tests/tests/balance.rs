//! Load balancing by measured health, with real consumers: shares, circuits, breakers, limits that move.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use workyard_consumer::{Concurrency, Context, Failure, Registry, WorkerConfig};
use workyard_shared::balance::Policy;
use workyard_shared::settings::Setting;
use workyard_tests::{Running, Yard, queue_name, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// What is promised of a consumer that begins to fail, ...
const PROBES_ONLY: Duration = Duration::from_secs(3);
/// ... of one that is mended, ...
const SHARE_AGAIN: Duration = Duration::from_secs(10);
/// ... and of a kind whose downstream is dead. The best of [`TRIES`] keeps it, as other tests run beside, and each keeps three
/// times as much.
const BREAKER: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;

/// A worker whose handler counts and can be made to fail.
struct Watched {
    started: Arc<AtomicU64>,
    /// Those of them that were of kind `work`.
    works: Arc<AtomicU64>,
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
        let works = Arc::<AtomicU64>::default();
        let (hangs, hanging) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
        let mut registry = Registry::new();
        for kind in ["work", "other"] {
            let (started, fails) = (Arc::clone(&started), Arc::clone(&fails));
            let (hangs, hanging, works) = (Arc::clone(&hangs), Arc::clone(&hanging), Arc::clone(&works));
            registry
                .register(kind, move |ctx: Context, _: serde_json::Value| {
                    started.fetch_add(1, Ordering::SeqCst);
                    works.fetch_add(u64::from(ctx.kind() == "work"), Ordering::SeqCst);
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
            works,
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
    wait_until(SOON, || async {
        let consumers = yard.queue.consumers().await.unwrap().len();
        consumers > 0 && yard.heard(&yard.queue, policy).await == consumers
    })
    .await;
    if policy == "adaptive" {
        yard.ranked(&yard.queue).await;
    }
}

/// The circuits that the health keys say.
async fn circuits(yard: &Yard) -> Vec<String> {
    let mut said = Vec::new();
    for (consumer, _) in yard.queue.consumers().await.unwrap() {
        let json = yard.broker.health(&consumer).await.unwrap().unwrap_or_default();
        let report: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        said.extend(report["balance"][0]["circuit"].as_str().map(str::to_owned));
    }
    said
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

    /// Makes it fail everything; how long it took until it got probes only: in the second that began then it started not more
    /// than the first three of them.
    async fn sicken(&self) -> Duration {
        self.sick.fails.store(true, Ordering::SeqCst);
        let at = Instant::now();
        let mut seen: Vec<(Duration, u64)> = Vec::new();
        loop {
            let (now, count) = (at.elapsed(), self.sick.count());
            seen.push((now, count));
            let second_ago = seen.iter().rfind(|(then, _)| *then + Duration::from_secs(1) <= now);
            if let Some((then, before)) = second_ago
                && count - before <= 3
            {
                return *then;
            }
            assert!(now < PROBES_ONLY * 3, "it still gets its share: {seen:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Of 100 tasks that the two start in three seconds, those of the one that is, was or will be sick.
    async fn share(&self) -> u64 {
        let (a, b) = (self.well.count(), self.sick.count());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (a, b) = (self.well.count() - a, self.sick.count() - b);
        100 * b / (a + b).max(1)
    }

    /// How long it takes until the one that was sick does as much as before, or nine tenths of it for luck, for three seconds.
    async fn share_again(&self, before: u64) -> Duration {
        let at = Instant::now();
        let mut seen: Vec<(Duration, u64, u64)> = Vec::new();
        loop {
            let (now, a, b) = (at.elapsed(), self.well.count(), self.sick.count());
            seen.push((now, a, b));
            let begun = seen.iter().rfind(|(then, ..)| *then + Duration::from_secs(3) <= now);
            if let Some((then, well, sick)) = begun {
                let (a, b) = (a - well, b - sick);
                if b > 5 && b * 1000 >= (a + b) * before * 9 {
                    println!("in those three seconds it started {b}, the other {a}");
                    return *then;
                }
            }
            assert!(now < SHARE_AGAIN * 3, "its share did not come back: {seen:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
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
        let said = circuits(yard).await;
        said.iter()
            .any(|circuit| ["open", "probing"].contains(&circuit.as_str()))
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

/// How far the share of one of four workers is from a quarter of 400 tasks, one at a time.
async fn unfairness(yard: &Yard, workers: &[Watched], policy: &str) -> u64 {
    // The first round tells each its new rank.
    for _ in 0..8 {
        let id = yard.add("work", "1", |_| {}).await;
        yard.ended(&id).await;
    }
    let before: Vec<u64> = workers.iter().map(Watched::count).collect();
    for _ in 0..400 {
        // Idle is who has parked again: a claim behind the last result may still be on its way.
        wait_until(SOON, || async { yard.overview().await.parked == 4 }).await;
        let id = yard.add("work", "1", |_| {}).await;
        yard.ended(&id).await;
    }
    let shares: Vec<u64> = workers.iter().zip(&before).map(|(w, b)| w.count() - b).collect();
    println!("{policy}: shares of 400 tasks, one at a time: {shares:?}");
    shares.iter().map(|share| share.abs_diff(100)).max().unwrap()
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
    // In turn is exact. Adaptive shares follow what is measured: within five points of the 25 in 100.
    for (policy, allowed) in [("round-robin", 0), ("adaptive", 20)] {
        choose(&yard, policy).await;
        let most = unfairness(&yard, &workers, policy).await;
        assert!(most <= allowed, "{policy}: {most} beside a quarter of 400");
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

/// It begins to fail, goes on for twelve seconds, in which its probes get rare, and is mended; as often as it takes to be in
/// time.
async fn fails_and_is_mended(policy: Policy) {
    let pair = Pair::start().await;
    choose(&pair.yard, policy.as_str()).await;
    let sick = &pair.sick;
    let (mut cut_off, mut back) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        let share = pair.share().await;
        let took = pair.sicken().await;
        let since = sick.count();
        wait_until(SOON, || async {
            let text = pair.yard.said(&["consumers"]);
            text.contains("  open  ") || text.contains("  probing  ")
        })
        .await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let probes = sick.count() - since;
        // After 1/4, 1/4, 1/2, 1, 2, 4 ... seconds: eight, and more where the task of one was a retry that it left to the other. Pauses
        // that do not grow make 48.
        assert!((1..=24).contains(&probes), "{policy}: {probes} tasks in 12 s");
        sick.fails.store(false, Ordering::SeqCst);
        let mended = pair.share_again(share).await;
        println!(
            "{policy}: {probes} probes in 12 s; probes only after {took:?} (aim 3 s), {share} % of the tasks again after {mended:?} (aim 10 s)"
        );
        (cut_off, back) = (cut_off.min(took), back.min(mended));
        if cut_off <= PROBES_ONLY && back <= SHARE_AGAIN {
            break;
        }
    }
    assert!(cut_off <= PROBES_ONLY, "{policy}: {cut_off:?}");
    assert!(back <= SHARE_AGAIN, "{policy}: {back:?}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_fails_everything_gets_probes_only_and_its_share_again_when_mended() {
    for policy in Policy::ALL {
        fails_and_is_mended(policy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_cancelled_is_followed_by_another() {
    let pair = Pair::start().await;
    let sick = &pair.sick;
    let share = pair.share().await;
    pair.sicken().await;
    circuit_opens(&pair.yard, SOON).await;
    sick.hangs.store(true, Ordering::SeqCst);
    wait_until(SOON, || async { !sick.hanging.lock().unwrap().is_empty() }).await;
    sick.hangs.store(false, Ordering::SeqCst);
    sick.fails.store(false, Ordering::SeqCst);
    let probe = sick.hanging.lock().unwrap()[0].clone();
    pair.yard.queue.cancel(&probe).await.unwrap();
    println!(
        "its full share again {:?} after its probe was cancelled",
        pair.share_again(share).await
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
    // A fast machine has handed back thousands before the circuit opened, and those are soon due.
    let first = yard.overview().await;
    assert!(
        first.pending + first.handed_back > 0,
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

/// How long the middle one of 50 tasks of another kind takes, one by one.
async fn others(yard: &Yard) -> Duration {
    let mut took = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        let id = yard.add("other", "1", |o| o.priority = Some(0)).await;
        yard.ended(&id).await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took[25]
}

/// When each of the workers began its last task of the kind before it stood still for 700 ms.
async fn stand_still(workers: &[Watched], at: Instant) -> Duration {
    let mut last = vec![(0, Duration::ZERO); workers.len()];
    loop {
        let now = at.elapsed();
        for (worker, last) in workers.iter().zip(&mut last) {
            let count = worker.works.load(Ordering::SeqCst);
            if count != last.0 {
                *last = (count, now);
            }
        }
        let latest = last.iter().map(|(_, when)| *when).max().unwrap();
        if now >= latest + Duration::from_millis(700) {
            return latest;
        }
        assert!(now < BREAKER * 3, "they still run the kind: {last:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nobody is blamed for what fails everywhere.
async fn nobody_is_cut_off(yard: &Yard) {
    for circuit in circuits(yard).await {
        assert!(circuit == "closed" || circuit == "suspect", "{circuit}");
    }
}

/// A kind dies and comes back: after how long its breaker was open, both had stopped to run it, and how much longer another
/// kind took meanwhile, in tenths.
async fn outage() -> (Duration, Duration, u128) {
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
    let open = async {
        yard.fleet_says("\"open\"", BREAKER * 3).await;
        at.elapsed()
    };
    let (last, opened, stood) = tokio::join!(add_many_retried(&yard, count), open, stand_still(&workers, at));
    everybody_is_told(&yard, &last);
    nobody_is_cut_off(&yard).await;
    let beside = others(&yard).await;
    println!("the breaker opened after {opened:?}, both stood still after {stood:?} (aim 2 s)");
    println!("a task of another kind took {beside:?}, before {undisturbed:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    nobody_is_cut_off(&yard).await;
    for worker in &workers {
        worker.fails.store(false, Ordering::SeqCst);
    }
    yard.reaches("completed", count).await;
    let burnt = yard.total("retried").await;
    println!("{burnt} of {} attempts were burnt (below 5 %)", count + burnt);
    assert_eq!(yard.total("failed").await, 0, "a task was lost to the outage");
    assert!(burnt * 100 < (count + burnt) * 5, "{burnt}");
    for worker in workers {
        worker.running.stop().await;
    }
    (opened, stood, beside.as_micros() * 10 / undisturbed.as_micros())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_fails_everywhere_waits_without_burning_attempts_and_others_go_on() {
    let (mut opened, mut stood, mut tenths) = outage().await;
    for _ in 1..TRIES {
        if opened <= BREAKER && stood <= BREAKER && tenths <= 15 {
            break;
        }
        let again = outage().await;
        (opened, stood, tenths) = (opened.min(again.0), stood.min(again.1), tenths.min(again.2));
    }
    assert!(opened <= BREAKER && stood <= BREAKER, "{opened:?}, {stood:?}");
    assert!(tenths <= 15, "another kind took {tenths} tenths of the time before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_fails_beside_forty_busier_ones_is_parked_as_well() {
    let yard = Yard::start().await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut registry = Registry::new();
        for n in 0..40 {
            let well = |_: Context, _: serde_json::Value| async { Ok::<_, Failure>(()) };
            registry.register(&format!("well-{n}"), well).unwrap();
        }
        registry
            .register("work", |_: Context, _: serde_json::Value| async {
                Err::<(), _>(Failure::retry("down"))
            })
            .unwrap();
        workers.push(yard.work(registry, yard.config()).await);
    }
    // Of each of the forty more runs than the failing one ever has in its window.
    for n in 0..40 {
        yard.add_many(100, &format!("well-{n}"), "1").await;
    }
    yard.reaches("completed", 4000).await;
    let at = Instant::now();
    let more = async {
        loop {
            for n in 0..40 {
                yard.add_many(3, &format!("well-{n}"), "1").await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let open = async {
        add_many_retried(&yard, 100).await;
        yard.fleet_says("\"open\"", BREAKER * 3).await;
    };
    tokio::select! {
        () = more => {}
        () = open => {}
    }
    println!("beside forty others the breaker opened after {:?}", at.elapsed());
    let text = yard.said(&["queues"]);
    assert!(
        text.contains("kind work fails everywhere: its breaker is open"),
        "{text}"
    );
    for worker in workers {
        worker.stop().await;
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
        () = yard.feed("work") => {}
        () = act => {}
    }
    worker.stop().await;
}
