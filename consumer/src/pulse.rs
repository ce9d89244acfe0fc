//! The heartbeat: keeps the session leases, on a thread, runtime and connection of its own.
//!
//! Invariant: no handler, however busy, can keep a lease from being renewed. When a lease is lost
//! all the same (the process was frozen, the network cut), a new session begins under a new id and
//! the lane is told: whatever it holds belongs to somebody else. If we die here, the lease ends by
//! itself and the work is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use workyard_shared::broker::{Beat, Broker, Queue};
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::SessionId;

use crate::event::{Duty, LaneEvent, Over};
use crate::fleet::Fleet;
use crate::metrics::Call;
use crate::queues::{Asked, Served};
use crate::report::Reporter;

/// Beats per health report of a consumer that runs nothing, so that an idle one sends next to nothing; one that runs
/// something reports with each.
const BEATS_PER_REPORT: u32 = 5;
/// How many beats a report lives.
const REPORT_LIVES: u32 = 12;
/// Urgent news waits at least this long behind the last beat.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// How long Redis may take to hear that the health key goes.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// How many times a lease is renewed within its length.
const BEATS_PER_LEASE: u32 = 3;

/// One queue's session.
pub(crate) struct Station {
    pub(crate) served: Arc<Served>,
    pub(crate) lane: UnboundedSender<LaneEvent>,
    pub(crate) duty: UnboundedSender<Duty>,
    pub(crate) over: Over,
}

struct Session {
    station: Station,
    calls: Queue,
    id: SessionId,
    registered: bool,
}

/// Starts the thread. It ends when `stop` is cancelled.
pub(crate) fn start(
    fleet: Arc<Fleet>,
    mut config: LinkConfig,
    base: SessionId,
    lease: Duration,
    stations: UnboundedReceiver<Station>,
    reporter: Reporter,
    stop: CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("workyard-pulse".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                config.response_timeout = lease / 2;
                match Link::new(config, None) {
                    Ok(link) => {
                        let broker = Broker::new(link, fleet.broker.prefix().clone());
                        Pulse {
                            fleet,
                            broker,
                            base,
                            lease,
                            reporter,
                            rounds: AtomicU32::new(0),
                        }
                        .run(stations, stop)
                        .await;
                    }
                    Err(error) => tracing::error!(%error, "the heartbeat cannot start"),
                }
            });
        })
}

struct Pulse {
    fleet: Arc<Fleet>,
    broker: Broker,
    base: SessionId,
    lease: Duration,
    reporter: Reporter,
    /// Sessions that began under an id with a number behind it.
    rounds: AtomicU32,
}

