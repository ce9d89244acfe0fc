//! No secret shows anywhere: logs, errors, health keys, metrics, documents, the audit, the list of processes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bucket;
mod daemon;
mod password;
mod seen;
