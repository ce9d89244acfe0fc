//! What a daemon counts of itself, and how a scrape reads it.
//!
//! Invariant: counting costs a lane relaxed atomics of its own queue, no lock and, while tasks of one kind follow each
//! other, no look-up. How many series there can be is bounded; kinds beyond the limit are counted as `other`.

mod collect;
mod meter;
mod spread;

pub(crate) use collect::collect;
pub(crate) use meter::{Call, Clerk, Meters, QueueMeter};
