//! A worker: all loops of one consumer process, started and ended together.
//!
//! Invariant: the heartbeat begins before the first claim and ends after the last settle. No loop
//! ends because of an error of the world. `run` returns when everything claimed is settled or
//! handed back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use workyard_shared::Error;
use workyard_shared::broker::Broker;
use workyard_shared::check::{self, Finding};
use workyard_shared::link::Link;
use workyard_shared::name::{QueueName, SessionId};
use workyard_shared::outage::{Patience, Watch};

use crate::counters::Counters;
use crate::event::{Duty, LaneEvent, Over};
use crate::fleet::Fleet;
use crate::health::{Desk, FleetWatch, Host};
use crate::jobs::{JobChores, Spill};
use crate::lane::Lane;
use crate::maintain::Maintainer;
use crate::middleware::Middleware;
use crate::pulse::{self, Station};
use crate::registry::Registry;
use crate::report::Reporter;
use crate::slots::Slots;
use crate::tuner::Tuner;
use crate::wake::{Route, Switchboard};
use crate::worker_config::WorkerConfig;

/// How often `until_empty` looks whether everything is done.
const EMPTY_CHECK: Duration = Duration::from_millis(200);

/// A new id for every start: a name that is reused would hide the death of its former owner.
fn fresh_id(name: &str) -> Result<SessionId, Error> {
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let safe = if safe.is_empty() { "consumer".to_owned() } else { safe };
    let random = &SessionId::fresh().to_string()[..8];
    SessionId::new(format!("{safe}-{}-{random}", std::process::id()))
}

/// A configured worker.
pub struct Worker {
    config: WorkerConfig,
    registry: Registry,
    middleware: Vec<Arc<dyn Middleware>>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that runs the kinds of `registry`.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what of the configuration cannot work.
    pub fn new(config: WorkerConfig, registry: Registry) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            config,
            registry,
            middleware: Vec::new(),
        })
    }

    /// Adds hooks around every task.
    #[must_use]
    pub fn with_middleware(mut self, layer: impl Middleware) -> Self {
        self.middleware.push(Arc::new(layer));
        self
    }

    /// Works until SIGTERM or SIGINT, then drains; a second signal exits the process at once, and the
    /// leases give its work to others.
    ///
    /// # Errors
    /// As [`Self::run`]; [`Error::Invalid`] if the signals cannot be heard.
    pub async fn serve(self) -> Result<(), Error> {
        let stop =
            crate::signals::stop_on_signals().map_err(|e| Error::Invalid(format!("signals cannot be heard: {e}")))?;
        self.run(stop).await
    }

    /// Works until the queues are empty.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn join(mut self) -> Result<(), Error> {
        self.config.until_empty = true;
        self.run(CancellationToken::new()).await
    }

    /// Works until `stop` is cancelled (or the queues are empty, if so configured), then drains.
    ///
    /// # Errors
    /// [`Error::Denied`] or [`Error::Invalid`] at the start; outages are waited out.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let (push_in, pushes) = mpsc::unbounded_channel();
        let link = Link::new(self.config.link.clone(), Some(push_in))?;
        let broker = Broker::new(link, self.config.prefix.clone());
        let watch = Watch::default();
        if !prepare(&broker, &self.config, &watch, &stop).await? {
            return Ok(());
        }
        let id = fresh_id(&self.config.name)?;
        let watching = CancellationToken::new();
        let _until_the_end = watching.clone().drop_guard();
        let weights: Vec<usize> = self.config.queues.iter().map(|(_, weight)| *weight).collect();
        let host = Host::start(self.config.watch_host, watching.clone());
        let urgent = Arc::new(Notify::new());
        let desk = |(queue, _): &(QueueName, usize)| {
            Arc::new(Desk::new(queue.as_str(), Arc::clone(&host), Arc::clone(&urgent)))
        };
        let fleet = Arc::new(Fleet {
            broker,
            desks: self.config.queues.iter().map(desk).collect(),
            host: Arc::clone(&host),
            urgent: Arc::clone(&urgent),
            stages: Arc::new(self.registry.stages(&self.config.jobs.read)),
            spill: Arc::new(Spill::new(self.config.jobs.spill.clone())),
            registry: self.registry,
            middleware: self.middleware.into(),
            slots: Slots::new(self.config.concurrency, self.config.order, &weights),
            counters: Counters::default(),
            watch,
            drain: CancellationToken::new(),
            halt: CancellationToken::new(),
            poll: self.config.poll,
            prefetch: self.config.prefetch,
        });
        fleet.slots.set_usable(fleet.registry.usable(self.config.concurrency));
        info!(consumer = %id, queues = ?weights.len(), concurrency = self.config.concurrency, "consumer {id} starts");
        Loops::start(&fleet, &self.config, &id, pushes)?
            .until_stopped(&fleet, &self.config, stop)
            .await;
        info!(consumer = %id, "consumer {id} has ended");
        Ok(())
    }
}

