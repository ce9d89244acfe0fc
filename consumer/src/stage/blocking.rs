//! Work for the processor, off the threads that serve Redis.
//!
//! Invariant: a panic is a failed attempt, never more.

use std::fmt;
use std::sync::Arc;

use super::{Stage, StageContext, StageInput};
use crate::execute::describe;
use crate::handler::{BoxFuture, Failure};
use crate::telemetry::carried;

/// Runs `work` on tokio's blocking pool.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(carried(work)).await {
        Ok(outcome) => outcome,
        Err(error) => Err(match error.try_into_panic() {
            Ok(panic) => Failure::retry(describe(&*panic)),
            Err(error) => Failure::retry(format!("the blocking thread ended: {error}")),
        }),
    }
}

/// A function from a whole input to its output, as a stage.
pub(crate) struct Pure<F> {
    function: Arc<F>,
    folds_parts: bool,
}

impl<F> Pure<F> {
    pub(crate) fn new(folds_parts: bool, function: F) -> Self {
        Self {
            function: Arc::new(function),
            folds_parts,
        }
    }
}

impl<F> fmt::Debug for Pure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pure").finish_non_exhaustive()
    }
}

impl<F> Stage for Pure<F>
where
    F: Fn(&StageContext, StageInput) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
{
    fn run(&self, ctx: StageContext, input: StageInput) -> BoxFuture<Result<Vec<u8>, Failure>> {
        let function = Arc::clone(&self.function);
        // The context moves onto the thread and holds the slot until the function returns.
        Box::pin(blocking(move || function(&ctx, input)))
    }

    fn folds_parts(&self) -> bool {
        self.folds_parts
    }
}
