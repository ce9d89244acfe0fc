//! What Workyard measures: every family's name, labels and meaning, and how it is written for Prometheus.
//!
//! Invariant: [`FAMILIES`] is the only place that names a family; code, docs/metrics.md, alert rules and dashboard
//! are compared with it by tests. What a label can be is bounded: kinds beyond a limit are `other`.
//!
//! It measures nothing itself: the daemon counts, and [`queues`] turns what Redis holds into families.

mod exposition;
mod family;
mod plain;
pub mod queues;

pub use exposition::{Exposition, Histogram};
pub use family::{FAMILIES, Family, Form, Source};
pub use plain::{OPEN_METRICS, PLAIN, plain};

/// What a kind is called when there are too many.
pub const OTHER: &str = "other";
