//! Sealed payloads and results, signed tasks: what keys are for.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod encryption;
mod jobs;
mod signatures;
mod stand;
