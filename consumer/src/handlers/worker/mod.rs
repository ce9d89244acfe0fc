#![doc = include_str!("../../../../docs/workers.md")]
//! # How it is built
//!
//! Handler futures wait for a permit and pass their task to the keeper of a process, a task of its
//! own. Invariant: only keepers touch processes, so a handler future can be dropped at any point:
//! the keeper notices, and ends the process that was busy with it.

mod backoff;
mod keeper;
mod lines;
mod pool;
mod process;
mod protocol;
mod stage;
#[cfg(test)]
mod python_tests;
mod stderr;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::pool::Pool;
use crate::config::WorkerConfig;
use crate::{BoxFuture, Context, Handler, Outcome};

/// Runs tasks in a pool of long-lived processes; see the module's page.
#[derive(Debug, Clone)]
pub struct WorkerHandler {
    pool: Arc<Pool>,
}

impl WorkerHandler {
    /// A pool by `config`; `name` marks its log lines, `timeout` bounds each attempt on top of the
    /// task's own. Nothing starts before the first task.
    #[must_use]
    pub fn new(name: &str, config: WorkerConfig, timeout: Option<Duration>) -> Self {
        Self {
            pool: Arc::new(Pool::new(name, config, timeout)),
        }
    }
}

/// Reads a line of a worker as a pool does, with a small limit for its result.
#[cfg(any(fuzzing, test))]
pub(crate) fn read_line(line: &[u8]) -> Result<(), String> {
    protocol::parse(line, 4096).map(|_| ())
}

impl Handler for WorkerHandler {
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome> {
        let pool = Arc::clone(&self.pool);
        Box::pin(async move { pool.run(ctx, None, payload).await })
    }

    fn close(&self) -> BoxFuture<()> {
        let pool = Arc::clone(&self.pool);
        Box::pin(async move { pool.close().await })
    }
}
