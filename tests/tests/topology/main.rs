//! Workyard on a Redis Cluster and behind Sentinel: slots that move, masters that die, functions that are missing.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod cluster;
mod load;
mod programs;
mod sentinel;
