//! What a task of a job asks Redis before and beside its function, waiting out an outage.
//!
//! Invariant: an outage burns no attempt. It is no failure of the function, and attempts that fail at once would be used
//! up before Redis is back. Whoever stops the task (a timeout, a cancel, a lost lease) ends the waiting.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use workyard_shared::Error;
use workyard_shared::outage::Patience;

use crate::handler::Failure;

/// Repeats a call, which must be safe to repeat, while Redis is away.
pub(super) async fn patiently<T, F>(stop: &CancellationToken, call: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut patience = Patience::default();
    loop {
        let error = match call().await {
            Err(error) if error.is_temporary() => error,
            other => return Ok(other?),
        };
        if stop.run_until_cancelled(patience.wait()).await.is_none() {
            return Err(error.into());
        }
    }
}
