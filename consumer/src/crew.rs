//! The loops of each queue of a worker: they begin and end with it, at the start, at a reload and at the end.
//!
//! Invariant: whatever a queue's loops hold is settled or handed back before the queue is gone from here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use workyard_shared::Error;
use workyard_shared::name::{QueueName, SessionId};
use workyard_shared::outage::Patience;

use crate::event::{Duty, LaneEvent, Over};
use crate::fleet::Fleet;
use crate::health::{Desk, FleetWatch};
use crate::jobs::JobChores;
use crate::lane::Lane;
use crate::maintain::Maintainer;
use crate::pulse::Station;
use crate::queues::{Refusals, Served};
use crate::wake::{Route, Routes};

/// How long Redis may take to say whether a new queue can be used.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What a worker has running for its queues.
pub(crate) struct Crew {
    fleet: Arc<Fleet>,
    drain_timeout: Duration,
    routes: Routes,
    stations: UnboundedSender<Station>,
    lanes: TaskTracker,
    maintainers: Mutex<Vec<JoinHandle<()>>>,
    stop_helpers: CancellationToken,
}

impl Crew {
    /// Nothing runs yet; the heartbeat takes what comes of the receiver.
    pub(crate) fn new(
        fleet: &Arc<Fleet>,
        drain_timeout: Duration,
        stop_helpers: &CancellationToken,
    ) -> (Arc<Self>, UnboundedReceiver<Station>) {
        let (stations, receiver) = mpsc::unbounded_channel();
        let crew = Self {
            fleet: Arc::clone(fleet),
            drain_timeout,
            routes: Routes::default(),
            stations,
            lanes: TaskTracker::new(),
            maintainers: Mutex::default(),
            stop_helpers: stop_helpers.clone(),
        };
        (Arc::new(crew), receiver)
    }

    pub(crate) fn routes(&self) -> Routes {
        Arc::clone(&self.routes)
    }

    /// Whether these could be the queues from now on. Redis is asked about new ones; one that is away says nothing against them.
    ///
    /// # Errors
    /// What speaks against it.
    pub(crate) async fn may_serve(&self, queues: &[(QueueName, usize)]) -> Result<(), Error> {
        let names: Vec<QueueName> = queues.iter().map(|(name, _)| name.clone()).collect();
        self.fleet.queues.may_change(&names)?;
        let served = self.fleet.queues.names();
        let looks = names.iter().filter(|name| !served.contains(name)).map(|name| async {
            // Nobody is unparked by this, and whoever may not serve the queue is refused.
            let queue = self.fleet.broker.queue(name);
            let nobody = SessionId::fresh();
            match tokio::time::timeout(ANSWER_TIME, queue.unpark(&nobody)).await {
                Ok(Err(error)) if !error.is_temporary() => Err(error),
                _ => Ok(()),
            }
        });
        futures_util::future::try_join_all(looks).await.map(|_| ())
    }

    /// Serves these from now on, in this order: loops of new ones begin; those of others claim no more, finish what runs within
    /// the drain time, and end. Returns the new ones.
    ///
    /// At the start each may have work, and an earlier one goes first; one that comes later is waited for when it has claimed.
    pub(crate) fn serve(self: &Arc<Self>, queues: &[(QueueName, usize)]) -> Vec<QueueName> {
        let before = self.fleet.queues.all();
        let mut new = Vec::new();
        let served: Vec<Arc<Served>> = queues
            .iter()
            .map(|(name, _)| {
                let known = before
                    .iter()
                    .find(|queue| queue.name == *name && !queue.drain.is_cancelled());
                known.cloned().unwrap_or_else(|| {
                    new.push(Arc::new(self.enlist(name)));
                    Arc::clone(&new[new.len() - 1])
                })
            })
            .collect();
        let weights = queues.iter().map(|(_, weight)| *weight);
        let lanes: Vec<(usize, usize)> = served.iter().map(|queue| queue.lane).zip(weights).collect();
        let leaving = self.fleet.queues.change(served);
        self.fleet.slots.rank(&lanes);
        if before.is_empty() {
            lanes
                .iter()
                .for_each(|(lane, _)| self.fleet.slots.set_dry(*lane, false));
        }
        for queue in leaving {
            self.leave(&queue);
        }
        let names = new.iter().map(|queue| queue.name.clone()).collect();
        for queue in new {
            self.begin(queue);
        }
        names
    }

