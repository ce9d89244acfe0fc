//! What one consumer knows of its health in one queue, and what follows: how much it may claim, with which rank it
//! parks, which kinds it leaves alone for now.
//!
//! Invariant: one lock, never held over an await. The clock is the fleet's: what the maintainer said, and how long ago.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use workyard_shared::balance::{
    Allowed, Blame, Breaker, Circuit, Fleet, Policy, Standing, Turn, Vitals, claim_size, health_score, load_score, rank,
};
use workyard_shared::broker::Rank;

use super::gauge::Gauges;
use super::host::Host;

/// The grain of `balance::rank` under `adaptive`: with it time of service leaves room for the load above it.
const GRAIN_US: u64 = 64;

/// What the maintainer tells everybody.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Bulletin {
    /// The queue's setting.
    pub(super) policy: Policy,
    /// The time that breakers are measured in, ms since the epoch of Redis' clock.
    pub(super) now_ms: u64,
    pub(super) fleet: Fleet,
}

/// How much this consumer may claim now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Up to so many.
    Some(usize),
    /// One, and its outcome decides.
    Probe,
    /// Nothing before that.
    Nothing(Instant),
}

struct Inner {
    gauges: Gauges,
    bulletin: Bulletin,
    version: u64,
    heard: Instant,
    circuit: Circuit,
    vitals: Vitals,
    health: f64,
    load: f64,
    /// Per kind whose breaker is not closed: the state that was seen, our draw, and a probe under way.
    kinds: HashMap<String, Caution>,
}

#[derive(Clone, Copy)]
struct Caution {
    breaker: Breaker,
    draw: f64,
    probing: bool,
}

