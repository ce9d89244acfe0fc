//! Whether anybody would run what is enqueued.
//!
//! Invariant: one look per queue and command, never per task. Asked for with `--require-consumer` it comes first and
//! decides; else it is a hint, and a look that fails says nothing.

use std::time::Duration;

use workyard_producer::{Client, Error, QueueName};

use super::exit::CliError;

/// Longest time for a look that is a hint only.
const LOOK: Duration = Duration::from_secs(1);

/// Before an enqueue: an error if a consumer is required and none is there, else the warning of a queue without one.
pub(crate) async fn before(client: &Client, queue: &QueueName, required: bool) -> Result<Option<String>, CliError> {
    if required {
        client.require_consumer(queue).await?;
        return Ok(None);
    }
    match tokio::time::timeout(LOOK, client.require_consumer(queue)).await {
        Ok(Err(error @ Error::NoConsumer { .. })) => Ok(Some(error.to_string())),
        _ => Ok(None),
    }
}

/// The warnings of several queues as one text.
pub(crate) fn joined(warnings: &[String]) -> Option<String> {
    (!warnings.is_empty()).then(|| warnings.join("; "))
}