    fn enlist(&self, name: &QueueName) -> Served {
        let fleet = &self.fleet;
        Served {
            name: name.clone(),
            lane: fleet.slots.enlist(fleet.queues.vacant()),
            desk: Arc::new(Desk::new(
                name.as_str(),
                Arc::clone(&fleet.host),
                Arc::clone(&fleet.urgent),
            )),
            meter: fleet.meters.queue(),
            mark: fleet.progress.mark(),
            refusals: Refusals::default(),
            drain: fleet.drain.child_token(),
            halt: fleet.halt.child_token(),
        }
    }

    /// Starts a queue's loops.
    fn begin(self: &Arc<Self>, served: Arc<Served>) {
        let queue = self.fleet.broker.queue(&served.name);
        let base = queue.keys().named("");
        let (lane, events) = mpsc::unbounded_channel::<LaneEvent>();
        let (duty, duties) = mpsc::unbounded_channel::<Duty>();
        let over = Over::default();
        let route = Route {
            lane: lane.clone(),
            duty: duty.clone(),
        };
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(base.clone(), route);
        let station = Station {
            served: Arc::clone(&served),
            lane,
            duty,
            over: over.clone(),
        };
        let looping = tokio::spawn(Lane::new(Arc::clone(&self.fleet), Arc::clone(&served), events, over).run());
        let maintainer = Maintainer {
            fleet: Arc::clone(&self.fleet),
            health: FleetWatch::new(queue.clone()),
            chores: JobChores::new(queue.clone(), Arc::clone(&self.fleet.spill)),
            queue,
            served: Arc::clone(&served),
            duties,
        };
        let stop_maintainer = self.stop_helpers.child_token();
        let maintaining = tokio::spawn(maintainer.run(stop_maintainer.clone()));
        let mut maintainers = self.maintainers.lock().unwrap_or_else(PoisonError::into_inner);
        maintainers.retain(|task| !task.is_finished());
        maintainers.push(maintaining);
        drop(maintainers);
        // The heartbeat may only have ended because everything does.
        self.stations.send(station).ok();
        let crew = Arc::clone(self);
        self.lanes.spawn(async move {
            if let Err(error) = looping.await {
                error!(%error, "a queue's loop broke; its tasks come back when the lease ends");
            }
            // When the worker ends, what looks after its queues does so until the last loop has ended.
            if !crew.fleet.drain.is_cancelled() {
                stop_maintainer.cancel();
                let mut routes = crew.routes.write().unwrap_or_else(PoisonError::into_inner);
                routes.remove(&base);
                drop(routes);
                crew.fleet.queues.left(&served);
            }
        });
    }

    /// Takes a queue out.
    fn leave(&self, queue: &Arc<Served>) {
        info!(queue = %queue.name, "queue {} is not served any more: no more claims, what runs may finish", queue.name);
        queue.drain.cancel();
        let (halt, drain_timeout) = (queue.halt.clone(), self.drain_timeout);
        tokio::spawn(async move {
            tokio::time::sleep(drain_timeout).await;
            halt.cancel();
        });
    }

    /// Makes new queues known to `workyard queues`, when Redis can hear of it.
    pub(crate) fn announce(&self, queues: Vec<QueueName>) {
        let (fleet, stop) = (Arc::clone(&self.fleet), self.stop_helpers.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let (mut patience, mut told) = (Patience::default(), false);
            for name in queues {
                while let Err(error) = fleet.broker.announce(&name).await {
                    if error.is_of_the_call() {
                        fleet.watch.counted(&error);
                        if !std::mem::replace(&mut told, true) {
                            warn!(%error, queue = %name, "queue {name} is served, but the list of queues cannot take it in: {error}; that is tried again");
                        }
                    } else {
                        fleet.watch.failed(&error);
                    }
                    patience.wait().await;
                }
            }
        }));
    }

    /// Returns when the loops of all queues have ended.
    pub(crate) async fn ended(&self) {
        self.lanes.close();
        self.lanes.wait().await;
    }

    /// Ends what looks after the queues, wherever it is.
    pub(crate) fn stop_maintainers(&self) {
        for maintaining in &*self.maintainers.lock().unwrap_or_else(PoisonError::into_inner) {
            maintaining.abort();
        }
    }
}
