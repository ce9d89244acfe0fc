//! A simulated consumer: it measures as a real one does, with the same window, moving mean and circuit.
//!
//! Invariant: what it knows of the fleet is as old as its last beat.

use std::collections::VecDeque;
use std::time::Duration;

use workyard_shared::balance::{
    Allowed, Blame, Breaker, Circuit, Fleet, KindVitals, RunTimes, Turn, Vitals, Window, health_score,
};

use crate::profile::Profile;

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
    pub(crate) parked_us: u64,
    pub(crate) served_us: u64,
    pub(crate) asks: bool,
    pub(crate) runs: u64,
    pub(crate) errors: u64,
    pub(crate) running_of: [u32; 2],
    windows: [Window; 2],
    times: [RunTimes; 2],
    breakers: [Breaker; 2],
    draw: f64,
}

impl Consumer {
    pub(crate) fn new(profile: Profile, draw: f64) -> Self {
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
            parked_us: 0,
            served_us: 0,
            asks: false,
            runs: 0,
            errors: 0,
            running_of: [0; 2],
            windows: [Window::new(), Window::new()],
            times: [RunTimes::new(), RunTimes::new()],
            breakers: [Breaker::Closed; 2],
            draw,
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
        self.windows[kind].record(ok, now);
        if ok {
            self.times[kind].record(Duration::from_secs_f64(took_s));
        }
        if self.circuit.on_result(ok, now) == Some(Turn::Closed) {
            self.turned(fleet, now);
        } else if self.windows[kind].is_failing() {
            self.beat(fleet, now);
        }
    }

    /// Measures and judges itself.
    pub(crate) fn beat(&mut self, fleet: &Fleet, now: Duration) {
        self.vitals.running = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        for (n, kind) in KINDS.into_iter().enumerate() {
            let counts = self.windows[n].counts(now);
            let mean_ms = self.times[n].mean_ms();
            if counts.runs > 0 || mean_ms > 0.0 {
                let seen = KindVitals {
                    runs: counts.runs,
                    errors: counts.errors,
                    mean_ms,
                    recent_ms: Vec::new(),
                };
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
        self.windows.iter_mut().for_each(Window::clear);
        self.vitals.kinds.values_mut().for_each(|k| (k.runs, k.errors) = (0, 0));
        self.beat(fleet, now);
    }

    /// Takes notice of breakers that changed.
    pub(crate) fn learn(&mut self, fleet: &Fleet, draw: f64) {
        for (n, kind) in KINDS.into_iter().enumerate() {
            let breaker = fleet.kinds.get(kind).map(|k| k.breaker).unwrap_or_default();
            if breaker != self.breakers[n] {
                self.breakers[n] = breaker;
                self.windows[n].clear();
                self.draw = draw;
            }
        }
    }

    /// Whether a run of that kind is a probe of its breaker: a failure is no attempt of the task then.
    pub(crate) fn is_probe(&self, kind: usize) -> bool {
        self.breakers[kind] != Breaker::Closed
    }

    /// Whether it may run a task of that kind now. While all of the last runs of a kind failed it runs one at a
    /// time and hands the others back, until the fleet has said whose fault it is.
    pub(crate) fn admits(&self, kind: usize, fleet: &Fleet) -> bool {
        let allowed = match self.breakers[kind].admits(fleet.consumers, self.draw) {
            Allowed::All if self.windows[kind].is_failing() => Allowed::Probe,
            allowed => allowed,
        };
        match allowed {
            Allowed::All => true,
            Allowed::Probe => self.running_of[kind] == 0,
            Allowed::Nothing { .. } => false,
        }
    }
}
