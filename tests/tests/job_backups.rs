//! Backup copies of reduces: one that hangs does not hold up its job, in either form.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
