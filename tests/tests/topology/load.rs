//! A producer that goes on while the world breaks, a worker, and a ledger of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use workyard_consumer::{Context, Failure, LinkConfig, Registry, WorkerConfig};
use workyard_producer::{Client, ClientConfig, Durability, Kept, task};
use workyard_shared::acl::Role;
use workyard_shared::broker::{Queue, Seen};
use workyard_shared::record::State;
use workyard_tests::{Running, queue_name, spawn, wait_until};

/// Longest wait for anything here: failovers take seconds, loaded machines more of them.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// What happened to each task.
#[derive(Debug, Default)]
struct Ledger {
    /// Ids by what their receipts promised.
    accepted: Mutex<BTreeMap<String, Kept>>,
    runs: Mutex<BTreeMap<String, usize>>,
}

/// Tasks under way between a producer and a worker of this process.
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) queue: Queue,
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    producers: Vec<JoinHandle<()>>,
    worker: Running,
    next: Arc<AtomicUsize>,
}

impl Load {
    /// Starts a worker and two producers that never wait for each other. The poll is far away: only wake-ups work.
    pub(crate) async fn start(url_of: impl Fn(Role) -> String, level: Durability) -> Self {
        let link_of = |role| LinkConfig::from_url(&url_of(role)).unwrap();
        let mut config = ClientConfig::new(link_of(Role::Producer));
        config.patience = LONG;
        config.confirm_within = Duration::from_millis(200);
        let client = Client::new(config).unwrap();
        let ledger = Arc::new(Ledger::default());
        let worker_config = WorkerConfig {
            poll: Duration::from_secs(600),
            ..WorkerConfig::new(link_of(Role::Consumer), queue_name("q"))
        };
        let mut load = Self {
            queue: client.broker().queue(&queue_name("q")),
            worker: spawn(registry(&ledger), worker_config),
            client,
            ledger,
            over: Arc::default(),
            producers: Vec::new(),
            next: Arc::default(),
        };
        load.producers = (0..2).map(|_| tokio::spawn(load.produce(level))).collect();
        // Enough of them before anything breaks that losing some would show.
        wait_until(LONG, || async { load.ledger.runs.lock().unwrap().len() > 50 }).await;
        load
    }

    fn produce(&self, level: Durability) -> impl Future<Output = ()> + use<> {
        let (client, ledger) = (self.client.with_durability(level), Arc::clone(&self.ledger));
        let (over, next) = (Arc::clone(&self.over), Arc::clone(&self.next));
        async move {
            while !over.load(Ordering::SeqCst) {
                let id = format!("t{}", next.fetch_add(1, Ordering::SeqCst));
                let new = task("note").id(&id).build().unwrap();
                let receipt = client
                    .enqueue(&queue_name("q"), new)
                    .await
                    .expect("outages are waited out");
                ledger.accepted.lock().unwrap().insert(id, receipt.durability);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Waits until a task that is enqueued from now on has run: everything works. Says how long that took.
    pub(crate) async fn goes_on(&self) -> Duration {
        let begun = Instant::now();
        let before = self.next.load(Ordering::SeqCst);
        wait_until(LONG, || async {
            let runs = self.ledger.runs.lock().unwrap();
            runs.keys().any(|id| id[1..].parse::<usize>().unwrap() >= before + 3)
        })
        .await;
        begun.elapsed()
    }

    /// Ends the producers, waits until all that was accepted has run, and says how often tasks ran twice.
    ///
    /// # Panics
    /// If a task is not completed whose receipt was `level` at least.
    pub(crate) async fn settle(self, level: Kept) -> usize {
        self.over.store(true, Ordering::SeqCst);
        for producer in self.producers {
            producer.await.unwrap();
        }
        let accepted = self.ledger.accepted.lock().unwrap().clone();
        let kept = |kept: &Kept| *kept == level || level == Kept::Memory;
        let promised: BTreeSet<&str> = accepted
            .iter()
            .filter(|(_, k)| kept(k))
            .map(|(id, _)| id.as_str())
            .collect();
        assert!(
            promised.len() > 10,
            "only {} of {} were promised",
            promised.len(),
            accepted.len()
        );
        let ids: Vec<&str> = promised.iter().copied().collect();
        wait_until(LONG, || async {
            let mut left = 0;
            for some in ids.chunks(500) {
                let Ok(seen) = self.queue.inspect(some).await else {
                    return false;
                };
                left += seen.iter().filter(|seen| !is_completed(seen)).count();
            }
            left == 0
        })
        .await;
        self.worker.stop().await;
        let runs = self.ledger.runs.lock().unwrap();
        for id in &promised {
            assert!(runs.contains_key(*id), "{id} is completed but never ran");
        }
        let again = runs.values().map(|n| n - 1).sum();
        println!(
            "{} accepted, {} of them at {level}, {again} runs again",
            accepted.len(),
            promised.len()
        );
        again
    }
}

fn is_completed(seen: &Seen) -> bool {
    matches!(seen, Seen::Ended(ended) if ended.state == State::Completed)
}

fn registry(ledger: &Arc<Ledger>) -> Registry {
    let ledger = Arc::clone(ledger);
    let mut registry = Registry::new();
    registry
        .register("note", move |ctx: Context, _: ()| {
            *ledger.runs.lock().unwrap().entry(ctx.id().to_string()).or_default() += 1;
            async { Ok::<_, Failure>(()) }
        })
        .unwrap();
    registry
}
