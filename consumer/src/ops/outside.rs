//! The thread that answers for the daemon, and what it sees of it.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use workyard_shared::Error;
use workyard_shared::broker::Broker;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::{Prefix, QueueName, SessionId};

use super::notify::Notifier;
use super::progress::Progress;
use super::{routes, verdict};
use crate::fleet::Fleet;
use crate::worker_config::WorkerConfig;

/// Silence of a loop after which it counts as stuck.
const STUCK: Duration = Duration::from_secs(15);
/// Shortest such silence, however short systemd's watchdog is.
const STUCK_AT_LEAST: Duration = Duration::from_secs(3);
/// How long Redis may take to answer this thread.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How often this thread asks Redis for an answer.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What can be seen of a worker from outside.
pub(crate) struct View {
    pub(super) started: Instant,
    /// What it serves at first.
    queues: Vec<QueueName>,
    pub(super) progress: Arc<Progress>,
    /// Set when its loops run.
    pub(super) fleet: OnceLock<Arc<Fleet>>,
    /// It stops, or has been told to.
    pub(super) stop: CancellationToken,
    /// This thread's own calls.
    pub(super) broker: Broker,
    stuck: Duration,
    /// A queue that is refused for longer than this is not served.
    lease: Duration,
    answering_since: Mutex<Option<Instant>>,
}

impl View {
    /// Its loops run now.
    pub(crate) fn show(&self, fleet: &Arc<Fleet>) {
        // Once in a worker's life; a second time would change nothing.
        self.fleet.set(Arc::clone(fleet)).ok();
    }