/// Waits for Redis and checks it; false if stopped meanwhile.
async fn prepare(
    broker: &Broker,
    config: &WorkerConfig,
    watch: &Watch,
    stop: &CancellationToken,
) -> Result<bool, Error> {
    let mut patience = Patience::default();
    loop {
        match try_prepare(broker, config).await {
            Ok(()) => {
                watch.succeeded();
                return Ok(true);
            }
            Err(error) if error.is_temporary() => watch.failed(&error),
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = patience.wait() => {}
        }
    }
}

async fn try_prepare(broker: &Broker, config: &WorkerConfig) -> Result<(), Error> {
    for finding in check::server(broker.link()).await? {
        match finding {
            Finding::Warning(text) => warn!("{text}"),
            Finding::Unsafe(text) if config.allow_eviction => error!("unsafe, but allowed: {text}"),
            Finding::Unsafe(text) => return Err(Error::Invalid(text)),
        }
    }
    broker.link().ensure_library().await?;
    for (queue, _) in &config.queues {
        broker.announce(queue).await?;
    }
    Ok(())
}

/// The running loops of a worker.
struct Loops {
    lanes: Vec<tokio::task::JoinHandle<()>>,
    helpers: Vec<tokio::task::JoinHandle<()>>,
    pulse: std::thread::JoinHandle<()>,
    stop_helpers: CancellationToken,
}

impl Loops {
    fn start(
        fleet: &Arc<Fleet>,
        config: &WorkerConfig,
        id: &SessionId,
        pushes: UnboundedReceiver<redis::PushInfo>,
    ) -> Result<Self, Error> {
        let stop_helpers = CancellationToken::new();
        let (mut lanes, mut helpers, mut stations, mut routes) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        for (index, (name, _)) in config.queues.iter().enumerate() {
            let queue = fleet.broker.queue(name);
            let (lane, events) = mpsc::unbounded_channel::<LaneEvent>();
            let (duty, duties) = mpsc::unbounded_channel::<Duty>();
            routes.insert(
                queue.keys().named(""),
                Route {
                    lane: lane.clone(),
                    duty: duty.clone(),
                },
            );
            let over = Over::default();
            stations.push(Station {
                queue: name.clone(),
                lane,
                duty,
                over: over.clone(),
                desk: Arc::clone(&fleet.desks[index]),
            });
            lanes.push(tokio::spawn(
                Lane::new(Arc::clone(fleet), queue.clone(), index, events, over).run(),
            ));
            let maintainer = Maintainer {
                fleet: Arc::clone(fleet),
                health: FleetWatch::new(queue.clone()),
                chores: JobChores::new(queue.clone(), Arc::clone(&fleet.spill)),
                queue,
                duties,
            };
            helpers.push(tokio::spawn(maintainer.run(stop_helpers.clone())));
        }
        if fleet.registry.limited().any(|(_, slots)| slots.moves()) {
            let tuner = Tuner {
                fleet: Arc::clone(fleet),
            };
            helpers.push(tokio::spawn(tuner.run(stop_helpers.clone())));
        }
        helpers.push(tokio::spawn(Switchboard { routes }.run(pushes)));
        let reporter = Reporter {
            consumer: id.clone(),
            host: config.name.clone(),
            queues: config.queues.iter().map(|(name, _)| name.clone()).collect(),
            started: Instant::now(),
        };
        let pulse = pulse::start(
            Arc::clone(fleet),
            config.link.clone(),
            id.clone(),
            config.lease,
            stations,
            reporter,
            stop_helpers.clone(),
        )
        .map_err(|e| Error::Invalid(format!("the heartbeat thread cannot start: {e}")))?;
        Ok(Self {
            lanes,
            helpers,
            pulse,
            stop_helpers,
        })
    }

    async fn until_stopped(self, fleet: &Arc<Fleet>, config: &WorkerConfig, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => info!("stopping: no more claims, running tasks may finish"),
            () = all_empty(fleet, config), if config.until_empty => info!("all queues are empty"),
        }
        fleet.drain.cancel();
        let (drain_timeout, halt) = (config.drain_timeout, fleet.halt.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(drain_timeout).await;
            halt.cancel();
        });
        for lane in self.lanes {
            if let Err(error) = lane.await {
                error!(%error, "a queue's loop broke; its tasks come back when the lease ends");
            }
        }
        timer.abort();
        fleet.registry.close().await;
        self.stop_helpers.cancel();
        for helper in self.helpers {
            helper.abort();
        }
        let pulse = self.pulse;
        // The thread removes the health key; it is bounded by its own response timeout.
        drop(tokio::task::spawn_blocking(move || pulse.join()).await);
    }
}

/// Returns when no queue has anything left to do.
async fn all_empty(fleet: &Fleet, config: &WorkerConfig) {
    let queues: Vec<_> = config.queues.iter().map(|(name, _)| fleet.broker.queue(name)).collect();
    loop {
        let mut left = 0;
        for queue in &queues {
            left += match (queue.inbox_len().await, queue.overview().await) {
                (Ok(inbox), Ok(seen)) => inbox + seen.pending + seen.scheduled + seen.running,
                (Err(error), _) | (_, Err(error)) => {
                    fleet.watch.failed(&error);
                    1
                }
            };
        }
        if left == 0 {
            return;
        }
        tokio::time::sleep(EMPTY_CHECK).await;
    }
}
