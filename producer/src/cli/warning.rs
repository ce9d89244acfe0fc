//! Whether anybody would run what is enqueued.
//!
//! Invariant: one look per queue and command, never per task. Asked for with `--require-consumer` it comes first and
//! decides; else it is a hint, and a look that fails says nothing.

use std::time::Duration;

use workyard_producer::{Client, Error, Kind, QueueName};

use super::exit::CliError;

/// Longest time for a look that is a hint only.
const LOOK: Duration = Duration::from_secs(1);

/// Kinds that a warning names.
const NAMED: usize = 10;

/// Before an enqueue: an error if a consumer is required and none is there, else the warning of a queue without one, or without
/// one that knows the `kind`.
pub(crate) async fn before(
    client: &Client,
    queue: &QueueName,
    kind: Option<&Kind>,
    required: bool,
) -> Result<Option<String>, CliError> {
    let look = async {
        match kind {
            Some(kind) => {
                let instead = client.require_consumer_of(queue, kind.as_str()).await?;
                Ok(instead.map(|kinds| unknown(queue, kind, &kinds)))
            }
            None => client.require_consumer(queue).await.map(|()| None),
        }
    };
    if required {
        return Ok(look.await?);
    }
    match tokio::time::timeout(LOOK, look).await {
        Ok(Err(error @ Error::NoConsumer { .. })) => Ok(Some(error.to_string())),
        Ok(Ok(warning)) => Ok(warning),
        _ => Ok(None),
    }
}

fn unknown(queue: &QueueName, kind: &Kind, kinds: &[String]) -> String {
    let mut known = kinds
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if kinds.len() > NAMED {
        known.push_str(", ...");
    }
    if known.is_empty() {
        known.push_str("no kind at all");
    }
    format!("no consumer of queue {queue} has a handler for kind {kind} now; they have handlers for {known}")
}

/// The warnings of several queues as one text.
pub(crate) fn joined(warnings: &[String]) -> Option<String> {
    (!warnings.is_empty()).then(|| warnings.join("; "))
}
