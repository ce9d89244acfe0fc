//! Worker library of the Workyard task queue: claim, run, settle.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
mod context;
mod handler;
pub mod handlers;

pub use context::Context;
pub use handler::{BoxFuture, Failure, Handler, Next, Outcome};
