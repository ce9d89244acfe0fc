//! What the world outside sees of a daemon: health, readiness and metrics by HTTP, and systemd's notifications.
//!
//! Invariant: all of it runs on a thread, runtime and connection of its own, so it can tell that the others make no
//! progress. It judges and shows; it decides nothing about tasks. If it dies, tasks go on.

mod healthcheck;
mod notify;
mod outside;
mod progress;
mod routes;
mod verdict;

pub(crate) use healthcheck::{Healthcheck, healthcheck};
pub(crate) use notify::Notifier;
pub(crate) use outside::Outside;
pub(crate) use progress::{Mark, Progress, TICK, tick};
