//! A small HTTP server for health and metrics, and where it listens. It knows no pages.
//!
//! Invariant: whoever can reach it cannot exhaust the process: connections, headers, bytes and time are bounded, and
//! no request body is read.

mod address;
mod pages;
mod serve;

pub use address::Address;
pub use pages::{Kept, exposition, verdict};
pub use serve::{accepts_open_metrics, serve};