impl Pulse {
    async fn run(self, mut stations: UnboundedReceiver<Station>, stop: CancellationToken) {
        let mut sessions: Vec<Session> = Vec::new();
        while let Ok(station) = stations.try_recv() {
            sessions.push(self.session(station, self.base.clone()));
        }
        let every = self.lease / BEATS_PER_LEASE;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut beats, mut reported) = (0, 0);
        let mut last = Instant::now();
        loop {
            let urgent = tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => false,
                () = self.urgent(last) => true,
                // A reload brought a queue. It may have been here before: what of its old session is still on its way to
                // Redis must not count for the new one.
                Some(station) = stations.recv() => {
                    sessions.push(self.session(station, self.next_id()));
                    false
                }
            };
            // At the end of everything they stay: the last health report is still made.
            if !self.fleet.drain.is_cancelled() {
                sessions.retain(|session| !session.station.over.load(Ordering::SeqCst));
            }
            last = Instant::now();
            let beats_of_all =
                futures_util::future::join_all(sessions.iter_mut().map(|session| self.beat(session, urgent)));
            let beaten = tokio::select! {
                () = stop.cancelled() => break,
                beaten = beats_of_all => beaten,
            };
            if beaten.contains(&true) {
                self.fleet.progress.pulse.now();
            }
            // Short tasks may all have ended between two beats.
            let processed = self.fleet.counters.processed.load(Ordering::Relaxed);
            let works = self.fleet.slots.running() > 0 || processed != reported;
            let due = beats % BEATS_PER_REPORT == 0 || (!urgent && works);
            if due && beaten.contains(&true) {
                reported = processed;
                stop.run_until_cancelled(self.report(every)).await;
            }
            beats += 1;
        }
        self.fleet.progress.pulse.end();
        match tokio::time::timeout(LAST_ANSWER, self.broker.clear_health(&self.base)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the health key stays until it expires"),
            Err(_) => debug!("no answer in time: the health key stays until it expires"),
        }
    }

    fn session(&self, station: Station, id: SessionId) -> Session {
        Session {
            calls: self.broker.queue(&station.served.name),
            station,
            id,
            registered: false,
        }
    }

    /// An id that no session of this consumer had.
    fn next_id(&self) -> SessionId {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        SessionId::new(format!("{}.{round}", self.base)).unwrap_or_else(|_| self.base.clone())
    }

    /// Returns when there is something that should not wait for the next beat.
    async fn urgent(&self, last: Instant) {
        self.fleet.urgent.notified().await;
        tokio::time::sleep_until((last + AT_MOST_EVERY).into()).await;
    }

    /// One heartbeat of one queue; false if Redis could not be reached: a refusal is an answer, too. A lost session is followed by
    /// its successor at once, not with the next beat: until then nothing is claimed here.
    async fn beat(&self, session: &mut Session, urgent: bool) -> bool {
        for _ in 0..2 {
            // The lane may also leave while a beat is on its way: that is no loss.
            if session.station.over.load(Ordering::SeqCst) {
                return true;
            }
            let register = !session.registered;
            let desk = &session.station.served.desk;
            let slots = &self.fleet.slots;
            let report = desk.beat(slots.running(), slots.usable(), urgent);
            let sent = Instant::now();
            match session.calls.beat(&session.id, self.lease, register, &report).await {
                Ok(Beat::Ok {
                    maintainer,
                    due_in,
                    cancelled,
                    fleet,
                }) => {
                    self.fleet.watch.succeeded();
                    session
                        .station
                        .served
                        .refusals
                        .over(session.calls.name(), Asked::Heartbeat);
                    self.fleet.host.answered(sent.elapsed());
                    self.fleet.meters.answered(Call::Heartbeat, sent.elapsed());
                    if let Some((version, json)) = fleet {
                        desk.heard(version, &json);
                    }
                    self.tell(session, maintainer, due_in, cancelled);
                    return true;
                }
                Ok(Beat::Lost) if session.station.over.load(Ordering::SeqCst) => return true,
                Ok(Beat::Lost) => self.renew(session),
                Err(error) => {
                    let served = &session.station.served;
                    self.fleet.failed(served, Asked::Heartbeat, &error);
                    let is_refused = error.is_of_the_call();
                    if is_refused && register {
                        // Without a session it claims nothing: a later queue must not wait for it to run dry.
                        slots.set_dry(served.lane, true);
                    }
                    return is_refused;
                }
            }
        }
        true
    }

    fn tell(&self, session: &mut Session, maintainer: bool, due_in: Option<Duration>, cancelled: Vec<String>) {
        if !session.registered {
            session.registered = true;
            session.station.lane.send(LaneEvent::Session(session.id.clone())).ok();
        }
        for id in cancelled {
            session.station.lane.send(LaneEvent::Cancel(id)).ok();
        }
        session.station.duty.send(Duty::Beat { maintainer, due_in }).ok();
    }

    /// The lease is lost: begin a new session under a new id, so that nothing of the old one can
    /// be taken for the new one's.
    fn renew(&self, session: &mut Session) {
        session.station.served.meter.leases_lost.fetch_add(1, Ordering::Relaxed);
        let queue = session.calls.name();
        warn!(consumer = %session.id, %queue, "the session lease was lost and its work taken; starting a new session");
        session.id = self.next_id();
        session.registered = false;
        session
            .station
            .duty
            .send(Duty::Beat {
                maintainer: false,
                due_in: None,
            })
            .ok();
    }

    async fn report(&self, every: Duration) {
        let json = self.reporter.json(&self.fleet);
        let ttl = every * REPORT_LIVES;
        if let Err(error) = self.broker.report_health(&self.base, &json, ttl).await {
            debug!(%error, "the health key could not be written");
        }
    }
}
