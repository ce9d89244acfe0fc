//! The calls of map-reduce jobs: see `lua/job*.lua` and docs/jobs.md.

mod absent;
mod operate;
mod read;
mod settle;
mod submit;
mod tend;

pub use absent::Absent;
pub use operate::{JobCancelled, JobDeleted, JobRetried};
pub use read::{JobGlance, JobPulse};
pub use settle::{JobOutcome, JobSettled, JobTurn, JobVerdict};
pub use submit::JobSubmitted;
pub use tend::{Spilled, Tended};

use redis::Cmd;

use super::Queue;
use crate::name::JobId;

impl Queue {
    /// `FCALL workyard_1_<edge>` with the shared keys, those of `job`, and `own` ones.
    pub(super) fn job_call(&self, edge: &str, job: &JobId, own: &[&str]) -> Cmd {
        let keys = self.keys.job(job);
        let mut all: Vec<&str> = keys.iter().map(String::as_str).collect();
        all.extend_from_slice(own);
        self.fcall(edge, &all)
    }
}
