//! Workyard's way in and out: a client library for programs, and the parts of the `workyard` CLI.
//!
//! [`Client`] enqueues ([`Client::enqueue`], [`Client::enqueue_many`], [`Client::bulk`]), waits
//! ([`Client::wait`], [`Client::enqueue_and_wait`], [`Client::follow`]), looks ([`Client::task`],
//! [`Client::list`], [`Client::stats`], [`Client::signals`], [`Client::consumers`], [`Client::explain`]) and operates
//! ([`Client::cancel`], [`Client::retry`], [`Client::set`], [`Client::doctor`] and so on). [`task()`] builds tasks from Rust values.
//!
//! [`Client::map_reduce`] submits map-reduce jobs, [`Client::job`] finds them again.
//!
//! With the feature `otel` a task belongs to the trace of OpenTelemetry's current span; without it, [`TaskBuilder::trace_parent`]
//! and [`MapReduce::trace_parent`] say which.
//!
//! It knows the protocol (`workyard-shared`) and no consumer.

mod error;
mod config;
mod moment;
mod reason;
mod raw_json;
mod durability;
mod trace;
mod task_builder;
mod view;
mod filter;
mod outages;
mod look;
mod room;
mod board;
mod durable;
mod client;
mod sealing;
mod full;
mod enqueue;
mod bulk;
mod inbox;
mod wait;
mod listing;
mod follow;
mod operate;
mod stats;
mod fleet;
mod serving;
mod exposition;
mod signals;
mod explain;
mod doctor;
mod job;

pub use bulk::Bulk;
pub use client::Client;
pub use config::ClientConfig;
pub use doctor::{Ailment, Diagnosis, Finding, Looked};
pub use durability::{Durability, Kept};
pub use enqueue::Receipt;
pub use error::Error;
pub use explain::Explanation;
pub use filter::{Cursor, Filter};
pub use fleet::ConsumerView;
pub use follow::{Follow, News};
pub use inbox::InboxPlace;
pub use job::{FileFormat, ItemFormat, JobHandle, MapReduce, Pairs};
pub use listing::Page;
pub use moment::Moment;
pub use outages::Away;
pub use raw_json::RawJson;
pub use reason::Reason;
pub use serving::Serving;
pub use signals::Signals;
pub use stats::{MinuteCounts, QueueStats};
pub use task_builder::{TaskBuilder, task};
pub use view::TaskView;

pub use workyard_shared::balance::Policy as Balance;
pub use workyard_shared::broker::{Accepted, AuditEntry, CancelAnswer, Deleted, JobGlance, PurgePlace};
pub use workyard_shared::crypto::{KeyRing, Unopened};
pub use workyard_shared::envelope::NewTask;
pub use workyard_shared::job::{JobRecord, JobState, Phase, Policy, ResultPlace};
pub use workyard_shared::link::LinkConfig;
pub use workyard_shared::metrics::Exposition;
pub use workyard_shared::name::{JobId, KeyId, Kind, Prefix, QueueName, TaskId};
pub use workyard_shared::options::{Backoff, TaskOptions};
pub use workyard_shared::overload::Overload;
pub use workyard_shared::record::{Ended, State};
pub use workyard_shared::settings::{Setting, Settings};
pub use workyard_shared::trace_context::TraceContext;
