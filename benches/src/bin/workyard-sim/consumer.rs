//! A simulated consumer: it measures as a real one does, with the same window, moving mean and circuit.
//!
//! Invariant: what it knows of the fleet is as old as its last beat.

use std::collections::VecDeque;
use std::time::Duration;

use workyard_shared::balance::{
    Allowed, Blame, Circuit, Fleet, KindVitals, Outcome, Turn, Vitals, Watch, health_score,
};

use workyard_bench::profile::Profile;

/// Names of the kinds by their number.
pub(crate) const KINDS: [&str; 2] = ["mail", "report"];

/// One consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) profile: Profile,
    pub(crate) alive: bool,
    /// The dispatcher has not yet seen that it is gone.
    pub(crate) listed: bool,
    pub(crate) held: Vec<u32>,
    pub(crate) queue: VecDeque<u32>,
    pub(crate) circuit: Circuit,
    pub(crate) health: f64,
    pub(crate) vitals: Vitals,
    pub(crate) parked: Option<f64>,
    pub(crate) served_us: u64,
    pub(crate) asks: bool,
    pub(crate) runs: u64,
    pub(crate) errors: u64,
    pub(crate) running_of: [usize; 2],
    watches: [Watch; 2],
}

impl Consumer {
    pub(crate) fn new(profile: Profile) -> Self {
        let capacity = u32::try_from(profile.capacity).unwrap_or(u32::MAX);
        Self {
            profile,
            alive: true,
            listed: true,
            held: Vec::new(),
            queue: VecDeque::new(),
            circuit: Circuit::new(),
            health: 1.0,
            vitals: Vitals {
                capacity,
                ..Vitals::default()
            },
            parked: None,
            served_us: 0,
            asks: false,
            runs: 0,
            errors: 0,
            running_of: [0; 2],
            watches: [Watch::new(), Watch::new()],
        }
    }

    pub(crate) fn free(&self) -> usize {
        self.profile.capacity.saturating_sub(self.held.len())
    }

    /// The share of its slots that are taken, its queue included.
    pub(crate) fn fullness(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "queues are short of 2^52")]
        let ratio = (self.held.len() + self.queue.len()) as f64 / self.profile.capacity as f64;
        ratio
    }

    pub(crate) fn ended(&mut self, kind: usize, ok: bool, took_s: f64, fleet: &Fleet, now: Duration) {
        self.runs += 1;
        self.errors += u64::from(!ok);
        let took = Duration::from_secs_f64(took_s);
        self.watches[kind].record(Outcome::of(ok), took, now);
        if self.circuit.on_result(ok, took, now) == Some(Turn::Closed) {
            self.turned(fleet, now);
        } else if self.watches[kind].is_failing() {
            self.beat(fleet, now);
        }
    }

    /// Measures and judges itself.
    pub(crate) fn beat(&mut self, fleet: &Fleet, now: Duration) {
        self.vitals.running = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        self.vitals.kinds.clear();
        for (n, kind) in KINDS.into_iter().enumerate() {
            let seen = KindVitals {
                running: u32::try_from(self.running_of[n]).unwrap_or(u32::MAX),
                ..self.watches[n].vitals(now)
            };
            if seen.runs > 0 || seen.running > 0 {
                self.vitals.kinds.insert(kind.to_owned(), seen);
            }
        }
        self.health = health_score(&self.vitals, fleet);
        let blame = Blame::of(&self.vitals, fleet);
        if self.circuit.on_health(self.health, blame.rate, blame.runs, now) == Some(Turn::Opened) {
            self.turned(fleet, now);
        }
    }

    /// The circuit turned: what was counted before says nothing of now.
    fn turned(&mut self, fleet: &Fleet, now: Duration) {
        self.watches.iter_mut().for_each(Watch::clear);
        self.vitals.kinds.values_mut().for_each(|k| (k.runs, k.errors) = (0, 0));
        self.beat(fleet, now);
    }

    /// Takes notice of breakers that changed.
    pub(crate) fn learn(&mut self, fleet: &Fleet, draw: f64) {
        for (n, kind) in KINDS.into_iter().enumerate() {
            let breaker = fleet.kinds.get(kind).map(|k| k.breaker).unwrap_or_default();
            self.watches[n].learn(breaker, fleet.consumers, draw);
        }
    }

    /// Whether a run of that kind is a probe of its breaker: a failure is no attempt of the task then.
    pub(crate) fn is_probe(&self, kind: usize) -> bool {
        self.watches[kind].is_probing()
    }

    /// What it may run of that kind now.
    pub(crate) fn admits(&self, kind: usize, now: Duration) -> Allowed {
        self.watches[kind].admits(self.running_of[kind], now)
    }
}
