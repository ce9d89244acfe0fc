//! A consumer's health in one queue: measured, reported, compared with the fleet, acted upon.
//!
//! docs/balancing.md is the specification; the formulas are pure and live in `workyard_shared::balance`. [`gauge`] and
//! [`host`] measure, [`desk`] keeps what follows from it for one queue, [`fleet`] is the maintainer's part. Invariant: it
//! only decides how much this consumer takes and in which order it is woken; no task's state depends on it.

mod away;
mod desk;
mod fleet;
mod gauge;
mod host;

pub(crate) use desk::{Desk, Share, Standings, Trial};
pub(crate) use fleet::FleetWatch;
pub(crate) use gauge::Running;
pub(crate) use host::Host;