/// The desk of one queue.
pub(crate) struct Desk {
    queue: String,
    capacity: usize,
    host: Arc<Host>,
    started: Instant,
    inner: Mutex<Inner>,
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
    pub(crate) fn new(queue: &str, capacity: usize, host: Arc<Host>) -> Self {
        Self {
            queue: queue.to_owned(),
            capacity,
            host,
            started: Instant::now(),
            inner: Mutex::new(Inner {
                gauges: Gauges::default(),
                bulletin: Bulletin::default(),
                version: 0,
                heard: Instant::now(),
                circuit: Circuit::new(),
                vitals: Vitals::default(),
                health: 1.0,
                load: 0.0,
                kinds: HashMap::new(),
            }),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A task has ended. True if the next report should not wait for its beat.
    pub(crate) fn ended(&self, kind: &str, ok: bool, took: Duration) {
        let now = self.now();
        self.with(|inner| {
            inner.gauges.record(kind, ok, took, now);
            if let Some(caution) = inner.kinds.get_mut(kind) {
                caution.probing = false;
            }
            let turn = inner.circuit.on_result(ok, now);
            self.turned(inner, turn);
            if !ok {
                self.judge(inner, now);
            }
        });
    }

    fn turned(&self, inner: &mut Inner, turn: Option<Turn>) {
        let queue = &self.queue;
        match turn {
            Some(Turn::Opened) => {
                inner.gauges.clear(None);
                warn!(%queue, health = inner.health, "this consumer fails what others complete: it takes single probes until they succeed");
            }
            Some(Turn::Closed) => {
                inner.gauges.clear(None);
                info!(%queue, "this consumer's probes succeed: it takes its share again");
            }
            None => {}
        }
    }

    /// Scores and circuit from what is known now.
    fn judge(&self, inner: &mut Inner, now: Duration) {
        let mut vitals = Vitals {
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
        let turn = inner.circuit.on_health(inner.health, blame.rate, blame.runs, now);
        self.turned(inner, turn);
    }

    /// Measures and judges; the report as JSON, and the version of the fleet that is known.
    pub(crate) fn beat(&self, running: usize) -> (String, u64) {
        let now = self.now();
        self.with(|inner| {
            inner.vitals.capacity = u32::try_from(self.capacity).unwrap_or(u32::MAX);
            inner.vitals.running = u32::try_from(running).unwrap_or(u32::MAX);
            inner.vitals.lag_ms = self.host.lag_ms();
            inner.vitals.rtt_ms = self.host.rtt_ms();
            inner.vitals.cpu = self.host.cpu();
            inner.vitals.memory = self.host.memory();
            self.judge(inner, now);
            // Numbers, text and lists: this cannot fail.
            (serde_json::to_string(&inner.vitals).unwrap_or_default(), inner.version)
        })
    }

    /// The maintainer said something new.
    pub(crate) fn heard(&self, version: u64, json: &str) {
        let Ok(bulletin) = serde_json::from_str::<Bulletin>(json) else {
            return;
        };
        self.with(|inner| {
            for (kind, figures) in &bulletin.fleet.kinds {
                let before = inner.kinds.get(kind).map_or(Breaker::Closed, |caution| caution.breaker);
                if before == figures.breaker {
                    continue;
                }
                // From now on only what runs under the new state counts.
                inner.gauges.clear(Some(kind));
                if figures.breaker == Breaker::Closed {
                    inner.kinds.remove(kind);
                    info!(queue = %self.queue, kind, "kind {kind} works again: its breaker is closed");
                } else {
                    if before == Breaker::Closed {
                        warn!(queue = %self.queue, kind, "kind {kind} fails everywhere: its breaker is open, its tasks wait");
                    }
                    let caution = Caution { breaker: figures.breaker, draw: fastrand::f64(), probing: false };
                    inner.kinds.insert(kind.clone(), caution);
                }
            }
            inner.kinds.retain(|kind, _| bulletin.fleet.kinds.contains_key(kind));
            (inner.bulletin, inner.version, inner.heard) = (bulletin, version, Instant::now());
        });
    }

    /// How many of the `wanted` may be claimed now, while `running` are held.
    pub(crate) fn share(&self, wanted: usize, running: usize) -> Share {
        let now = self.now();
        self.with(|inner| match inner.circuit.may_claim(now) {
            Allowed::All => Share::Some(claim_size(inner.bulletin.policy, wanted, running, inner.health)),
            Allowed::Probe => Share::Probe,
            Allowed::Nothing { until } => Share::Nothing(self.started + until),
        })
    }

    /// A claim brought nothing: a probe is still to be had.
    pub(crate) fn nothing(&self) {
        let now = self.now();
        self.with(|inner| inner.circuit.on_nothing(now));
    }

    /// The rank with which this consumer parks; `None`: the time of parking.
    pub(crate) fn rank(&self, probe: bool) -> Option<Rank> {
        self.with(|inner| {
            let standing = Standing {
                load_score: inner.load,
                probe,
                ..Standing::default()
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and below 2^53"
            )]
            let base = rank(inner.bulletin.policy, &standing).max(0.0) as u64;
            match inner.bulletin.policy {
                // A due probe is one task per pause: behind idle healthy consumers it would never come.
                _ if probe => Some(Rank {
                    base: 0,
                    grain: 1 << 52,
                }),
                Policy::Pull => None,
                Policy::RoundRobin => Some(Rank { base, grain: 1 }),
                Policy::Adaptive => Some(Rank { base, grain: GRAIN_US }),
            }
        })
    }

    /// Whether a task of this kind may run now; else how long it should wait.
    pub(crate) fn admits(&self, kind: &str) -> Result<(), Duration> {
        self.with(|inner| {
            let consumers = inner.bulletin.fleet.consumers;
            let fleet_now = Duration::from_millis(inner.bulletin.now_ms) + inner.heard.elapsed();
            let Some(caution) = inner.kinds.get_mut(kind) else {
                return Ok(());
            };
            let wait = |until: Duration| {
                let left = until.saturating_sub(fleet_now);
                // Spread, so that what was parked does not come back in one wave.
                Err(left
                    .max(Duration::from_millis(500))
                    .mul_f64(1.0 + fastrand::f64() / 4.0))
            };
            match caution.breaker.admits(consumers, caution.draw) {
                Allowed::All => Ok(()),
                Allowed::Probe if !caution.probing => {
                    caution.probing = true;
                    Ok(())
                }
                Allowed::Probe => wait(fleet_now),
                Allowed::Nothing { until } => wait(until),
            }
        })
    }

    /// Whether the circuit is closed.
    pub(crate) fn is_well(&self) -> bool {
        self.with(|inner| inner.circuit.is_closed())
    }

    /// What people see.
    pub(crate) fn standings(&self) -> Standings {
        self.with(|inner| Standings {
            queue: self.queue.clone(),
            balance: inner.bulletin.policy.as_str(),
            health: two_decimals(inner.health),
            load: two_decimals(inner.load),
            circuit: inner.circuit.name(),
            vitals: inner.vitals.clone(),
        })
    }
}

fn two_decimals(n: f64) -> f64 {
    (n * 100.0).round() / 100.0
}
