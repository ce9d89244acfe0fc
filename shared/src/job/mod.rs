//! Map-reduce jobs: what a submitter says, what the record holds, and the forms of their data.
//!
//! docs/jobs.md is the specification. Invariant: the types here read and write exactly its forms; no
//! one else does. They know neither Redis nor files.

pub mod builtin;
mod chunk;
mod key;
mod member;
mod number;
mod part;
mod record;
mod role;
mod spec;

pub use chunk::{Chunk, Csv, Slice};
pub use key::{PairKey, partition_of};
pub use member::Member;
pub use number::Number;
pub use part::{OutputName, Part};
pub use record::{JobRecord, JobState, Phase, ResultPlace};
pub use role::Role;
pub use spec::{DEFAULT_JOB_RETENTION, Form, Function, JobSpec, MAP_PRIORITY, Policy, REDUCE_PRIORITY};

/// Fan-in of a fold that sets none.
pub const DEFAULT_FAN_IN: u32 = 32;
/// Partitions of a keyed job that sets none.
pub const DEFAULT_PARTITIONS: u32 = 8;
/// Bytes of intermediate data that a job may keep in Redis.
pub const DEFAULT_BUDGET: u64 = 256 << 20;
/// Most chunks of one job.
pub const MAX_CHUNKS: u64 = 10_000_000;
/// Most bytes of one part in Redis; a larger one is spilled.
pub const MAX_PART: usize = 16 << 20;
/// What the error of a reduce says that misses an input which was there: a retry does not make it again.
pub const DATA_GONE: &str = "an output is gone";
/// What the error of a reduce says whose spilled inputs are not there: a retry does not make them again.
pub const SPILLED_DATA_GONE: &str = "spilled data is gone";
