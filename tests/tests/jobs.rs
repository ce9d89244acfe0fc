//! Map-reduce jobs through real consumers: the paper's examples, failures, stragglers, cancels.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use workyard_consumer::{Emit, Failure, Registry};
use workyard_producer::{Client, ClientConfig, JobHandle, JobState, QueueName};
use workyard_tests::hand::Hand;
use workyard_tests::{Daemon, Running, Yard, queue_name, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);

fn client(yard: &Yard) -> Client {
    Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap()
}

/// The job as an operator has it, who may cancel, retry and delete it.
fn operated(yard: &Yard, job: &JobHandle) -> JobHandle {
    let operator = Client::new(ClientConfig::from_url(&yard.server.operator_url()).unwrap()).unwrap();
    operator.job(&q(), job.id())
}

fn q() -> QueueName {
    queue_name("q")
}

/// The functions of the paper, as its Python has them.
fn paper() -> Registry {
    let mut registry = Registry::new();
    registry.map("square", |n: i64| Ok::<i64, Failure>(n * n)).unwrap();
    registry
        .reduce("add", |a: i64, b: i64| Ok::<i64, Failure>(a + b))
        .unwrap();
    registry
        .map_chunk("chunk_processor", |chunk: Vec<i64>| {
            Ok::<i64, Failure>(chunk.iter().map(|n| n * n).sum())
        })
        .unwrap();
    registry
        .reduce_all("sum_reducer", |results: Vec<i64>| {
            Ok::<i64, Failure>(results.iter().sum())
        })
        .unwrap();
    registry
        .map("expensive_calculation", |n: i64| Ok::<i64, Failure>(n * n + 2 * n + 1))
        .unwrap();
    registry
        .map("text", |n: i64| Ok::<String, Failure>(format!("{n},")))
        .unwrap();
    registry
        .reduce("append", |a: String, b: String| Ok::<String, Failure>(a + &b))
        .unwrap();
    registry
        .map_pairs("words", |line: String, emit: &mut Emit<String, u64>| {
            for word in line.split_whitespace() {
                emit.pair(word.to_owned(), 1);
            }
            Ok::<(), Failure>(())
        })
        .unwrap();
    registry
        .reduce_pairs("total", |_word: &String, counts: Vec<u64>| {
            Ok::<u64, Failure>(counts.iter().sum())
        })
        .unwrap();
    registry
}

