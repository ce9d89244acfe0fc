//! Backup copies of reduces: one that hangs does not hold up its job, in either form.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use workyard_consumer::{Emit, Failure, Registry, StageContext, StageInput};
use workyard_producer::{Client, ClientConfig, JobRecord, JobState};
use workyard_tests::{Running, Yard, queue_name, wait_until};

const HANGS: Duration = Duration::from_secs(60);

/// Functions whose first reduce hangs, and how many reduces began and were stopped.
#[derive(Clone, Default)]
struct Hanging {
    begun: Arc<AtomicU64>,
    stopped: Arc<AtomicU64>,
}

impl Hanging {
    fn registry(&self) -> Registry {
        let mut registry = Registry::new();
        registry.map("same", |n: i64| Ok::<i64, Failure>(n)).unwrap();
        registry
            .map_pairs("pairs", |n: i64, emit: &mut Emit<String, i64>| {
                emit.pair(format!("k{}", n % 50), n);
                Ok(())
            })
            .unwrap();
        let hanging = self.clone();
        registry
            .stage_fn("total", move |ctx, input| {
                hanging.hang(ctx)?;
                total(ctx, &input)
            })
            .unwrap();
        registry
    }

    fn hang(&self, ctx: &StageContext) -> Result<(), Failure> {
        if self.begun.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let until = Instant::now() + HANGS;
        while Instant::now() < until {
            if ctx.task.is_cancelled() {
                self.stopped.fetch_add(1, Ordering::SeqCst);
                return Err(Failure::retry("stopped"));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn total(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let (mut sum, mut out) = (0, Vec::new());
    input.each(ctx, |_, item| {
        if ctx.is_keyed() {
            let (key, values): (String, Vec<i64>) = item.parse()?;
            let pair = (key, values.iter().sum::<i64>());
            serde_json::to_writer(&mut out, &pair)?;
            out.push(b'\n');
        } else {
            sum += item.parse::<i64>()?;
        }
        Ok(())
    })?;
    if !ctx.is_keyed() {
        serde_json::to_writer(&mut out, &sum)?;
    }
    Ok(out)
}

struct Site {
    yard: Yard,
    hanging: Hanging,
    workers: [Running; 2],
    client: Client,
}

impl Site {
    async fn open() -> Self {
        let (yard, hanging) = (Yard::start().await, Hanging::default());
        let workers = [
            yard.work(hanging.registry(), yard.config()).await,
            yard.work(hanging.registry(), yard.config()).await,
        ];
        let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
        Self {
            yard,
            hanging,
            workers,
            client,
        }
    }

    /// What a job with one hanging reduce must have come to.
    async fn close(self, begun: Instant, record: &JobRecord) {
        assert_eq!(record.state, JobState::Completed, "{}", record.error);
        assert_eq!((record.reduces.backup, record.maps.backup), (1, 0));
        assert_eq!(record.reduces.done, record.reduces.total, "each counted once");
        println!("a reduce hangs: done in {:?} with a backup copy", begun.elapsed());
        assert!(begun.elapsed() < HANGS / 2, "the backup did not help");
        wait_until(HANGS, || async { self.hanging.stopped.load(Ordering::SeqCst) == 1 }).await;
        for worker in self.workers {
            worker.stop().await;
        }
        assert_eq!(self.yard.overview().await.running, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_reduce_hangs_is_reduced_by_a_second_copy() {
    let site = Site::open().await;
    let begun = Instant::now();
    let job = site.client.map_reduce(&queue_name("q"), "pairs", "total");
    let job = job.items(0..200).chunk_size(10).keyed(12).submit().await.unwrap();
    let record = job.wait(HANGS * 2).await.unwrap();
    let sums: BTreeMap<String, i64> = job.pairs().await.unwrap().collect().await.unwrap();
    assert_eq!((sums.len(), sums.values().sum::<i64>()), (50, (0..200).sum()));
    site.close(begun, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_tree_that_hangs_is_reduced_by_a_second_copy_though_others_wait_for_it() {
    let site = Site::open().await;
    let begun = Instant::now();
    let job = site.client.map_reduce(&queue_name("q"), "same", "total");
    let job = job.items(0..100).chunk_size(1).fan_in(10).submit().await.unwrap();
    let record = job.wait(HANGS * 2).await.unwrap();
    assert_eq!(job.result::<i64>().await.unwrap(), Some((0..100).sum()));
    assert_eq!(record.reduces.total, 11, "ten nodes and the top");
    site.close(begun, &record).await;
}

/// A map whose first copy of an item goes on when `may` says so of it and of how long it has run; a second copy at once.
fn holding(may: impl Fn(i64, Duration) -> bool + Send + Sync + 'static) -> Registry {
    let (mut registry, seen) = (Registry::new(), Mutex::new(HashSet::new()));
    registry
        .stage_fn("hold", move |ctx, input| {
            let mut item = 0;
            input.each(ctx, |_, text| {
                item = text.parse()?;
                Ok(())
            })?;
            let (is_first, begun) = (seen.lock().unwrap().insert(item), Instant::now());
            while is_first && !may(item, begun.elapsed()) {
                // A test that has failed stops nobody, and its runtime waits for this thread.
                if ctx.task.is_cancelled() || begun.elapsed() > HANGS {
                    return Err(Failure::retry("stopped"));
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok(format!("{item}\n").into_bytes())
        })
        .unwrap();
    registry
        .reduce("add", |a: i64, b: i64| Ok::<i64, Failure>(a + b))
        .unwrap();
    registry
}

/// What a usual chunk takes: so long that none is claimed ahead of its slot.
const USUAL: Duration = Duration::from_millis(50);
/// Three times what a task of such a job may run before it is slow, in which it is looked at thrice.
const LONG_SLOW: Duration = Duration::from_millis(3500);

async fn open(registry: Registry, slots: usize) -> (Yard, Running, Client) {
    let yard = Yard::start().await;
    let config = workyard_consumer::WorkerConfig {
        concurrency: slots,
        ..yard.config()
    };
    let worker = yard.work(registry, config).await;
    let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
    (yard, worker, client)
}

/// Free when it goes: also when a test fails, whose runtime would wait for the thread otherwise.
struct Slot(Arc<AtomicBool>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_task_gets_no_copy_before_a_slot_is_free() {
    let slot = Slot(Arc::new(AtomicBool::new(false)));
    let mut registry = holding(|item, ran| item != 9 && ran > USUAL);
    let is_free = Arc::clone(&slot.0);
    registry
        .register_blocking("plain", move |_: workyard_consumer::Context, (): ()| {
            while !is_free.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok::<(), Failure>(())
        })
        .unwrap();
    let (yard, worker, client) = open(registry, 2).await;
    yard.add("plain", "null", |_| {}).await;
    wait_until(HANGS, || async { yard.overview().await.running == 1 }).await;
    let job = client.map_reduce(&queue_name("q"), "hold", "add").items(0..10);
    let job = job.chunk_size(1).submit().await.unwrap();
    wait_until(HANGS, || async { job.status().await.unwrap().maps.done == 9 }).await;
    // That nothing happens can only be waited for.
    tokio::time::sleep(LONG_SLOW).await;
    assert_eq!(job.status().await.unwrap().maps.backup, 0, "both slots are taken");
    drop(slot);
    let record = job.wait(HANGS).await.unwrap();
    assert_eq!((record.state, record.maps.backup), (JobState::Completed, 1));
    assert_eq!(job.result::<i64>().await.unwrap(), Some(45));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_tasks_get_no_copy_before_at_most_a_tenth_of_their_phase_is_left() {
    // Items from here on hang.
    let from = Arc::new(AtomicI64::new(80));
    let hangs = Arc::clone(&from);
    let registry = holding(move |item, ran| item < hangs.load(Ordering::SeqCst) && ran > USUAL);
    let (_yard, worker, client) = open(registry, 32).await;
    let job = client.map_reduce(&queue_name("q"), "hold", "add").items(0..100);
    let job = job.chunk_size(1).submit().await.unwrap();
    wait_until(HANGS, || async { job.status().await.unwrap().maps.done == 80 }).await;
    // That nothing happens can only be waited for.
    tokio::time::sleep(LONG_SLOW).await;
    assert_eq!(job.status().await.unwrap().maps.backup, 0, "a fifth is left");
    from.store(90, Ordering::SeqCst);
    let record = job.wait(HANGS).await.unwrap();
    assert_eq!((record.state, record.maps.backup), (JobState::Completed, 10));
    assert_eq!(job.result::<i64>().await.unwrap(), Some((0..100).sum()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_less_than_three_times_the_median_gets_no_copy() {
    let (median, slow) = (Duration::from_millis(1500), Duration::from_millis(3500));
    let registry = holding(move |item, ran| ran > if item == 9 { slow } else { median });
    let (_yard, worker, client) = open(registry, 16).await;
    let job = client.map_reduce(&queue_name("q"), "hold", "add").items(0..10);
    let job = job.chunk_size(1).submit().await.unwrap();
    let record = job.wait(HANGS).await.unwrap();
    assert_eq!((record.state, record.maps.backup), (JobState::Completed, 0));
    worker.stop().await;
}
