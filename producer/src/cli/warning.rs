//! Whether anybody would run what is enqueued.
//!
//! Invariant: one look per queue and command, never per task. Asked for with `--require-consumer` it comes first and
//! decides; else it is a hint, and a look that fails says nothing.

use std::time::Duration;

use workyard_producer::{Client, Error, Kind, QueueName};
use workyard_shared::near::nearest;

use super::exit::CliError;
use super::session::known;

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
        return match look.await {
            Err(error @ Error::NoConsumer { .. }) => {
                let instead = never_used(client, queue).await;
                Err(CliError::from(error).because(instead.as_slice()))
            }
            other => Ok(other?),
        };
    }
    match tokio::time::timeout(LOOK, look).await {
        Ok(Err(error @ Error::NoConsumer { .. })) => {
            let instead = never_used(client, queue).await;
            let parts: Vec<String> = std::iter::once(error.to_string()).chain(instead).collect();
            Ok(Some(parts.join("; ")))
        }
        Ok(Ok(warning)) => Ok(warning),
        _ => Ok(None),
    }
}

/// What to say of a queue that is new, where a mistyped name looks the same.
async fn never_used(client: &Client, queue: &QueueName) -> Option<String> {
    let look = tokio::time::timeout(LOOK, client.queues()).await;
    let queues = look.ok()?.ok()?;
    // The first queue of all is no slip.
    if queues.is_empty() || queues.contains(queue) {
        return None;
    }
    Some(format!("queue {queue} is new; {}", known(queue, &queues)))
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
    let meant = nearest(kind.as_str(), kinds.iter().map(String::as_str));
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    format!("no consumer of queue {queue} has a handler for kind {kind} now; they have handlers for {known}{meant}")
}

/// The warnings of several queues as one text.
pub(crate) fn joined(warnings: &[String]) -> Option<String> {
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_kind_is_told_the_one_that_was_meant() {
        let said = |kind: &str| {
            let kinds = ["resize".to_owned(), "send".to_owned()];
            unknown(&QueueName::new("q").unwrap(), &Kind::new(kind).unwrap(), &kinds)
        };
        assert!(
            said("resise").ends_with("they have handlers for resize, send; did you mean resize?"),
            "{}",
            said("resise")
        );
        assert!(said("report").ends_with("resize, send"), "{}", said("report"));
    }
}
