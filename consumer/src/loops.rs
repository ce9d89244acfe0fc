//! The loops of a worker: started together, drained together.
//!
//! Invariant: the heartbeat begins before the first claim and ends after the last settle; no loop ends because of an
//! error of the world.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workyard_shared::Error;
use workyard_shared::name::SessionId;

use crate::crew::Crew;
use crate::fleet::Fleet;
use crate::ops::Notifier;
use crate::pulse;
use crate::report::Reporter;
use crate::tuner::Tuner;
use crate::until_empty::all_empty;
use crate::wake::Switchboard;
use crate::worker_config::WorkerConfig;

/// How long after the drain time is over Redis may take to hear what is left to say.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long handlers of earlier configurations may take to end.
const RETIRE_TIME: Duration = Duration::from_secs(5);

/// The running loops of a worker.
pub(crate) struct Loops {
    /// Those of its queues.
    pub(crate) crew: Arc<Crew>,
    helpers: Vec<tokio::task::JoinHandle<()>>,
    pulse: std::thread::JoinHandle<()>,
    stop_helpers: CancellationToken,
}

impl Loops {
    pub(crate) fn start(
        fleet: &Arc<Fleet>,
        config: &WorkerConfig,
        id: &SessionId,
        pushes: UnboundedReceiver<redis::PushInfo>,
    ) -> Result<Self, Error> {
        let stop_helpers = CancellationToken::new();
        let (crew, stations) = Crew::new(fleet, config.drain_timeout, &stop_helpers);
        crew.serve(&config.queues);
        // Also when no kind moves now: a reload may bring one.
        let tuner = Tuner {
            fleet: Arc::clone(fleet),
        };
        let switchboard = Switchboard { routes: crew.routes() };
        let helpers = vec![
            tokio::spawn(tuner.run(stop_helpers.clone())),
            tokio::spawn(switchboard.run(pushes)),
        ];
        let reporter = Reporter {
            consumer: id.clone(),
            host: config.name.clone(),
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
            crew,
            helpers,
            pulse,
            stop_helpers,
        })
    }

    pub(crate) async fn until_stopped(
        self,
        fleet: &Arc<Fleet>,
        config: &WorkerConfig,
        notifier: &Notifier,
        stop: CancellationToken,
    ) {
        tokio::select! {
            () = stop.cancelled() => info!("stopping: no more claims, running tasks may finish"),
            () = all_empty(fleet), if config.until_empty => info!("all queues are empty"),
        }
        fleet.drain.cancel();
        notifier.stopping("draining");
        let (drain_timeout, halt, over) = (config.drain_timeout, fleet.halt.clone(), fleet.over.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(drain_timeout).await;
            halt.cancel();
            tokio::time::sleep(LAST_WORD).await;
            over.cancel();
        });
        self.crew.ended().await;
        end_hooks(fleet).await;
        timer.abort();
        close_handlers(fleet).await;
        self.stop_helpers.cancel();
        for helper in self.helpers {
            helper.abort();
        }
        self.crew.stop_maintainers();
        let pulse = self.pulse;
        // The thread removes the health key; it is bounded by its own response timeout.
        drop(tokio::task::spawn_blocking(move || pulse.join()).await);
    }
}

/// Waits for hooks that were told of the last dead letters, as long as anything may take in the end.
async fn end_hooks(fleet: &Fleet) {
    fleet.hooks.close();
    tokio::select! {
        biased;
        () = fleet.hooks.wait() => {}
        () = fleet.over.cancelled() => {
            let hooks = fleet.hooks.len();
            warn!(hooks, "the time for draining is over: {hooks} hooks of dead letters are not waited for");
        }
    }
}

/// Ends what handlers keep running between tasks, also those of earlier configurations.
async fn close_handlers(fleet: &Fleet) {
    fleet.registry().close().await;
    fleet.retiring.close();
    // One whose blocking handler never returns would wait for ever.
    if tokio::time::timeout(RETIRE_TIME, fleet.retiring.wait()).await.is_err() {
        warn!("a handler of an earlier configuration still runs; it ends with the process");
    }
}
