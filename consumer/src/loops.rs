//! The loops of a worker: started together, drained together.
//!
//! Invariant: the heartbeat begins before the first claim and ends after the last settle; no loop ends because of an
//! error of the world.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use workyard_shared::Error;
use workyard_shared::name::SessionId;

use crate::event::{Duty, LaneEvent, Over};
use crate::fleet::Fleet;
use crate::health::FleetWatch;
use crate::jobs::JobChores;
use crate::lane::Lane;
use crate::maintain::Maintainer;
use crate::ops::Notifier;
use crate::pulse::{self, Station};
use crate::report::Reporter;
use crate::tuner::Tuner;
use crate::wake::{Route, Switchboard};
use crate::worker_config::WorkerConfig;

/// How long after the drain time is over Redis may take to hear what is left to say.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often `until_empty` looks whether everything is done.
const EMPTY_CHECK: Duration = Duration::from_millis(200);
/// How long handlers of earlier configurations may take to end.
const RETIRE_TIME: Duration = Duration::from_secs(5);

/// The running loops of a worker.
pub(crate) struct Loops {
    lanes: Vec<tokio::task::JoinHandle<()>>,
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
                meter: Arc::clone(&fleet.meters.queues[index]),
            });
            lanes.push(tokio::spawn(
                Lane::new(Arc::clone(fleet), queue.clone(), index, events, over).run(),
            ));
            let maintainer = Maintainer {
                fleet: Arc::clone(fleet),
                health: FleetWatch::new(queue.clone()),
                chores: JobChores::new(queue.clone(), Arc::clone(&fleet.spill)),
                queue,
                meter: Arc::clone(&fleet.meters.queues[index]),
                duties,
            };
            helpers.push(tokio::spawn(maintainer.run(stop_helpers.clone())));
        }
        // Also when no kind moves now: a reload may bring one.
        let tuner = Tuner {
            fleet: Arc::clone(fleet),
        };
        helpers.push(tokio::spawn(tuner.run(stop_helpers.clone())));
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

    pub(crate) async fn until_stopped(
        self,
        fleet: &Arc<Fleet>,
        config: &WorkerConfig,
        notifier: &Notifier,
        stop: CancellationToken,
    ) {
        tokio::select! {
            () = stop.cancelled() => info!("stopping: no more claims, running tasks may finish"),
            () = all_empty(fleet, config), if config.until_empty => info!("all queues are empty"),
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
        for lane in self.lanes {
            if let Err(error) = lane.await {
                error!(%error, "a queue's loop broke; its tasks come back when the lease ends");
            }
        }
        timer.abort();
        close_handlers(fleet).await;
        self.stop_helpers.cancel();
        for helper in self.helpers {
            helper.abort();
        }
        let pulse = self.pulse;
        // The thread removes the health key; it is bounded by its own response timeout.
        drop(tokio::task::spawn_blocking(move || pulse.join()).await);
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
