//! What one consumer knows of its health in one queue, and what follows: how much it may claim, with which rank it
//! parks, which kinds it leaves alone for now.
//!
//! Invariant: one lock, never held over an await. The clock is this desk's own; the fleet's time is turned into it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use tracing::{info, warn};
use workyard_shared::balance::{
    Allowed, Blame, Breaker, Bulletin, Circuit, MAX_ERROR_RATE, Outcome, Policy, Rank, Turn, Vitals, claim_size,
    health_score, load_score,
};
use workyard_shared::broker::Report;

use super::away::away;
use super::gauge::{Gauges, Running};
use super::host::Host;

/// A task that failed as a probe of its kind comes again after this.
const PROBE_AGAIN: Duration = Duration::from_millis(500);

/// How long the probes of a consumer that left a retry to others come behind everyone: so many others of its sort may have to
/// leave it, one after the other, before it comes to the one that runs it well.
const YIELDS: Duration = Duration::from_secs(5);

/// How much this consumer may claim now.
pub(crate) enum Share {
    /// Up to so many.
    Some(usize),
    /// One, and its outcome decides.
    Probe(Trial),
    /// Nothing before that.
    Nothing(Instant),
}

struct Inner {
    gauges: Gauges,
    bulletin: Bulletin,
    version: u64,
    circuit: Circuit,
    /// Until then its probes come behind everyone.
    yields_until: Duration,
    served: u64,
    /// Beats that still say the rank, after a change of the policy.
    moving: u32,
    /// Something ran in the window at the last beat.
    busy: bool,
    vitals: Vitals,
    health: f64,
    load: f64,
}

impl Inner {
    /// Where this consumer stands while it waits.
    fn rank(&self, probe: bool, now: Duration) -> Option<Rank> {
        if probe && now < self.yields_until {
            return Some(Rank::LAST);
        }
        Rank::of(self.bulletin.policy, self.load, probe)
    }

    /// Whether a failure here says nothing of the task: the circuit is not closed, and somebody else runs the kind well.
    fn fails_what_others_complete(&self, who: u32, kind: &str) -> bool {
        !self.circuit.is_closed() && self.runs_well_beside(who, kind)
    }

    fn runs_well_beside(&self, who: u32, kind: &str) -> bool {
        let kinds = &self.bulletin.fleet.kinds;
        kinds.get(kind).is_some_and(|all| all.runs_well_beside(who))
    }
}

/// The desk of one queue.
pub(crate) struct Desk {
    /// Something happened that the fleet should hear before the next beat.
    pub(crate) urgent: Arc<Notify>,
    /// A number by which it knows itself in what the maintainer says.
    who: u32,
    queue: String,
    host: Arc<Host>,
    started: Instant,
    inner: Mutex<Inner>,
}

/// A probe of this consumer's circuit is under way: its claim, then its task. To be kept until that has ended: dropped
/// without a result it makes room for another, so that whatever becomes of a task, no consumer waits for it for ever.
pub(crate) struct Trial {
    desk: Arc<Desk>,
    number: u64,
}

impl Trial {
    /// The claim brought nothing, or a task of a kind that is not known here, which says nothing at all: the next one may be
    /// tried at once.
    pub(crate) fn nothing(self) {
        let now = self.desk.now();
        self.desk.with(|inner| inner.circuit.on_nothing(self.number, now));
    }

    /// Its task is left to another consumer, which has until then to take it; and it comes before this one for longer.
    pub(crate) fn passed(self, pause: Duration) {
        let until = self.desk.now() + pause;
        self.desk.with(|inner| {
            inner.circuit.on_passed(self.number, until);
            inner.yields_until = until + YIELDS;
        });
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let now = self.desk.now();
        self.desk.with(|inner| inner.circuit.on_gone(self.number, now));
    }
}

/// What the health key says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Standings {
    pub(crate) queue: String,
    pub(crate) balance: &'static str,
    pub(crate) health: f64,
    pub(crate) load: f64,
    pub(crate) circuit: &'static str,
    #[serde(flatten)]
    pub(crate) vitals: Vitals,
}