    /// Whether it makes progress.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn alive(&self) -> Result<(), String> {
        let since = *self.answering_since.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = self.fleet.get().map(|fleet| fleet.queues.all());
        verdict::alive(
            &self.progress,
            queues.as_deref(),
            self.stuck,
            since.map(|at| at.elapsed()),
        )
    }

    /// What it serves now.
    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.fleet
            .get()
            .map_or_else(|| self.queues.clone(), |fleet| fleet.queues.names())
    }

    /// Whether it works on tasks: Redis answers a function that may write and refuses none of its queues, its session lives, it does
    /// not drain.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn ready(&self) -> Result<(), String> {
        if self.stop.is_cancelled() || self.fleet.get().is_some_and(|fleet| fleet.drain.is_cancelled()) {
            return Err("draining: it claims no more".to_owned());
        }
        // Before Redis is asked, which goes by the first queue and does not say which that is.
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        self.function_answers().await.map_err(|error| error.to_string())?;
        if self.fleet.get().is_none() {
            return Err("starting: it is not registered yet".to_owned());
        }
        let now = self.progress.now();
        if self.progress.pulse.age(now) > self.stuck || self.progress.link.age(now) > self.stuck {
            return Err("its own connections to Redis have no answer yet".to_owned());
        }
        self.alive()
    }

    /// A queue whose tasks Redis has refused for longer than a lease, three heartbeats.
    pub(super) fn refusal(&self) -> Option<String> {
        let all = self.fleet.get()?.queues.all();
        let served = all.iter().filter(|queue| !queue.drain.is_cancelled());
        let refused: Vec<_> = served
            .filter_map(|queue| Some((&queue.name, queue.refusals.longer_than(self.lease)?)))
            .collect();
        let (name, why) = refused.first()?;
        let more = match refused.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("queue {name}{more} cannot be served: {why}"))
    }

    /// Unparking nobody changes nothing, and Redis refuses it when it would refuse every settle too: it loads, is a
    /// replica, cannot write to its disk, or does not know the functions and this user may not load them.
    async fn function_answers(&self) -> Result<(), Error> {
        let Some(queue) = self.queues().into_iter().next() else {
            return Ok(());
        };
        self.broker.queue(&queue).unpark(&SessionId::fresh()).await
    }

    /// A silence of the shared connection after which it is asked for an answer: long before it counts as stuck.
    pub(crate) fn long_silence(&self) -> Duration {
        self.stuck / 3
    }

    /// Redis answers this thread, or does not.
    fn heard(&self, answers: bool) {
        let mut since = self.answering_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = answers.then(|| since.unwrap_or_else(Instant::now));
    }

    async fn probe(&self) {
        // The server that has the first queue, as the loops that are judged by it: others of a cluster may be well.
        let Some(queue) = self.queues.first().map(|name| self.broker.queue(name)) else {
            return std::future::pending().await;
        };
        loop {
            let answers = !matches!(queue.now_us().await, Err(error) if error.is_temporary());
            self.heard(answers);
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
}

/// The thread; `None` inside if nobody asked for it.
pub(crate) struct Outside {
    pub(crate) view: Arc<View>,
    ended: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Outside {
    /// Binds, and starts the thread if the configuration asks for HTTP or systemd listens.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the address cannot be used.
    pub(crate) fn start(
        config: &WorkerConfig,
        progress: &Arc<Progress>,
        notifier: &Arc<Notifier>,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let view = Arc::new(View {
            started: Instant::now(),
            queues: config.queues.iter().map(|(name, _)| name.clone()).collect(),
            progress: Arc::clone(progress),
            fleet: OnceLock::new(),
            stop: stop.clone(),
            broker: own_broker(config.link.clone(), config.prefix.clone())?,
            stuck: stuck_after(notifier.watchdog()),
            lease: config.lease,
            answering_since: Mutex::new(None),
        });
        let listener = config.http.map(bind).transpose()?;
        let ended = CancellationToken::new();
        let mut outside = Self {
            view: Arc::clone(&view),
            ended: ended.clone(),
            thread: None,
        };
        if listener.is_some() || notifier.is_on() {
            let notifier = Arc::clone(notifier);
            let run = move || run(&view, listener, &notifier, &ended);
            let thread = std::thread::Builder::new()
                .name("workyard-outside".to_owned())
                .spawn(run);
            outside.thread = Some(thread.map_err(|e| Error::Invalid(format!("no thread for HTTP: {e}")))?);
        }
        Ok(outside)
    }

    /// Ends the thread, after everything else.
    pub(crate) async fn end(self) {
        self.ended.cancel();
        if let Some(thread) = self.thread {
            // It is bounded: what it waits for is cancelled.
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
    }
}

fn own_broker(mut link: LinkConfig, prefix: Prefix) -> Result<Broker, Error> {
    (link.response_timeout, link.connect_timeout) = (ANSWER_TIME, ANSWER_TIME);
    Ok(Broker::new(Link::new(link, None)?, prefix))
}

/// A loop must count as stuck well before the watchdog barks, and not for a moment's load.
fn stuck_after(watchdog: Option<Duration>) -> Duration {
    watchdog.map_or(STUCK, |span| (span / 2).clamp(STUCK_AT_LEAST, STUCK))
}

fn bind(address: workyard_shared::http::Address) -> Result<TcpListener, Error> {
    let refuse = |e: std::io::Error| {
        let more = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; a second consumer of the same file needs an address of its own: `--http PORT`, or `--http 0` for any free one"
            }
            _ => "",
        };
        Error::Invalid(format!("http: cannot listen on {address}: {e}{more}"))
    };
    let listener = TcpListener::bind(address.socket()).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    info!(address = %bound, "HTTP on {bound}: /healthz, /readyz, /metrics");
    if !address.is_loopback() {
        warn!(address = %bound, "HTTP listens beyond this machine, without password or encryption: whoever reaches it reads the names of queues and kinds");
    }
    Ok(listener)
}

fn run(view: &Arc<View>, listener: Option<TcpListener>, notifier: &Notifier, ended: &CancellationToken) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "neither HTTP nor systemd's watchdog: no runtime"),
    };
    runtime.block_on(async {
        let probe = view.probe();
        let http = async {
            match listener.map(tokio::net::TcpListener::from_std) {
                Some(Ok(listener)) => {
                    workyard_shared::http::serve(listener, routes::router(Arc::clone(view)), ended.clone()).await;
                }
                Some(Err(error)) => error!(%error, "no HTTP"),
                None => {}
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = probe => {}
            () = http => {}
            () = notifier.feed(view) => {}
        }
    });
}
