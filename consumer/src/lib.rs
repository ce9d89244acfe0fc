//! Worker library of the Workyard task queue: claim, run, settle.
//!
//! A [`Registry`] says which function runs which kind; a [`Worker`] claims tasks of one or more
//! queues, runs them, and settles them, fenced by the token of each claim. Tasks run at least
//! once: one whose consumer dies runs again elsewhere within seconds.
//!
//! ```no_run
//! use workyard_consumer::{Context, Failure, LinkConfig, QueueName, Registry, Worker, WorkerConfig};
//!
//! # async fn run() -> Result<(), workyard_consumer::Error> {
//! let mut registry = Registry::new();
//! registry.register("add", |_ctx: Context, (a, b): (i64, i64)| async move { Ok::<i64, Failure>(a + b) })?;
//! let link = LinkConfig::from_url("redis://127.0.0.1:6379/")?;
//! let config = WorkerConfig::new(link, QueueName::new("numbers")?);
//! Worker::new(config, registry)?.serve().await // until SIGTERM; `join()` ends when the queue is empty
//! # }
//! ```
//!
//! With the feature `otel` (a default one) `Worker::with_tracer_provider` makes spans for OpenTelemetry.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
mod beneath;
mod context;
mod handler;
mod middleware;
mod protection;
mod done;
mod execute;
mod telemetry;
mod typed;
mod stage;
mod kind_slots;
mod registry;
mod functions;
pub mod handlers;
mod slots;
mod suspects;
mod turns;
mod counters;
mod crew;
mod metrics;
mod event;
mod jobs;
mod health;
mod fleet;
mod tuner;
mod report;
mod ops;
mod lane;
mod wake;
mod ingest;
mod agenda;
mod maintain;
mod pulse;
mod queues;
mod signals;
mod worker_config;
mod prepare;
mod until_empty;
mod loops;
mod reload;
mod worker;
pub mod daemon;
pub mod testing;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;

pub use context::Context;
pub use functions::Emit;
pub use handler::{BoxFuture, Failure, Handler, Next, Outcome};
pub use kind_slots::Concurrency;
pub use middleware::Middleware;
pub use protection::Protection;
pub use registry::Registry;
pub use slots::QueueOrder;
pub use stage::{CsvText, FileText, Groups, Item, Records, Role, Stage, StageContext, StageInput};
pub use worker::Worker;
pub use worker_config::WorkerConfig;

pub use tokio_util::sync::CancellationToken;
pub use workyard_shared::Error;
pub use workyard_shared::crypto::KeyRing;
pub use workyard_shared::job::Form;
pub use workyard_shared::link::LinkConfig;
pub use workyard_shared::name::{Kind, Prefix, QueueName};