async fn two_workers(yard: &Yard, registry: impl Fn() -> Registry) -> [Running; 2] {
    [
        yard.work(registry(), yard.config()).await,
        yard.work(registry(), yard.config()).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_paper_give_its_numbers() {
    let yard = Yard::start().await;
    let workers = two_workers(&yard, paper).await;
    let client = client(&yard);

    let squares = client
        .map_reduce(&q(), "square", "add")
        .items([1, 2, 3, 4, 5])
        .submit()
        .await
        .unwrap();
    squares.wait(SOON).await.unwrap();
    assert_eq!(squares.result::<i64>().await.unwrap(), Some(55));

    let framework = client
        .map_reduce(&q(), "chunk_processor", "sum_reducer")
        .items(0..100)
        .chunk_size(10)
        .fan_in_all()
        .id("sum_of_squares")
        .submit()
        .await
        .unwrap();
    let record = framework.wait(SOON).await.unwrap();
    assert_eq!((record.maps.total, record.reduces.total), (10, 1));
    assert_eq!(framework.result::<i64>().await.unwrap(), Some(328_350));

    let expensive = client
        .map_reduce(&q(), "expensive_calculation", "add")
        .items(0..20)
        .submit()
        .await
        .unwrap();
    expensive.wait(SOON).await.unwrap();
    assert_eq!(expensive.result::<i64>().await.unwrap(), Some(2870));
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_reads_more_than_redis_lets_wait_on_a_connection_that_has_subscribed() {
    let yard = Yard::start().await;
    // By default 32 MB; the partials below are 4 MB.
    let limit = "pubsub 1mb 1mb 60";
    yard.server.config_set("client-output-buffer-limit", limit).await;
    let functions = || {
        let mut registry = paper();
        registry
            .map("long", |n: usize| Ok::<String, Failure>(n.to_string().repeat(200_000)))
            .unwrap();
        registry
            .reduce_all("length", |parts: Vec<String>| {
                Ok::<usize, Failure>(parts.iter().map(String::len).sum())
            })
            .unwrap();
        registry
    };
    let [first, second] = two_workers(&yard, functions).await;
    let job = client(&yard).map_reduce(&q(), "long", "length").items(10..20_usize);
    let job = job.chunk_size(1).fan_in_all().submit().await.unwrap();
    let record = job.wait(SOON).await.unwrap();
    assert_eq!(
        (record.state, record.reduces.retried),
        (JobState::Completed, 0),
        "{record:?}"
    );
    assert_eq!(job.result::<usize>().await.unwrap(), Some(4_000_000));
    first.stop().await;
    second.stop().await;
}

/// The paper's functions as the paper has them, in a worker that speaks JSON lines.
/// The first chunk of a map waits until the worker of another daemon has one, too; each leaves its daemon's pid behind.
const PAPER_IN_PYTHON: &str = r#"
import json, os, sys, time

def meet(kind):
    open(f"{sys.argv[1]}/{kind}-{os.getppid()}", "w").close()
    until = time.time() + 20
    while sum(name.startswith(kind + "-") for name in os.listdir(sys.argv[1])) < 2 and time.time() < until:
        time.sleep(0.01)

def square(x): return x * x
def add(x, y): return x + y
def expensive_calculation(n): return n * n + 2 * n + 1
def chunk_processor(chunk): return sum(item ** 2 for item in chunk)
def sum_reducer(results): return sum(results)

def fold(values):
    total = values[0]
    for value in values[1:]:
        total = add(total, value)
    return total

STAGES = {
    "square": lambda items: [square(n) for n in items],
    "expensive_calculation": lambda items: [expensive_calculation(n) for n in items],
    "chunk_processor": lambda items: [chunk_processor(items)],
    "add": lambda values: [fold(values)],
    "sum_reducer": lambda values: [sum_reducer(values)],
}
for line in sys.stdin:
    task = json.loads(line)
    if task["type"] == "task":
        if task["kind"] in ("square", "chunk_processor", "expensive_calculation"):
            meet(task["kind"])
        result = STAGES[task["kind"]](task["payload"])
        print(json.dumps({"type": "result", "id": task["id"], "token": task["token"], "result": result}), flush=True)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_of_the_paper_in_python_give_its_numbers_through_two_daemons() {
    let yard = Yard::start().await;
    let (dir, met) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let met = met.path();
    let mut config = String::from("concurrency = 2\n[[queues]]\nname = \"q\"\n");
    for kind in [
        "square",
        "expensive_calculation",
        "chunk_processor",
        "add",
        "sum_reducer",
    ] {
        config += &format!(
            "[handlers.{kind}]\ntype = \"worker\"\nargv = [\"python3\", \"-c\", {PAPER_IN_PYTHON:?}, {met:?}]\n"
        );
    }
    let file = dir.path().join("paper.toml");
    std::fs::write(&file, config).unwrap();
    let daemon = || {
        let mut command = workspace_binary("workyard-consumer");
        Daemon::spawn(
            command
                .arg("--config")
                .arg(&file)
                .args(["--redis-url", &yard.server.consumer_url()]),
        )
    };
    let daemons = [daemon(), daemon()];
    let client = client(&yard);
    let squares = client.map_reduce(&q(), "square", "add").items(1..=5).chunk_size(1);
    let framework = client
        .map_reduce(&q(), "chunk_processor", "sum_reducer")
        .items(0..100)
        .chunk_size(10);
    let expensive = client
        .map_reduce(&q(), "expensive_calculation", "add")
        .items(0..20)
        .chunk_size(2);
    for (kind, job, number) in [
        ("square", squares, 55),
        ("chunk_processor", framework.fan_in_all(), 328_350),
        ("expensive_calculation", expensive.fan_in(3), 2870),
    ] {
        let job = job.submit().await.unwrap();
        let record = job.wait(SOON).await.unwrap();
        assert_eq!(record.state, JobState::Completed, "{}", record.error);
        assert_eq!(job.result::<i64>().await.unwrap(), Some(number));
        for daemon in &daemons {
            let mark = met.join(format!("{kind}-{}", daemon.pid()));
            assert!(mark.exists(), "{kind}: daemon {} took no part", daemon.pid());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_a_file_serves_the_built_in_functions() {
    let yard = Yard::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "to be or\nnot to be\n").unwrap();
    let folder = dir.path().to_str().unwrap();
    let mut command = workspace_binary("workyard-consumer");
    let _daemon = Daemon::spawn(command.args([
        "--jobs-read",
        folder,
        "--queue",
        "q",
        "--redis-url",
        &yard.server.consumer_url(),
    ]));
    let job = client(&yard)
        .map_reduce(&q(), "word-count", "sum-by-key")
        .files([format!("{folder}/*.txt")], None)
        .keyed(2)
        .submit()
        .await
        .unwrap();
    job.wait(SOON).await.unwrap();
    let counts: BTreeMap<String, u64> = job.pairs().await.unwrap().collect().await.unwrap();
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [("be", 2), ("not", 1), ("or", 1), ("to", 2)].map(|(w, n)| (w.to_owned(), n))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_nobody_gave_a_size_are_four_for_each_slot_that_the_daemons_report() {
    let yard = Yard::start().await;
    let daemon = |slots: &str| {
        let file = yard.server.dir().join(format!("slots-{slots}.toml"));
        std::fs::write(
            &file,
            format!("concurrency = {slots}\n[[queues]]\nname = \"q\"\n[jobs]\n"),
        )
        .unwrap();
        let mut command = workspace_binary("workyard-consumer");
        command.arg("--config").arg(file);
        Daemon::spawn(command.args(["--redis-url", &yard.server.consumer_url()]))
    };
    let client = client(&yard);
    let mut daemons = Vec::new();
    for (slots, chunks) in [("3", 12), ("2", 20)] {
        daemons.push(daemon(slots));
        wait_until(SOON, || async {
            let consumers = client.consumers(&[q()]).await.unwrap();
            consumers.iter().filter(|consumer| consumer.health.is_some()).count() == daemons.len()
        })
        .await;
        let job = client
            .map_reduce(&q(), "sum", "sum")
            .items(0..240)
            .submit()
            .await
            .unwrap();
        let record = job.wait(SOON).await.unwrap();
        assert_eq!(record.maps.total, chunks, "{} daemons", daemons.len());
        assert_eq!(job.result::<i64>().await.unwrap(), Some((0..240).sum()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_that_is_not_commutative_sees_the_order_of_the_items() {
    let yard = Yard::start().await;
    let workers = two_workers(&yard, paper).await;
    let job = client(&yard)
        .map_reduce(&q(), "text", "append")
        .items(0..1000)
        .chunk_size(3)
        .fan_in(4)
        .submit()
        .await
        .unwrap();
    job.wait(SOON).await.unwrap();
    let expected: String = (0..1000).map(|n| format!("{n},")).collect();
    assert_eq!(job.result::<String>().await.unwrap(), Some(expected));
    for worker in workers {
        worker.stop().await;
    }
}

/// Each consumer has one slot, and a node of the tree waits in it until another one runs.
#[tokio::test(flavor = "multi_thread")]
async fn reduces_of_one_level_run_on_both_consumers_at_once() {
    let yard = Yard::start().await;
    let begun = Arc::new(AtomicU64::new(0));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (mut registry, begun) = (paper(), Arc::clone(&begun));
        registry
            .reduce_all("meet", move |parts: Vec<i64>| {
                begun.fetch_add(1, Ordering::SeqCst);
                let until = Instant::now() + SOON;
                while begun.load(Ordering::SeqCst) < 2 {
                    if Instant::now() > until {
                        return Err(Failure::fatal("no other reduce began"));
                    }
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Ok::<i64, Failure>(parts.iter().sum())
            })
            .unwrap();
        let config = workyard_consumer::WorkerConfig {
            concurrency: 1,
            ..yard.config()
        };
        workers.push(yard.work(registry, config).await);
    }
    let job = client(&yard).map_reduce(&q(), "square", "meet").items(0..4);
    let job = job.chunk_size(1).fan_in(2).backups(false).submit().await.unwrap();
    let record = job.wait(SOON * 2).await.unwrap();
    assert_eq!(record.state, JobState::Completed, "{}", record.error);
    assert_eq!(job.result::<i64>().await.unwrap(), Some(14));
    assert_eq!(begun.load(Ordering::SeqCst), 3, "two nodes and the top");
    for worker in workers {
        worker.stop().await;
    }
}

/// What `late` and `list` are below, in a worker that speaks JSON lines.
const LIST_IN_PYTHON: &str = r#"
import json, sys, time

def late(items):
    time.sleep(items[0] * 7 % 11 / 1000)
    return [f"{n}," for n in items]

STAGES = {"late": late, "list": lambda texts: ["".join(texts)]}
for line in sys.stdin:
    task = json.loads(line)
    if task["type"] == "task":
        result = STAGES[task["kind"]](task["payload"])
        print(json.dumps({"type": "result", "id": task["id"], "token": task["token"], "result": result}), flush=True)
"#;

/// A daemon with these two.
fn list_in_python(yard: &Yard) -> Daemon {
    let mut config = String::from("concurrency = 4\n[[queues]]\nname = \"q\"\n");
    for kind in ["late", "list"] {
        config += &format!(
            "[handlers.{kind}]\ntype = \"worker\"\nprocesses = 3\nargv = [\"python3\", \"-c\", {LIST_IN_PYTHON:?}]\n"
        );
    }
    let file = yard.server.dir().join("list.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(file);
    Daemon::spawn(command.args(["--redis-url", &yard.server.consumer_url()]))
}

/// Two consumers, maps that end in another order than they begin, and more partials than a reduce reads in one call.
#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_over_all_gets_the_list_in_the_order_of_the_chunks() {
    let functions = || {
        let mut registry = paper();
        registry
            .map("late", |n: u64| {
                std::thread::park_timeout(Duration::from_millis(n * 7 % 11));
                Ok::<String, Failure>(format!("{n},"))
            })
            .unwrap();
        registry
            .reduce_all("list", |parts: Vec<String>| Ok::<String, Failure>(parts.concat()))
            .unwrap();
        registry
    };
    let expected: String = (0..600).map(|n| format!("{n},")).collect();
    for python in [false, true] {
        let yard = Yard::start().await;
        let (mut workers, mut daemons) = (Vec::new(), Vec::new());
        match python {
            true => daemons.extend([list_in_python(&yard), list_in_python(&yard)]),
            false => workers.extend(two_workers(&yard, functions).await),
        }
        let job = client(&yard).map_reduce(&q(), "late", "list").items(0..600);
        let job = job.chunk_size(1).fan_in_all().submit().await.unwrap();
        let record = job.wait(SOON * 2).await.unwrap();
        assert_eq!(
            (record.state, record.reduces.total),
            (JobState::Completed, 1),
            "{}",
            record.error
        );
        assert_eq!(
            job.result::<String>().await.unwrap().as_ref(),
            Some(&expected),
            "python: {python}"
        );
        for worker in workers {
            worker.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_job_counts_words_with_and_without_a_combiner() {
    let yard = Yard::start().await;
    let workers = two_workers(&yard, paper).await;
    let client = client(&yard);
    let lines: Vec<String> = (0..500)
        .map(|n| format!("the {} sat on the {}", n % 7, n % 11))
        .collect();
    let mut expected = BTreeMap::<String, u64>::new();
    for word in lines.iter().flat_map(|line| line.split_whitespace()) {
        *expected.entry(word.to_owned()).or_default() += 1;
    }
    for combine in [false, true] {
        let mut job = client
            .map_reduce(&q(), "words", "total")
            .items(lines.clone())
            .chunk_size(7)
            .keyed(5);
        if combine {
            job = job.combine("total");
        }
        let job = job.submit().await.unwrap();
        job.wait(SOON).await.unwrap();
        let mut pairs = job.pairs::<String, u64>().await.unwrap();
        let mut found = Vec::new();
        while let Some(pair) = pairs.next().await.unwrap() {
            found.push(pair);
        }
        assert_eq!(
            found,
            expected.clone().into_iter().collect::<Vec<_>>(),
            "merged in order of keys"
        );
        operated(&yard, &job).delete().await.unwrap();
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_input_and_a_single_item_have_their_stated_answers() {
    let yard = Yard::start().await;
    let worker = yard.work(paper(), yard.config()).await;
    let client = client(&yard);
    let empty = client
        .map_reduce(&q(), "square", "add")
        .items(Vec::<i64>::new())
        .submit()
        .await
        .unwrap();
    assert_eq!(empty.wait(SOON).await.unwrap().state, JobState::Completed);
    assert_eq!(empty.result::<Option<i64>>().await.unwrap().flatten(), None);
    let one = client
        .map_reduce(&q(), "square", "add")
        .items([7])
        .submit()
        .await
        .unwrap();
    one.wait(SOON).await.unwrap();
    assert_eq!(one.result::<i64>().await.unwrap(), Some(49));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_reduce_holds_no_slot() {
    let yard = Yard::start().await;
    // One slot: a reduce that waited in it for its maps would wait for ever.
    let config = workyard_consumer::WorkerConfig {
        concurrency: 1,
        ..yard.config()
    };
    let worker = yard.work(paper(), config).await;
    let job = client(&yard)
        .map_reduce(&q(), "square", "add")
        .items(0..50)
        .chunk_size(1)
        .fan_in(2)
        .submit()
        .await
        .unwrap();
    job.wait(SOON).await.unwrap();
    assert_eq!(job.result::<i64>().await.unwrap(), Some((0..50).map(|n| n * n).sum()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reduce_starts_within_ten_milliseconds_of_the_last_map() {
    let yard = Yard::start().await;
    let worker = yard.work(paper(), yard.config()).await;
    let mut gaps = Vec::new();
    // The best of ten: what runs beside this on the machine may hold up some of them.
    for _ in 0..10 {
        let job = client(&yard)
            .map_reduce(&q(), "chunk_processor", "sum_reducer")
            .items(0..200)
            .chunk_size(1)
            .fan_in_all()
            .submit()
            .await
            .unwrap();
        let record = job.wait(SOON).await.unwrap();
        gaps.push(record.reducing_ms - record.mapped_ms);
    }
    println!("the reduces had read their input {gaps:?} ms behind the last map (at most 10)");
    assert!(gaps.iter().any(|gap| *gap <= 10), "{gaps:?} ms");
    worker.stop().await;
}

/// The priorities of what is pending.
async fn priorities(yard: &Yard) -> Vec<u64> {
    let all = redis::Cmd::zrange_withscores(yard.queue.keys().named("pending"), 0, -1);
    let pending: Vec<(String, f64)> = all.query_async(&mut yard.server.connection().await).await.unwrap();
    pending
        .iter()
        .map(|(_, score)| (score / 2_f64.powi(44)) as u64)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_a_job_have_its_priorities_or_those_that_it_was_given() {
    for (given, map, reduce) in [(None, 1, 3), (Some((7, 0)), 7, 0)] {
        let yard = Yard::start().await;
        let mut job = client(&yard)
            .map_reduce(&q(), "square", "add")
            .items([1, 2])
            .chunk_size(1);
        if let Some((map, reduce)) = given {
            job = job.options(|maps, reduces| (maps.priority, reduces.priority) = (Some(map), Some(reduce)));
        }
        let job = job.submit().await.unwrap();
        assert_eq!(priorities(&yard).await, [map, map]);
        let mut hand = Hand::register(&yard.consumer).await;
        for grant in hand.claim(2).await {
            let outcome = hand.work(job.id(), &grant).await;
            hand.settle(job.id(), vec![outcome]).await;
        }
        assert_eq!(priorities(&yard).await, [reduce]);
    }
}

/// A map that sleeps on chosen items, and says which began and which were stopped.
struct Sleepy {
    begun: Arc<AtomicU64>,
    stopped: Arc<AtomicU64>,
}

impl Sleepy {
    fn new() -> Self {
        Self {
            begun: Arc::default(),
            stopped: Arc::default(),
        }
    }

    fn registry(&self, sleep: impl Fn(i64, u64) -> Duration + Send + Sync + Clone + 'static) -> Registry {
        let (begun, stopped) = (Arc::clone(&self.begun), Arc::clone(&self.stopped));
        let mut registry = paper();
        registry
            .stage_fn("sleepy", move |ctx, input| {
                let mut items = Vec::<i64>::new();
                input.each(ctx, |_, item| {
                    items.push(item.parse()?);
                    Ok(())
                })?;
                let times = begun.fetch_add(1, Ordering::SeqCst);
                let until = Instant::now() + sleep(items[0], times);
                while Instant::now() < until {
                    if ctx.task.is_cancelled() {
                        stopped.fetch_add(1, Ordering::SeqCst);
                        return Err(Failure::retry("stopped"));
                    }
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                if items[0] < 0 {
                    return Err(Failure::fatal("a bad item"));
                }
                Ok(format!("{}\n", items[0]).into_bytes())
            })
            .unwrap();
        registry
    }
}

/// How long after the end of a job its running functions had stopped and left their slots: on a fresh worker each time, the
/// first that takes at most a second, or three of them. What runs beside this on the machine may hold up one.
async fn stopped_within_a_second(what: &str, end: impl AsyncFn(&Yard, &Sleepy) -> Instant) {
    let mut took: Vec<Duration> = Vec::new();
    while took.len() < 3 && took.last().is_none_or(|took| *took > Duration::from_secs(1)) {
        let (yard, sleepy) = (Yard::start().await, Sleepy::new());
        let begun = Arc::clone(&sleepy.begun);
        // The bad item fails when the others run.
        let sleep = move |item: i64, _| match item < 0 {
            true => {
                while begun.load(Ordering::SeqCst) < 4 {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Duration::ZERO
            }
            false => SOON * 10,
        };
        let config = workyard_consumer::WorkerConfig {
            concurrency: 4,
            ..yard.config()
        };
        let worker = yard.work(sleepy.registry(sleep), config).await;
        let at = end(&yard, &sleepy).await;
        wait_until(SOON, || async {
            let failed = u64::from(what == "failed");
            let ended = sleepy.stopped.load(Ordering::SeqCst) + failed == sleepy.begun.load(Ordering::SeqCst);
            ended && yard.overview().await.running == 0
        })
        .await;
        took.push(at.elapsed());
        assert_eq!(yard.overview().await.pending, 0);
        // One may have begun when the bad item's slot was free, before its failure was settled.
        assert!(sleepy.begun.load(Ordering::SeqCst) <= 5, "others began");
        worker.stop().await;
    }
    println!("functions of a job that has {what} were stopped {took:?} later (at most 1 s)");
    assert!(took.iter().any(|took| *took <= Duration::from_secs(1)), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_running_functions_within_a_second() {
    stopped_within_a_second("been cancelled", async |yard, sleepy| {
        let job = client(yard)
            .map_reduce(&q(), "sleepy", "add")
            .items(0..100)
            .chunk_size(1);
        let job = job.submit().await.unwrap();
        wait_until(SOON, || async { sleepy.begun.load(Ordering::SeqCst) == 4 }).await;
        let at = Instant::now();
        assert!(operated(yard, &job).cancel().await.unwrap());
        assert_eq!(job.status().await.unwrap().state, JobState::Cancelled);
        at
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_fails_for_good_stops_its_running_siblings_within_a_second() {
    stopped_within_a_second("failed", async |yard, _| {
        let items = [1, 2, 3, -1].into_iter().chain(4..100);
        let job = client(yard)
            .map_reduce(&q(), "sleepy", "add")
            .items(items)
            .chunk_size(1);
        let job = job.submit().await.unwrap();
        let record = job.wait(SOON).await.unwrap();
        let at = Instant::now();
        assert_eq!(record.state, JobState::Failed);
        assert_eq!(record.error, "chunk 3 failed: a bad item");
        at
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_copy_among_a_hundred_does_not_hold_up_the_job() {
    let yard = Yard::start().await;
    let sleepy = Sleepy::new();
    // The first copy that sees item 50 sleeps 30 s; its backup takes as long as the others.
    let seen = Arc::new(AtomicU64::new(0));
    let sleep = move |item: i64, _| match item {
        50 if seen.fetch_add(1, Ordering::SeqCst) == 0 => SOON,
        _ => Duration::from_millis(50),
    };
    let workers = [
        yard.work(sleepy.registry(sleep.clone()), yard.config()).await,
        yard.work(sleepy.registry(sleep), yard.config()).await,
    ];
    let at = Instant::now();
    let job = client(&yard)
        .map_reduce(&q(), "sleepy", "add")
        .items(0..100)
        .chunk_size(1)
        .submit()
        .await
        .unwrap();
    let record = job.wait(SOON).await.unwrap();
    println!(
        "100 chunks of 50 ms, one of 30 s: done in {} ms with a backup copy",
        at.elapsed().as_millis()
    );
    assert_eq!(record.maps.backup, 1);
    assert_eq!(job.result::<i64>().await.unwrap(), Some((0..100).sum()));
    assert!(at.elapsed() < Duration::from_secs(9), "not within seconds of the rest");
    // The slow copy is stopped and frees its slot.
    wait_until(SOON, || async { sleepy.stopped.load(Ordering::SeqCst) == 1 }).await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_backups_the_job_waits_for_its_slowest_chunk() {
    let yard = Yard::start().await;
    let sleepy = Sleepy::new();
    let sleep = |item: i64, _| Duration::from_millis(if item == 50 { 4000 } else { 5 });
    let worker = yard.work(sleepy.registry(sleep), yard.config()).await;
    let at = Instant::now();
    let job = client(&yard)
        .map_reduce(&q(), "sleepy", "add")
        .items(0..100)
        .chunk_size(1)
        .backups(false)
        .submit()
        .await
        .unwrap();
    let record = job.wait(SOON).await.unwrap();
    assert!(at.elapsed() >= Duration::from_secs(4));
    assert_eq!((record.maps.backup, sleepy.begun.load(Ordering::SeqCst)), (0, 100));
    worker.stop().await;
}

/// Fails for good on the items below `bad`, until `mended`.
fn picky(bad: i64, mended: &Arc<AtomicU64>) -> Registry {
    let mended = Arc::clone(mended);
    let mut registry = paper();
    registry
        .map("picky", move |n: i64| {
            match n < bad && mended.load(Ordering::SeqCst) == 0 {
                true => Err(Failure::fatal(format!("item {n} is bad"))),
                false => Ok(n),
            }
        })
        .unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_does_what_it_says_and_a_retry_runs_what_is_missing() {
    let yard = Yard::start().await;
    let mended = Arc::new(AtomicU64::new(0));
    let worker = yard.work(picky(2, &mended), yard.config()).await;
    let client = client(&yard);
    let job = |name: &str| {
        client
            .map_reduce(&q(), "picky", "add")
            .items(0..100)
            .chunk_size(1)
            .id(name)
    };

    let fast = job("fail-fast").submit().await.unwrap();
    let record = fast.wait(SOON).await.unwrap();
    assert_eq!(record.state, JobState::Failed);
    assert!(record.error.contains("is bad"), "{}", record.error);
    assert!(!fast.failed_chunks(10).await.unwrap().is_empty());

    let lenient = job("two").allow_failures(2).submit().await.unwrap();
    let record = lenient.wait(SOON).await.unwrap();
    assert_eq!((record.state, record.accepted), (JobState::Completed, 2));
    assert_eq!(lenient.result::<i64>().await.unwrap(), Some((2..100).sum()));
    assert_eq!(lenient.failed_chunks(10).await.unwrap(), [0, 1]);

    let percent = job("percent").allow_failures_percent(1.0).submit().await.unwrap();
    assert_eq!(percent.wait(SOON).await.unwrap().state, JobState::Failed);

    mended.store(1, Ordering::SeqCst);
    for handle in [&fast, &percent] {
        operated(&yard, handle).retry().await.unwrap();
        assert_eq!(handle.wait(SOON).await.unwrap().state, JobState::Completed);
        assert_eq!(handle.result::<i64>().await.unwrap(), Some((0..100).sum()));
        operated(&yard, handle).delete().await.unwrap();
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_the_functions_hands_the_tasks_back_and_the_job_says_so() {
    let yard = Yard::start().await;
    let stranger = yard.work(Registry::new(), yard.config()).await;
    let client = client(&yard);
    let job = client
        .map_reduce(&q(), "square", "add")
        .items([1, 2])
        .submit()
        .await
        .unwrap();
    wait_until(SOON, || async { yard.total("released").await >= 1 }).await;
    assert_eq!(job.status().await.unwrap().state, JobState::Mapping);
    let knows = yard.work(paper(), yard.config()).await;
    job.wait(SOON * 2).await.unwrap();
    assert_eq!(job.result::<i64>().await.unwrap(), Some(5));
    stranger.stop().await;
    knows.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_over_the_budget_is_spilled_and_goes_with_the_job() {
    let yard = Yard::start().await;
    let spill = tempfile::tempdir().unwrap();
    let mut config = yard.config();
    config.jobs.spill = vec![workyard_consumer::config::Place::Folder(spill.path().to_owned())];
    let worker = yard.work(paper(), config).await;
    let url = format!("file://{}", spill.path().display());
    let client = client(&yard);
    for keyed in [false, true] {
        let (map, reduce) = if keyed { ("words", "total") } else { ("text", "append") };
        let mut job = client
            .map_reduce(&q(), map, reduce)
            .chunk_size(10)
            .budget(2000)
            .spill(&url);
        job = match keyed {
            true => job.keyed(3).items((0..300).map(|n| format!("w{n} w{}", n % 5))),
            false => job.fan_in(4).items(0..300),
        };
        let job = job.submit().await.unwrap();
        let record = job.wait(SOON).await.unwrap();
        assert_eq!(record.state, JobState::Completed, "{}", record.error);
        assert!(record.spilled > 0 && record.bytes <= 2000, "{record:?}");
        if keyed {
            let pairs: BTreeMap<String, u64> = job.pairs().await.unwrap().collect().await.unwrap();
            assert_eq!((pairs.len(), pairs["w0"], pairs["w299"]), (300, 61, 1));
        } else {
            let expected: String = (0..300).map(|n| format!("{n},")).collect();
            assert_eq!(job.result::<String>().await.unwrap(), Some(expected));
        }
        // Intermediate files go with the end of the job; the result stays, also where it is spilled itself.
        let folder = spill.path().join(yard.queue.keys().spill_folder(job.id()));
        assert!(folder.is_dir(), "it looks where the job's files are");
        let data = folder.join("data");
        wait_until(SOON, || async { !data.exists() }).await;
        if keyed {
            assert_eq!(
                job.pairs::<String, u64>()
                    .await
                    .unwrap()
                    .collect::<BTreeMap<_, _>>()
                    .await
                    .unwrap()
                    .len(),
                300
            );
        } else {
            assert!(job.result::<String>().await.unwrap().is_some());
        }
        operated(&yard, &job).delete().await.unwrap();
        wait_until(SOON, || async { files_below(spill.path()) == 0 }).await;
    }
    let all = client
        .map_reduce(&q(), "text", "append")
        .items(0..9)
        .chunk_size(1)
        .budget(0)
        .spill(&url)
        .submit()
        .await
        .unwrap();
    all.wait(SOON).await.unwrap();
    let folder = spill.path().join(yard.queue.keys().spill_folder(all.id()));
    assert!(folder.is_dir(), "it looks where the job's files are");
    let data = folder.join("data");
    wait_until(SOON, || async { !data.exists() }).await;
    assert_eq!(
        all.result::<String>().await.unwrap().as_deref(),
        Some("0,1,2,3,4,5,6,7,8,")
    );
    operated(&yard, &all).delete().await.unwrap();
    worker.stop().await;
}

/// Looked at while the reduce is held up, when all that the maps left is there, and on the way to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_never_has_more_than_its_budget_in_redis_beside_references_and_marks() {
    const BUDGET: u64 = 500;
    for keyed in [false, true] {
        let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let held = Arc::clone(&released);
        let mut registry = paper();
        registry
            .reduce_all("held", move |parts: Vec<String>| {
                held.lock().unwrap().recv().ok();
                Ok::<String, Failure>(parts.concat())
            })
            .unwrap();
        registry
            .reduce_pairs("held-total", move |_: &String, counts: Vec<u64>| {
                released.lock().unwrap().recv().ok();
                Ok::<u64, Failure>(counts.iter().sum())
            })
            .unwrap();
        let mut config = yard.config();
        config.jobs.spill = vec![workyard_consumer::config::Place::Folder(spill.path().to_owned())];
        let worker = yard.work(registry, config).await;
        let client = client(&yard);
        let job = match keyed {
            true => client.map_reduce(&q(), "words", "held-total").keyed(3),
            false => client.map_reduce(&q(), "text", "held").fan_in_all(),
        };
        let job = match keyed {
            true => job.items((0..300).map(|n| format!("w{n} w{}", n % 5))),
            false => job.items(0..300),
        };
        let place = format!("file://{}", spill.path().display());
        let job = job.chunk_size(10).budget(BUDGET).spill(place).backups(false);
        let job = job.submit().await.unwrap();
        let data = redis::cmd("HVALS")
            .arg(yard.queue.keys().job_key(job.id(), ":data"))
            .to_owned();
        let (most, references) = (AtomicU64::new(0), AtomicU64::new(0));
        wait_until(SOON, || async {
            let done = job.status().await.unwrap().maps.done == 30;
            let values: Vec<Vec<u8>> = data.query_async(&mut yard.server.connection().await).await.unwrap();
            let of = |first| values.iter().filter(move |value| value.first() == Some(&first));
            let inline: usize = of(b'i').map(Vec::len).sum();
            most.fetch_max(inline as u64, Ordering::SeqCst);
            references.fetch_max(of(b's').count() as u64, Ordering::SeqCst);
            done
        })
        .await;
        let (most, references) = (most.into_inner(), references.into_inner());
        println!("keyed: {keyed}: at most {most} bytes were in Redis, and {references} references");
        assert!(
            most > 100 && most <= BUDGET && references > 3,
            "{most} bytes, {references}"
        );
        drop(release);
        let record = job.wait(SOON).await.unwrap();
        assert_eq!(record.state, JobState::Completed, "{}", record.error);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_over_its_budget_without_a_spill_place_says_what_is_missing() {
    let yard = Yard::start().await;
    let worker = yard.work(paper(), yard.config()).await;
    let client = client(&yard);
    let poor = client
        .map_reduce(&q(), "text", "append")
        .items(0..300)
        .chunk_size(1)
        .budget(100)
        .submit()
        .await
        .unwrap();
    let record = poor.wait(SOON).await.unwrap();
    assert_eq!(record.state, JobState::Failed);
    assert!(record.error.contains("no spill place"), "{}", record.error);
    worker.stop().await;
}

fn files_below(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_a_redis_that_is_killed_and_restarted() {
    let yard = Yard::on(workyard_tests::TestServer::start_durable().await);
    let sleepy = Sleepy::new();
    let worker = yard
        .work(sleepy.registry(|_, _| Duration::from_millis(10)), yard.config())
        .await;
    let job = client(&yard)
        .map_reduce(&q(), "sleepy", "add")
        .items(0..400)
        .chunk_size(1)
        .fan_in(8)
        .submit()
        .await
        .unwrap();
    wait_until(SOON, || async { job.status().await.unwrap().maps.done >= 50 }).await;
    yard.server.kill9();
    yard.server.restart().await;
    let record = job.wait(SOON * 2).await.unwrap();
    assert_eq!(
        (record.state, record.maps.done),
        (JobState::Completed, 400),
        "{}",
        record.error
    );
    assert_eq!(job.result::<i64>().await.unwrap(), Some((0..400).sum()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_keys_are_damaged_holds_up_nobody_else() {
    let yard = Yard::start().await;
    let sleepy = Sleepy::new();
    let mut registry = sleepy.registry(|_, _| Duration::from_millis(300));
    registry
        .register(
            "plain",
            |_: workyard_consumer::Context, n: i64| async move { Ok(n + 1) },
        )
        .unwrap();
    let worker = yard.work(registry, yard.config()).await;
    let client = client(&yard);
    let broken = client
        .map_reduce(&q(), "sleepy", "add")
        .items(0..2)
        .chunk_size(1)
        .submit()
        .await
        .unwrap();
    wait_until(SOON, || async { sleepy.begun.load(Ordering::SeqCst) >= 1 }).await;
    let data = yard.queue.keys().job_key(broken.id(), ":data");
    let mut connection = yard.server.connection().await;
    redis::Cmd::del(&data).exec_async(&mut connection).await.unwrap();
    redis::Cmd::set(&data, "foo").exec_async(&mut connection).await.unwrap();
    let plain = yard.add("plain", "1", |_| {}).await;
    let sound = client
        .map_reduce(&q(), "square", "add")
        .items(0..4)
        .chunk_size(1)
        .submit()
        .await
        .unwrap();
    assert_eq!(yard.result(&plain).await, "2");
    sound.wait(SOON).await.unwrap();
    assert_eq!(sound.result::<i64>().await.unwrap(), Some(14));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_one_consumer_may_not_read_is_read_by_another() {
    let yard = Yard::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("old.txt");
    std::fs::write(&file, "a\nb\n").unwrap();
    // Written before 1970, as far as the file says.
    let modified = std::time::UNIX_EPOCH - Duration::from_secs(150_000_000);
    std::fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    let blind = yard.work(Registry::new(), yard.config()).await;
    let mut config = yard.config();
    config.jobs.read = vec![workyard_consumer::config::Place::Folder(dir.path().to_owned())];
    let sees = yard.work(Registry::new(), config).await;
    let client = client(&yard);
    for _ in 0..4 {
        let job = client
            .map_reduce(&q(), "line-count", "sum")
            .files([file.to_str().unwrap()], None)
            .submit()
            .await
            .unwrap();
        let record = job.wait(SOON).await.unwrap();
        assert_eq!(record.state, JobState::Completed, "{}", record.error);
        assert_eq!(job.result::<u64>().await.unwrap(), Some(2));
    }
    blind.stop().await;
    sees.stop().await;
}