impl Desk {
    pub(crate) fn new(queue: &str, host: Arc<Host>, urgent: Arc<Notify>) -> Self {
        Self {
            urgent,
            who: fastrand::u32(1..),
            queue: queue.to_owned(),
            host,
            started: Instant::now(),
            inner: Mutex::new(Inner {
                gauges: Gauges::default(),
                bulletin: Bulletin::default(),
                version: 0,
                circuit: Circuit::new(),
                yields_until: Duration::ZERO,
                served: 0,
                moving: 0,
                busy: false,
                vitals: Vitals::default(),
                health: 1.0,
                load: 0.0,
            }),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A task has ended. If it failed as a probe of a kind that fails everywhere, that was no attempt of its own; nor if it is a
    /// retry that a consumer with an open circuit ran, though somebody else runs the kind well. Then the answer says after how
    /// long it may be tried again.
    pub(crate) fn ended(&self, kind: &str, outcome: Outcome, took: Duration, is_retry: bool) -> Option<Duration> {
        let (now, ok) = (self.now(), outcome.is_ok());
        let (probe, urgent) = self.with(|inner| {
            let others_would = is_retry && inner.fails_what_others_complete(self.who, kind);
            if ok {
                inner.yields_until = Duration::ZERO;
            }
            let watch = &mut inner.gauges.of(kind).watch;
            let probe = outcome == Outcome::Failure && (watch.is_probing() || others_would);
            watch.record(outcome, took, now);
            let failing = !ok && watch.is_failing();
            let turn = inner.circuit.on_result(ok, took, now);
            let turned = self.turned(inner, turn, "its probes succeed");
            let judged = !ok && self.judge(inner, now);
            // The maintainer looks at a fleet that does nothing four times a minute: it should know that one works.
            let first = !inner.busy;
            (probe, failing || turned || judged || first)
        });
        if urgent {
            self.urgent.notify_one();
        }
        probe.then_some(PROBE_AGAIN)
    }

    /// True if the circuit has turned.
    fn turned(&self, inner: &mut Inner, turn: Option<Turn>, why: &str) -> bool {
        let queue = &self.queue;
        match turn {
            Some(Turn::Opened) => {
                inner.gauges.clear();
                warn!(%queue, health = inner.health, "this consumer {why}: it takes single probes until they succeed");
            }
            Some(Turn::Closed) => {
                inner.gauges.clear();
                info!(%queue, "this consumer takes its share again: {why}");
            }
            None => {}
        }
        turn.is_some()
    }

    /// Scores and circuit from what is known now. True if the circuit has turned.
    fn judge(&self, inner: &mut Inner, now: Duration) -> bool {
        let mut vitals = Vitals {
            who: self.who,
            capacity: inner.vitals.capacity,
            running: inner.vitals.running,
            lag_ms: inner.vitals.lag_ms,
            cpu: inner.vitals.cpu,
            memory: inner.vitals.memory,
            rtt_ms: inner.vitals.rtt_ms,
            ..Vitals::default()
        };
        inner.gauges.report(&mut vitals, now);
        inner.health = health_score(&vitals, &inner.bulletin.fleet);
        inner.load = load_score(&vitals, &inner.bulletin.fleet);
        let blame = Blame::of(&vitals, &inner.bulletin.fleet);
        inner.vitals = vitals;
        if inner.bulletin.fleet.consumers == 1 {
            let turn = inner.circuit.on_alone();
            return self.turned(inner, turn, "nobody else serves the queue");
        }
        let turn = inner.circuit.on_health(inner.health, blame.rate, blame.runs, now);
        let why = match turn {
            Some(Turn::Closed) => "nothing was heard against it for a while",
            // What they complete at this moment it cannot know: they may have died, or fail by now, too.
            _ if blame.rate > MAX_ERROR_RATE => "fails what others completed a moment ago",
            _ => "is far slower than others",
        };
        self.turned(inner, turn, why)
    }

    /// Measures and judges; what the next heartbeat says.
    pub(crate) fn beat(&self, running: usize, capacity: usize, urgent: bool) -> Report {
        let now = self.now();
        self.with(|inner| {
            inner.vitals.capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
            inner.vitals.running = u32::try_from(running).unwrap_or(u32::MAX);
            inner.vitals.lag_ms = self.host.lag_ms();
            inner.vitals.rtt_ms = self.host.rtt_ms();
            (inner.vitals.cpu, inner.vitals.memory) = self.host.load();
            self.judge(inner, now);
            inner.busy = inner.vitals.kinds.values().any(|kind| kind.runs > 0);
            // Numbers, text and lists: this cannot fail.
            let vitals = serde_json::to_string(&inner.vitals).unwrap_or_default();
            // Only load changes while one waits, and a policy that is new.
            let moves = inner.bulletin.policy == Policy::Adaptive || inner.moving > 0;
            inner.moving = inner.moving.saturating_sub(1);
            let rank = inner.rank(!inner.circuit.is_closed(), now).filter(|_| moves);
            Report {
                vitals,
                known: inner.version,
                rank: rank.map(|rank| rank.at(inner.served)),
                urgent,
            }
        })
    }

    /// The maintainer said something new.
    pub(crate) fn heard(&self, version: u64, json: &str) {
        let Ok(bulletin) = serde_json::from_str::<Bulletin>(json) else {
            return;
        };
        let now = self.now();
        self.with(|inner| {
            let consumers = bulletin.fleet.consumers;
            for (kind, figures) in &bulletin.fleet.kinds {
                let gauge = inner.gauges.of(kind);
                if gauge.said == figures.breaker {
                    continue;
                }
                self.tell(kind, gauge.said, figures.breaker);
                gauge.hears(figures.breaker, now);
                let ours = in_our_time(figures.breaker, bulletin.now_ms, now);
                gauge.watch.learn(ours, consumers, fastrand::f64());
            }
            let mentioned = |kind: &str| bulletin.fleet.kinds.contains_key(kind);
            for gauge in inner
                .gauges
                .unmentioned(mentioned)
                .filter(|gauge| gauge.said != Breaker::Closed)
            {
                gauge.hears(Breaker::Closed, now);
                gauge.watch.learn(Breaker::Closed, consumers, 0.0);
            }
            if inner.bulletin.policy != bulletin.policy {
                inner.moving = 3;
            }
            (inner.bulletin, inner.version) = (bulletin, version);
        });
    }

    fn tell(&self, kind: &str, before: Breaker, after: Breaker) {
        let queue = &self.queue;
        if before == Breaker::Closed {
            warn!(%queue, kind, "kind {kind} fails everywhere: its breaker is open, its tasks wait");
        } else if after == Breaker::Closed {
            info!(%queue, kind, "kind {kind} works again: its breaker is closed");
        }
    }

    /// How many of the `wanted` may be claimed now, while `running` are held.
    pub(crate) fn share(self: &Arc<Self>, wanted: usize, running: usize) -> Share {
        let now = self.now();
        self.with(|inner| match inner.circuit.may_claim(now) {
            Allowed::All => Share::Some(claim_size(inner.bulletin.policy, wanted, running, inner.health)),
            Allowed::Probe => Share::Probe(Trial {
                desk: Arc::clone(self),
                number: inner.circuit.probe(),
            }),
            Allowed::Nothing { until } => Share::Nothing(self.started + until),
        })
    }

    /// The rank with which this consumer parks; `None`: the time of parking. `served` is the token of its last claim.
    pub(crate) fn rank(&self, probe: bool, served: u64, running: usize) -> Option<Rank> {
        let now = self.now();
        self.with(|inner| {
            inner.served = served;
            if inner.bulletin.policy == Policy::Adaptive {
                // What ran at the last beat may have ended: whoever is idle now must not stand behind for it.
                inner.vitals.running = u32::try_from(running).unwrap_or(u32::MAX);
                inner.load = load_score(&inner.vitals, &inner.bulletin.fleet);
            }
            inner.rank(probe, now)
        })
    }

    /// Whether a task that ends changes where this consumer stands while it waits.
    pub(crate) fn ranks_by_load(&self) -> bool {
        self.with(|inner| inner.bulletin.policy == Policy::Adaptive)
    }

    /// A claim brought tasks under this token.
    pub(crate) fn served(&self, token: u64) {
        self.with(|inner| inner.served = token);
    }

    /// Whether a task of this kind may run now; else how long it should wait. The answer is to be kept while it runs.
    pub(crate) fn admits(&self, kind: &str) -> Result<Running, Duration> {
        let now = self.now();
        self.with(|inner| {
            let gauge = inner.gauges.of(kind);
            match gauge.watch.admits(gauge.probing(), now) {
                Allowed::All => Ok(gauge.start(false)),
                Allowed::Probe => Ok(gauge.start(true)),
                Allowed::Nothing { until } => Err(away(gauge, until.saturating_sub(now), now)),
            }
        })
    }

    /// Whether somebody of the fleet runs the kind, or did of late.
    pub(crate) fn is_run_elsewhere(&self, kind: &str) -> bool {
        self.with(|inner| inner.bulletin.fleet.kinds.contains_key(kind))
    }

    /// Whether a retry of this kind had better run elsewhere: the kind fails here more often than not, or the circuit is not
    /// closed, and somebody else runs it well.
    pub(crate) fn is_better_elsewhere(&self, kind: &str) -> bool {
        let now = self.now();
        self.with(|inner| {
            inner.runs_well_beside(self.who, kind)
                && (!inner.circuit.is_closed() || inner.gauges.of(kind).watch.fails_mostly(now))
        })
    }

    /// What a run of a kind takes here, if that is known.
    pub(crate) fn usual_run(&self, kind: &str) -> Option<Duration> {
        self.with(|inner| inner.gauges.of(kind).watch.usual_run())
    }

    /// How long a task of this kind stays away that is handed back for another reason: `least`, or longer.
    pub(crate) fn away(&self, kind: &str, least: Duration) -> Duration {
        let now = self.now();
        self.with(|inner| away(inner.gauges.of(kind), least, now))
    }

    /// Whether the circuit is closed.
    pub(crate) fn is_well(&self) -> bool {
        self.with(|inner| inner.circuit.is_closed())
    }

    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    /// Kinds that fail everywhere.
    pub(crate) fn broken_kinds(&self) -> Vec<String> {
        self.with(|inner| inner.gauges.broken())
    }

    /// How many tasks of each kind are under way, where there are any.
    pub(crate) fn running(&self) -> HashMap<String, u32> {
        self.with(|inner| inner.gauges.running())
    }

    /// What people see.
    pub(crate) fn standings(&self) -> Standings {
        self.with(|inner| Standings {
            queue: self.queue.clone(),
            balance: inner.bulletin.policy.as_str(),
            health: two_decimals(inner.health),
            load: two_decimals(inner.load),
            circuit: inner.circuit.name(),
            vitals: Vitals {
                who: 0,
                ..inner.vitals.clone()
            },
        })
    }
}

/// A breaker says its times in the fleet's; this turns them into those of this desk.
fn in_our_time(breaker: Breaker, fleet_now_ms: u64, now: Duration) -> Breaker {
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(0);
    let ours = |at_ms: u64| (at_ms + now_ms).saturating_sub(fleet_now_ms);
    match breaker {
        Breaker::Closed => Breaker::Closed,
        Breaker::Open { until_ms, pause_ms } => Breaker::Open {
            until_ms: ours(until_ms),
            pause_ms,
        },
        Breaker::HalfOpen { since_ms, pause_ms } => Breaker::HalfOpen {
            since_ms: ours(since_ms),
            pause_ms,
        },
    }
}

fn two_decimals(n: f64) -> f64 {
    (n * 100.0).round() / 100.0
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the desk has a clock of its own; nothing else runs on the thread"
)]
mod tests {
    use workyard_shared::balance::{Fleet, KindFleet};

