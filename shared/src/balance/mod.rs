//! Load balancing by measured health, as pure functions: what a consumer measures, what the fleet
//! makes of it, and what follows for who gets the next task.
//!
//! Reading order: [`Window`] and [`RunTimes`] measure; [`Vitals`] is one consumer's report, [`Fleet`]
//! what the maintainer makes of all of them; [`health_score`], [`load_score`] and [`Blame`] judge;
//! [`Circuit`] (one consumer), [`Breaker`] (one kind, everywhere), [`Watch`] (one kind on one consumer) and
//! [`Limit`] (slots) act on it;
//! [`Policy`] turns it into a rank and a claim size.
//!
//! Invariant: no clock, no randomness, no Redis. `now` is the time since any fixed start (epoch or
//! process start), the same one for every call on a value. Every result is finite, whatever comes in.
//! The formulas, their sources and a table of cases are in `docs/balancing.md`.

mod window;
mod run_times;
mod vitals;
mod breaker;
mod fleet;
mod score;
mod circuit;
mod policy;
mod watch;
mod limit;
mod bulletin;

pub use breaker::Breaker;
pub use bulletin::Bulletin;
pub use circuit::{Allowed, Circuit, Turn};
pub use fleet::{Fleet, KindFleet};
pub use limit::Limit;
pub use policy::{Policy, Rank, Standing, claim_size, rank};
pub use run_times::{RECENT, RunTimes};
pub use score::{Blame, MAX_ERROR_RATE, MIN_HEALTH, MIN_RUNS, health_score, load_score, pressure};
pub use vitals::{KindVitals, MAX_KINDS, Vitals};
pub use watch::Watch;
pub use window::{Counts, Outcome, STREAK, Window};

#[cfg(test)]
mod cases;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod timeline;
