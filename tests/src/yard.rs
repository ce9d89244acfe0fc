//! A server, a queue on it, and workers in this process: what most tests begin with.

#![expect(clippy::expect_used, reason = "its only callers are tests")]

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workyard_consumer::{Context, Failure, Registry, Worker, WorkerConfig};
use workyard_shared::Error;
use workyard_shared::acl::Role;
use workyard_shared::broker::{Broker, Overview, Place, Queue, Seen};
use workyard_shared::envelope::NewTask;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Kind, Prefix, QueueName, TaskId};
use workyard_shared::options::TaskOptions;
use workyard_shared::record::{Ended, Meta, State};
use workyard_shared::submit::Submitter;

use crate::{TestServer, wait_for, wait_until, workspace_binary};

/// Longest wait for anything that should take far below a second.
const SOON: Duration = Duration::from_secs(15);

/// A server with one queue, `q`.
pub struct Yard {
    /// The server.
    pub server: TestServer,
    /// The installation on it.
    pub broker: Broker,
    /// The queue `q`, for the test itself.
    pub queue: Queue,
    /// The queue for who produces: with roles on, that of a user who may do just what the role may.
    pub producer: Queue,
    /// The queue for who consumes.
    pub consumer: Queue,
    /// The queue for who operates.
    pub operator: Queue,
    submitter: Submitter,
}

impl std::fmt::Debug for Yard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Yard")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// A worker that runs in this process.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Stops it as SIGTERM would, and waits until it has drained.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task
            .await
            .expect("the worker panicked")
            .expect("the worker failed");
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) {
        tokio::time::timeout(SOON * 4, self.task)
            .await
            .expect("the worker did not end")
            .expect("the worker panicked")
            .expect("the worker failed");
    }
}

impl Yard {
    /// Starts a server without persistence.
    pub async fn start() -> Self {
        Self::on(TestServer::start().await)
    }

    /// A queue on a server that runs already.
    #[must_use]
    pub fn on(server: TestServer) -> Self {
        let broker = broker_at(&server.url());
        let queue_of = |role| broker_at(&server.role_url(role)).queue(&queue_name("q"));
        let producer = queue_of(Role::Producer);
        Self {
            queue: broker.queue(&queue_name("q")),
            submitter: Submitter::start(producer.clone()),
            producer,
            consumer: queue_of(Role::Consumer),
            operator: queue_of(Role::Operator),
            broker,
            server,
        }
    }

    /// Adds a task with chosen options; answers its id.
    pub async fn add(&self, kind: &str, payload: &str, choose: impl FnOnce(&mut TaskOptions)) -> String {
        self.add_as(TaskId::fresh(), kind, payload, choose).await
    }

    /// Adds a task under an id of its own.
    pub async fn add_as(&self, id: TaskId, kind: &str, payload: &str, choose: impl FnOnce(&mut TaskOptions)) -> String {
        let mut task = new_task(kind, payload);
        choose(&mut task.options);
        let text = id.to_string();
        self.submitter
            .submit(vec![(id, task)], false, None, SOON)
            .await
            .expect("accepted");
        text
    }