    use super::*;

    fn hears(desk: &Desk, consumers: u32, kinds: std::collections::BTreeMap<String, KindFleet>) {
        hears_of(Policy::Pull, desk, consumers, kinds);
    }

    fn hears_of(policy: Policy, desk: &Desk, consumers: u32, kinds: std::collections::BTreeMap<String, KindFleet>) {
        let bulletin = Bulletin {
            policy,
            now_ms: 1,
            fleet: Fleet { consumers, kinds },
        };
        desk.heard(1, &serde_json::to_string(&bulletin).unwrap());
    }

    /// A desk whose circuit is open, since it fails what others run well; `only_well` says who that is, by its own number.
    fn opened(only_well: impl FnOnce(u32) -> u32) -> Arc<Desk> {
        let desk = Arc::new(Desk::new("q", Arc::new(Host::new()), Arc::new(Notify::new())));
        let mail = KindFleet {
            consumers: 2,
            runs: 100,
            well: 50,
            only_well: only_well(desk.who),
            ..KindFleet::default()
        };
        hears(&desk, 2, [("mail".to_owned(), mail)].into());
        let begun = Instant::now();
        while desk.is_well() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", desk.standings());
            desk.ended("mail", Outcome::Failure, Duration::ZERO, false);
            desk.beat(1, 4, false);
            std::thread::sleep(Duration::from_millis(20));
        }
        desk
    }

