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

/// What so many bytes take is done where it is asked for: a thread has to be woken, and wakes who waits for it, which costs
/// more than all the rest of a small chunk.
const SHORT_BYTES: usize = 16 << 10;

/// Runs `work` on `bytes` here if they are few, else on tokio's blocking pool.
pub(crate) async fn by_length<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match bytes {
        ..=SHORT_BYTES => work(),
        _ => blocking(work).await,
    }
}

/// A function from a whole input to its output, as a stage.
pub(crate) struct Pure<F> {
    function: Arc<F>,
    folds_parts: bool,
    /// Whether it takes no longer than its input is long: it runs where it is asked for if that is short.
    is_linear: bool,
}

impl<F> Pure<F> {
    /// One of which nothing is known: it may compute for hours.
    pub(crate) fn new(folds_parts: bool, function: F) -> Self {
        Self {
            function: Arc::new(function),
            folds_parts,
            is_linear: false,
        }
    }

    /// One that does nothing but look at each item of its input.
    pub(crate) fn linear(folds_parts: bool, function: F) -> Self {
        Self {
            is_linear: true,
            ..Self::new(folds_parts, function)
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
        let bytes = if self.is_linear { input.bytes() } else { usize::MAX };
        // The context moves onto the thread and holds the slot until the function returns.
        Box::pin(by_length(bytes, move || function(&ctx, input)))
    }

    fn folds_parts(&self) -> bool {
        self.folds_parts
    }
}
