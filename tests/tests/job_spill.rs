//! Spilled files: what does not count goes, and what is gone is said. docs/jobs.md, "Intermediate data".
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use workyard_consumer::{Emit, Failure, Registry};
use workyard_producer::{Client, ClientConfig, JobHandle, JobRecord, JobState, MapReduce, QueueName};
use workyard_tests::{Running, Yard, queue_name, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn q() -> QueueName {
    queue_name("q")
}

fn client(url: &str) -> Client {
    Client::new(ClientConfig::from_url(url).unwrap()).unwrap()
}

/// Submits as a producer; the job as an operator has it, who may cancel, retry and delete it.
async fn submit(yard: &Yard, job: MapReduce) -> JobHandle {
    let submitted = job.submit().await.unwrap();
    client(&yard.server.operator_url()).job(&q(), submitted.id())
}

async fn work(yard: &Yard, registry: Registry, spill: &Path) -> Running {
    let mut config = yard.config();
    config.jobs.spill = vec![workyard_consumer::config::Place::Folder(spill.to_owned())];
    yard.work(registry, config).await
}

/// Joins texts; each chunk is one item, each output is spilled.
fn spilling(yard: &Yard, spill: &Path, items: std::ops::Range<i64>) -> MapReduce {
    let job = client(&yard.server.producer_url())
        .map_reduce(&q(), "text", "append")
        .items(items);
    job.chunk_size(1).budget(0).spill(format!("file://{}", spill.display()))
}

fn registry(map: impl Fn(i64) -> Result<String, Failure> + Clone + Send + Sync + 'static) -> Registry {
    let mut registry = Registry::new();
    registry.map("text", map).unwrap();
    registry
        .reduce("append", |a: String, b: String| Ok::<String, Failure>(a + &b))
        .unwrap();
    registry
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// The mapper itself ends the job: its consumer cannot hear of that before the output is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_behind_the_end_of_its_job_does_not_stay() {
    let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
    let job: Arc<OnceLock<JobHandle>> = Arc::default();
    let (ended, runtime) = (Arc::clone(&job), tokio::runtime::Handle::current());
    let map = move |n: i64| {
        if n == 3 {
            let job = loop {
                match ended.get() {
                    Some(job) => break job.clone(),
                    None => std::thread::yield_now(),
                }
            };
            let (end, over) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                job.cancel().await.unwrap();
                job.delete().await.unwrap();
                end.send(()).unwrap();
            });
            over.recv().unwrap();
        }
        Ok(format!("{n},").repeat(100_000))
    };
    let worker = work(&yard, registry(map), spill.path()).await;
    let submitted = submit(&yard, spilling(&yard, spill.path(), 0..8)).await;
    job.set(submitted.clone()).unwrap();
    wait_until(SOON, || async { submitted.status().await.is_err() }).await;
    wait_until(SOON, || async { is_empty(spill.path()) }).await;
    worker.stop().await;
    assert!(is_empty(spill.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_counts_stays_until_the_job_goes() {
    let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
    let worker = work(&yard, registry(|n| Ok(format!("{n},"))), spill.path()).await;
    let job = submit(&yard, spilling(&yard, spill.path(), 0..50)).await;
    assert_eq!(job.wait(SOON).await.unwrap().state, JobState::Completed);
    let expected: String = (0..50).map(|n| format!("{n},")).collect();
    assert_eq!(job.result::<String>().await.unwrap(), Some(expected));
    // What counts stays, also behind the last look.
    worker.stop().await;
    assert!(job.result::<String>().await.unwrap().is_some());
    job.delete().await.unwrap();
    assert!(is_empty(spill.path()));
}

/// Chunk 0 has spilled, and its file goes before chunk 1 is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_whose_spilled_inputs_are_gone_says_so_also_after_a_retry() {
    let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let map = move |n: i64| {
        if n == 1 {
            released.lock().unwrap().recv().ok();
        }
        Ok(format!("{n},"))
    };
    let worker = work(&yard, registry(map), spill.path()).await;
    let job = spilling(&yard, spill.path(), 0..2).max_attempts(1);
    let job = submit(&yard, job.backups(false)).await;
    wait_until(SOON, || async { job.status().await.unwrap().spilled == 1 }).await;
    std::fs::remove_dir_all(spill.path().join(yard.queue.keys().spill_folder(job.id()))).unwrap();
    drop(release);
    for _ in 0..2 {
        let record = job.wait(SOON).await.unwrap();
        assert_eq!(record.state, JobState::Failed);
        assert!(
            record.error.contains("spilled data is gone: file://"),
            "{}",
            record.error
        );
        job.retry().await.unwrap();
    }
    job.wait(SOON).await.unwrap();
    job.delete().await.unwrap();
    worker.stop().await;
    assert!(is_empty(spill.path()));
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Runs a job of two chunks; before the second is done, each file of the first is made to be this.
async fn over_damaged_files(keyed: bool, damage: fn(Vec<u8>) -> Vec<u8>) -> JobRecord {
    let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let wait = move |n: i64| {
        if n == 1 {
            released.lock().unwrap().recv().ok();
        }
    };
    let held = wait.clone();
    let mut registry = registry(move |n| {
        held(n);
        Ok(format!("{n},"))
    });
    registry
        .map_pairs("pairs", move |n: i64, emit: &mut Emit<i64, i64>| {
            wait(n);
            (0..20).for_each(|key| emit.pair(key, n));
            Ok::<(), Failure>(())
        })
        .unwrap();
    registry
        .reduce_pairs("total", |_: &i64, all: Vec<i64>| Ok::<i64, Failure>(all.iter().sum()))
        .unwrap();
    let worker = work(&yard, registry, spill.path()).await;
    let job = match keyed {
        false => spilling(&yard, spill.path(), 0..2),
        true => {
            let job = client(&yard.server.producer_url()).map_reduce(&q(), "pairs", "total");
            let job = job.items(0..2_i64).keyed(2).chunk_size(1).budget(0);
            job.spill(format!("file://{}", spill.path().display()))
        }
    };
    let job = submit(&yard, job.max_attempts(1).backups(false)).await;
    let parts = if keyed { 2 } else { 1 };
    wait_until(SOON, || async { job.status().await.unwrap().spilled == parts }).await;
    for file in files(spill.path()) {
        std::fs::write(&file, damage(std::fs::read(&file).unwrap())).unwrap();
    }
    drop(release);
    let record = job.wait(SOON).await.unwrap();
    // As long as the file stays as it is, so does the end.
    if record.state == JobState::Failed {
        job.retry().await.unwrap();
        let again = job.wait(SOON).await.unwrap();
        // Perhaps of another partition.
        assert!(again.error.contains("spilled data is damaged"), "{}", again.error);
    }
    worker.stop().await;
    record
}

fn is_damaged(record: &JobRecord, words: &str) {
    assert_eq!(record.state, JobState::Failed, "{record:?}");
    let begin = format!("spilled data is damaged: {words}");
    assert!(record.error.contains(&begin), "{}", record.error);
    assert!(record.error.contains(" in file://"), "{}", record.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_over_a_spilled_part_that_is_shorter_or_longer_fails_with_that_reason() {
    is_damaged(&over_damaged_files(false, |_| Vec::new()).await, "0 bytes instead of 5");
    let longer = |lines: Vec<u8>| [lines.clone(), lines].concat();
    is_damaged(&over_damaged_files(false, longer).await, "10 bytes instead of 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_reduce_over_a_spilled_part_that_is_shorter_or_longer_fails_with_that_reason() {
    is_damaged(&over_damaged_files(true, |_| Vec::new()).await, "");
    // Whole lines: nothing but their number is wrong.
    let shorter = |lines: Vec<u8>| {
        let first = lines.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        lines[first..].to_vec()
    };
    is_damaged(&over_damaged_files(true, shorter).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_may_not_spill_there_leaves_the_task_to_another() {
    let (yard, spill, elsewhere) = (
        Yard::start().await,
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let map = |n: i64| Ok::<_, Failure>(n.to_string());
    let other = work(&yard, registry(map), elsewhere.path()).await;
    let job = submit(&yard, spilling(&yard, spill.path(), 0..2)).await;
    wait_until(SOON, || async {
        yard.overview().await.totals.get("released").is_some_and(|n| *n >= 2)
    })
    .await;
    assert_eq!(job.status().await.unwrap().state, JobState::Mapping);
    other.stop().await;
    let worker = work(&yard, registry(map), spill.path()).await;
    job.wait_completed(SOON).await.unwrap();
    assert_eq!(job.result::<String>().await.unwrap().as_deref(), Some("01"));
    worker.stop().await;
}

/// A job of the same id in another queue, and a folder that somebody has there under the job's own name.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_takes_nothing_of_others_with_it() {
    let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
    let worker = work(&yard, registry(|n| Ok(format!("{n},"))), spill.path()).await;
    let own = spill.path().join("nightly/data");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("ours"), "kept").unwrap();
    let other = yard.broker.queue(&queue_name("other")).keys().clone();
    let other = spill
        .path()
        .join(other.spill_folder(&workyard_shared::name::JobId::new("nightly").unwrap()));
    std::fs::create_dir_all(other.join("out")).unwrap();
    let job = submit(&yard, spilling(&yard, spill.path(), 0..4).id("nightly")).await;
    assert_eq!(job.wait(SOON).await.unwrap().state, JobState::Completed);
    assert_eq!(job.result::<String>().await.unwrap().unwrap(), "0,1,2,3,");
    job.delete().await.unwrap();
    worker.stop().await;
    assert_eq!(std::fs::read_to_string(own.join("ours")).unwrap(), "kept");
    assert!(other.join("out").is_dir());
    assert_eq!(
        std::fs::read_dir(spill.path()).unwrap().count(),
        2,
        "and its own folder is gone"
    );
}

/// The consumer may not use it, and it is in no folder that could be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_spill_place_that_was_never_used_keeps_no_job() {
    let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
    let worker = work(&yard, registry(|n| Ok(format!("{n},"))), spill.path()).await;
    let small = |retention| {
        let job = client(&yard.server.producer_url())
            .map_reduce(&q(), "text", "append")
            .items([1, 2]);
        job.spill("file:///proc/nowhere/spill").retention(retention)
    };
    let forgotten = submit(&yard, small(Duration::from_secs(1))).await;
    wait_until(SOON, || async {
        matches!(forgotten.status().await, Err(workyard_producer::Error::NoJob { .. }))
    })
    .await;
    let deleted = submit(&yard, small(Duration::from_secs(3600))).await;
    assert_eq!(deleted.wait(SOON).await.unwrap().state, JobState::Completed);
    deleted.delete().await.unwrap();
    worker.stop().await;
}

/// A completed job has only its result there, a failed one its intermediate data.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_job_go_with_its_record_at_the_end_of_its_retention() {
    for fails in [false, true] {
        let (yard, spill) = (Yard::start().await, tempfile::tempdir().unwrap());
        let map = move |n: i64| match fails && n == 7 {
            true => Err(Failure::fatal("a bad item")),
            false => Ok(format!("{n},")),
        };
        let mut config = yard.config();
        config.concurrency = 1;
        config.jobs.spill = vec![workyard_consumer::config::Place::Folder(spill.path().to_owned())];
        let worker = yard.work(registry(map), config).await;
        let job = spilling(&yard, spill.path(), 0..8).retention(Duration::from_secs(2));
        let job = submit(&yard, job).await;
        let record = job.wait(SOON).await.unwrap();
        let ended = if fails { JobState::Failed } else { JobState::Completed };
        assert_eq!(record.state, ended, "{}", record.error);
        let folder = spill.path().join(yard.queue.keys().spill_folder(job.id()));
        let part = folder.join(if fails { "data" } else { "out" });
        let least = if fails { 7 } else { 1 };
        assert_eq!(files(&part).len(), least, "they are there as long as the job is");
        wait_until(SOON, || async {
            matches!(job.status().await, Err(workyard_producer::Error::NoJob { .. }))
        })
        .await;
        assert!(is_empty(spill.path()), "{:?}", files(spill.path()));
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*job:*")
            .query_async(&mut yard.server.connection().await)
            .await
            .unwrap();
        assert!(keys.is_empty(), "{keys:?}");
        worker.stop().await;
    }
}
