//! A worker: all loops of one consumer process, started and ended together.
//!
//! Invariant: `run` returns when everything claimed is settled or handed back; what can be seen of it from outside
//! is there before the first loop and after the last.

use std::sync::{Arc, RwLock};

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use workyard_shared::Error;
use workyard_shared::broker::Broker;
use workyard_shared::link::Link;
use workyard_shared::name::SessionId;
use workyard_shared::outage::Watch;

use crate::counters::Counters;
use crate::fleet::Fleet;
use crate::handler::BoxFuture;
use crate::health::Host;
use crate::jobs::Spill;
use crate::loops::Loops;
use crate::metrics::Meters;
use crate::middleware::Middleware;
use crate::ops::{Notifier, Outside, Progress, tick};
use crate::prepare::prepare;
use crate::queues::Queues;
use crate::registry::Registry;
use crate::reload::{self, Reloads};
use crate::signals::Signals;
use crate::slots::Slots;
use crate::telemetry::Tracing;
use crate::worker_config::WorkerConfig;

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
    reloads: Option<Reloads>,
    tracing: Option<Tracing>,
    /// The time for draining is over.
    halt: CancellationToken,
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
    pub fn new(config: WorkerConfig, mut registry: Registry) -> Result<Self, Error> {
        config.validate()?;
        registry.keep_from_jobs(&config.protection.signed_kinds);
        Ok(Self {
            config,
            registry,
            middleware: Vec::new(),
            reloads: None,
            tracing: None,
            halt: CancellationToken::new(),
        })
    }

    /// Adds hooks around every task.
    #[must_use]
    pub fn with_middleware(mut self, layer: impl Middleware) -> Self {
        self.middleware.push(Arc::new(layer));
        self
    }

    /// Makes a span for the wait and one for each run of a task. While a task runs, its span is OpenTelemetry's current one for
    /// its handler, also for a blocking one. The provider stays the caller's: `force_flush` it after [`Self::run`].
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn with_tracer_provider(self, provider: &opentelemetry_sdk::trace::SdkTracerProvider) -> Self {
        self.with_tracing(Some(Tracing::new(provider)))
    }

    pub(crate) fn with_tracing(mut self, tracing: Option<Tracing>) -> Self {
        self.tracing = tracing;
        self
    }

    /// SIGHUP reloads what these settings come from.
    pub(crate) fn with_reloads(mut self, reloads: Reloads) -> Self {
        self.reloads = Some(reloads);
        self
    }

    /// Works until SIGTERM or SIGINT, then drains; a second signal stops what runs, hands it back, and exits
    /// the process within half a second, with code 143 or 130.
    ///
    /// # Errors
    /// As [`Self::run`]; [`Error::Invalid`] if the signals cannot be heard.
    pub async fn serve(mut self) -> Result<(), Error> {
        let signals = Signals::hear().map_err(|e| Error::Invalid(format!("signals cannot be heard: {e}")))?;
        self.halt = signals.now.clone();
        let outcome = self.run(signals.stop.clone()).await;
        signals.end();
        outcome
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
        // Its type hides what is below: spelled out, it is deeper than the compiler lets the program of a user go.
        let running: BoxFuture<Result<(), Error>> = Box::pin(self.run_until(stop));
        running.await
    }

    async fn run_until(self, stop: CancellationToken) -> Result<(), Error> {
        let (push_in, pushes) = mpsc::unbounded_channel();
        let link = Link::new(self.config.link.clone(), Some(push_in))?;
        let broker = Broker::new(link, self.config.prefix.clone());
        let bulk = Broker::new(Link::new(self.config.link.clone(), None)?, self.config.prefix.clone());
        let progress = Arc::new(Progress::new());
        let notifier = Arc::new(match self.config.notify {
            true => Notifier::from_env(),
            false => Notifier::off(),
        });
        // From the beginning: one that comes before the loops run is answered when they do.
        let hangups = reload::hangups(self.reloads.as_ref())?;
        // It shows also what comes before the loops, and after them.
        let outside = Outside::start(&self.config, &progress, &notifier, &stop)?;
        let watching = CancellationToken::new();
        let _until_the_end = watching.clone().drop_guard();
        let (first, silence) = (broker.queue(&self.config.queues[0].0), outside.view.long_silence());
        tick(&progress, first, silence, watching.clone());
        let watch = Watch::default();
        let outcome = match prepare(&broker, &self.config, &watch, &notifier, &stop).await {
            Ok(true) => {
                let (config, reloads) = (self.config.clone(), self.reloads.clone());
                let host = Host::start(self.config.watch_host, watching.clone());
                let fleet = Arc::new(self.fleet(broker, bulk, watch, &host, progress));
                // What is below must not be left out because of an error here.
                match begin(&fleet, &config, pushes) {
                    Ok((id, loops)) => {
                        outside.view.show(&fleet);
                        notifier.ready("working");
                        let reloading = reload::start(&fleet, &loops.crew, reloads, &notifier, hangups);
                        loops.until_stopped(&fleet, &config, &notifier, stop).await;
                        reloading.abort();
                        info!(consumer = %id, "consumer {id} has ended");
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Ok(false) => {
                notifier.stopping("stopped while it waited for Redis");
                Ok(())
            }
            Err(error) => Err(error),
        };
        outside.end().await;
        outcome
    }

    /// What the loops share.
    fn fleet(self, broker: Broker, bulk: Broker, watch: Watch, host: &Arc<Host>, progress: Arc<Progress>) -> Fleet {
        let (config, urgent) = (self.config, Arc::new(Notify::new()));
        let slots = Slots::new(config.concurrency, config.order);
        slots.set_usable(self.registry.usable(config.concurrency));
        Fleet {
            broker,
            bulk,
            queues: Queues::default(),
            host: Arc::clone(host),
            urgent: Arc::clone(&urgent),
            stages: Arc::new(self.registry.stages(&config.jobs.read)),
            spill: Arc::new(Spill::new(config.jobs.spill.clone())),
            handlers: RwLock::new(Arc::new(self.registry)),
            protection: RwLock::new(Arc::new(config.protection)),
            retiring: TaskTracker::new(),
            middleware: self.middleware.into(),
            hooks: TaskTracker::new(),
            tracing: self.tracing,
            slots,
            suspects: Arc::default(),
            counters: Counters::default(),
            meters: Meters::new(),
            progress,
            watch,
            drain: CancellationToken::new(),
            halt: self.halt,
            over: CancellationToken::new(),
            poll: config.poll,
            prefetch: config.prefetch,
        }
    }
}

/// Starts the loops under a new id.
fn begin(
    fleet: &Arc<Fleet>,
    config: &WorkerConfig,
    pushes: UnboundedReceiver<redis::PushInfo>,
) -> Result<(SessionId, Loops), Error> {
    let id = fresh_id(&config.name)?;
    info!(consumer = %id, queues = config.queues.len(), concurrency = config.concurrency, "consumer {id} starts");
    let loops = Loops::start(fleet, config, &id, pushes)?;
    Ok((id, loops))
}