    #[test]
    fn under_adaptive_one_that_fares_badly_claims_less_before_its_circuit_opens() {
        let desk = Arc::new(Desk::new("q", Arc::new(Host::new()), Arc::new(Notify::new())));
        let claims = |policy| {
            let mail = KindFleet {
                consumers: 2,
                runs: 100,
                ..KindFleet::default()
            };
            hears_of(policy, &desk, 2, [("mail".to_owned(), mail)].into());
            desk.beat(0, 8, false);
            match desk.share(8, 0) {
                Share::Some(n) => n,
                Share::Probe(_) | Share::Nothing(_) => unreachable!("its circuit is closed"),
            }
        };
        assert_eq!(claims(Policy::Adaptive), 8, "nothing is known against it");
        for n in 0..10 {
            // Seven of ten fail.
            let outcome = Outcome::of(n % 3 == 0 && n < 9);
            desk.ended("mail", outcome, Duration::from_millis(1), false);
        }
        let less = claims(Policy::Adaptive);
        assert!((1..8).contains(&less), "{less}, {:?}", desk.standings());
        assert_eq!(claims(Policy::Pull), 8);
        assert_eq!(claims(Policy::RoundRobin), 8);
    }

    #[test]
    fn a_consumer_whose_last_companion_dies_in_an_outage_is_no_longer_blamed() {
        let desk = opened(|own| own ^ 1);
        hears(&desk, 1, [("mail".to_owned(), KindFleet::default())].into());
        desk.beat(1, 4, false);
        assert!(desk.is_well(), "{:?}", desk.standings());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            desk.ended("mail", Outcome::Failure, Duration::ZERO, false);
            desk.beat(1, 4, false);
            assert!(desk.is_well(), "{:?}", desk.standings());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn probe(desk: &Arc<Desk>) -> Trial {
        loop {
            match desk.share(1, 0) {
                Share::Probe(trial) => return trial,
                Share::Nothing(until) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
                Share::Some(_) => unreachable!("its circuit is open"),
            }
        }
    }

    #[test]
    fn a_retry_that_fails_where_the_circuit_is_open_burns_no_attempt_if_somebody_else_runs_its_kind_well() {
        let failed = |desk: &Desk, is_retry| desk.ended("mail", Outcome::Failure, Duration::ZERO, is_retry);
        let desk = opened(|own| own ^ 1);
        assert_eq!(failed(&desk, true), Some(PROBE_AGAIN));
        assert_eq!(failed(&desk, false), None, "a first attempt says something of the task");
        assert!(desk.is_better_elsewhere("mail"));
        let alone = opened(|own| own);
        assert_eq!(failed(&alone, true), None);
        assert!(!alone.is_better_elsewhere("mail"), "nobody else runs it well");
    }

    #[test]
    fn the_probes_of_one_that_left_a_retry_to_others_come_behind_them_until_one_succeeds() {
        let desk = opened(|own| own ^ 1);
        let first = Rank::of(Policy::Pull, 0.0, true);
        assert_eq!(desk.rank(true, 9, 0), first);
        probe(&desk).passed(Duration::ZERO);
        assert_eq!(desk.rank(true, 9, 0), Some(Rank::LAST));
        let trial = probe(&desk);
        desk.ended("mail", Outcome::Success, Duration::ZERO, false);
        drop(trial);
        assert_eq!(desk.rank(true, 9, 0), first);
    }
}