    /// Adds many alike in calls of 500.
    pub async fn add_many(&self, count: usize, kind: &str, payload: &str) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let chunk: Vec<_> = (0..(count - ids.len()).min(500))
                .map(|_| (TaskId::fresh(), new_task(kind, payload)))
                .collect();
            ids.extend(chunk.iter().map(|(id, _)| id.to_string()));
            self.submitter.submit(chunk, true, None, SOON).await.expect("accepted");
        }
        ids
    }

    /// A configuration for workers of this queue: the poll is far away, so that only wake-ups work.
    #[must_use]
    pub fn config(&self) -> WorkerConfig {
        let link = LinkConfig::from_url(&self.server.consumer_url()).expect("a URL");
        WorkerConfig {
            poll: Duration::from_secs(600),
            ..WorkerConfig::new(link, queue_name("q"))
        }
    }

    /// Starts a worker and waits until it is registered.
    pub async fn work(&self, registry: Registry, config: WorkerConfig) -> Running {
        let before = self.overview().await.consumers;
        let running = spawn(registry, config);
        wait_until(SOON, || async { self.overview().await.consumers > before }).await;
        running
    }

    /// From now on the server writes down each call that takes as long; what it did before is forgotten. Its connection.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn note_calls(&self, slower_than: Duration) -> redis::aio::MultiplexedConnection {
        let mut redis = self.server.connection().await;
        let mut pipe = redis::pipe();
        for (name, value) in [
            ("slowlog-max-len", 100_000),
            ("slowlog-log-slower-than", slower_than.as_micros()),
        ] {
            pipe.cmd("CONFIG").arg("SET").arg(name).arg(value.to_string());
        }
        pipe.cmd("SLOWLOG").arg("RESET");
        pipe.exec_async(&mut redis).await.expect("an answer");
        redis
    }

    /// How long the calls that [`Self::note_calls`] has noted took, in us.
    pub async fn noted_us(&self, redis: &mut redis::aio::MultiplexedConnection) -> Vec<u64> {
        let all = redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(redis).await;
        let entries: Vec<(u64, u64, u64, Vec<String>, String, String)> = all.expect("an answer");
        entries.iter().map(|entry| entry.2).collect()
    }

    /// How many consumers of a queue say in their reports that it balances by this policy.
    pub async fn heard(&self, queue: &Queue, policy: impl std::fmt::Display) -> usize {
        let heard = format!("\"balance\":\"{policy}\"");
        let mut told = 0;
        for (consumer, _) in queue.consumers().await.expect("an answer") {
            let report = self.broker.health(&consumer).await.expect("an answer");
            told += usize::from(report.is_some_and(|json| json.contains(&heard)));
        }
        told
    }

    /// Waits until each that is parked has said its rank, which is far below any time: by that of parking is who has not yet.
    pub async fn ranked(&self, queue: &Queue) {
        let by_time = redis::Cmd::zcount(queue.keys().named("parked"), 1_i64 << 50, "+inf");
        let (connection, by_time) = (self.server.connection().await, &by_time);
        wait_until(SOON * 2, || {
            let mut connection = connection.clone();
            async move { by_time.query_async::<u64>(&mut connection).await.expect("an answer") == 0 }
        })
        .await;
    }

    /// Keeps some hundred tasks of a kind waiting, for as long as it is polled.
    pub async fn feed(&self, kind: &str) {
        loop {
            if self.overview().await.pending < 500 {
                self.add_many(500, kind, "1").await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Depths and counters.
    pub async fn overview(&self) -> Overview {
        // The link of the test itself may just be coming back.
        wait_for(SOON, || async {
            match self.queue.overview().await {
                Ok(overview) => Some(overview),
                Err(error) if error.is_temporary() => None,
                Err(error) => panic!("no overview: {error}"),
            }
        })
        .await
    }

    /// A counter.
    pub async fn total(&self, counter: &str) -> u64 {
        self.overview().await.totals.get(counter).copied().unwrap_or_default()
    }

    /// What is known of a task.
    pub async fn look(&self, id: &str) -> Seen {
        self.queue.inspect(&[id]).await.expect("an answer").remove(0)
    }

    /// Where a task is that has not ended, or is a dead letter, and what is known of its attempts.
    pub async fn live(&self, id: &str) -> (Place, Meta) {
        match self.look(id).await {
            Seen::Live { place, meta, .. } => (place, meta),
            other => panic!("{id} is neither alive nor a dead letter: {other:?}"),
        }
    }

    /// What is known of the attempts of a dead letter.
    pub async fn dead(&self, id: &str) -> Meta {
        let (place, meta) = self.live(id).await;
        assert!(matches!(place, Place::Failed(_)), "{id} is {place:?}");
        meta
    }

    /// Waits until a task is a dead letter; what is known of its attempts.
    pub async fn buried(&self, id: &str, limit: Duration) -> Meta {
        wait_for(limit, || async {
            match self.look(id).await {
                Seen::Live {
                    place: Place::Failed(_),
                    meta,
                    ..
                } => Some(meta),
                _ => None,
            }
        })
        .await
    }

    /// Waits until what is said of the fleet holds this text.
    pub async fn fleet_says(&self, text: &str, limit: Duration) {
        wait_until(limit, || async {
            let said = self.queue.fleet().await.expect("an answer");
            said.is_some_and(|json| json.contains(text))
        })
        .await;
    }

    /// What a command of `workyard` prints that succeeds.
    pub fn said(&self, args: &[&str]) -> String {
        let mut command = workspace_binary("workyard");
        command.args(["--redis-url", &self.server.cli_url(args)]).args(args);
        let output = command.output().expect("workyard runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Waits until a task has ended in other than the dead-letter set.
    pub async fn ended(&self, id: &str) -> Ended {
        wait_for(SOON, || async {
            match self.look(id).await {
                Seen::Ended(ended) => Some(ended),
                _ => None,
            }
        })
        .await
    }

    /// Waits until a counter has reached a value.
    pub async fn reaches(&self, counter: &str, value: u64) -> Duration {
        wait_until(SOON * 4, || async { self.total(counter).await >= value }).await
    }

    /// Waits for a task's result.
    pub async fn result(&self, id: &str) -> String {
        let ended = self.ended(id).await;
        assert_eq!(ended.state, State::Completed, "{ended:?}");
        String::from_utf8(ended.body.to_vec()).expect("JSON")
    }
}

fn broker_at(url: &str) -> Broker {
    let link = Link::new(LinkConfig::from_url(url).expect("a URL"), None).expect("a link");
    Broker::new(link, Prefix::default())
}

/// Functions of a worker: `echo`, which gives back its payload, and what the test adds.
pub fn echo_and(add: impl FnOnce(&mut Registry)) -> Registry {
    let mut registry = Registry::new();
    let echo = |_: Context, payload: serde_json::Value| async move { Ok::<_, Failure>(payload) };
    registry.register("echo", echo).expect("a kind");
    add(&mut registry);
    registry
}

/// Starts a worker in this process.
#[must_use]
pub fn spawn(registry: Registry, config: WorkerConfig) -> Running {
    let stop = CancellationToken::new();
    let worker = Worker::new(config, registry).expect("a sound configuration");
    Running {
        stop: stop.clone(),
        task: tokio::spawn(worker.run(stop)),
    }
}

/// A queue name that is known to be one.
#[must_use]
pub fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).expect("a queue name")
}

/// A task with every default.
#[must_use]
pub fn new_task(kind: &str, payload: &str) -> NewTask {
    NewTask::new(Kind::new(kind).expect("a kind"), payload.to_owned()).expect("JSON")
}
