//! Tasks from Rust values, part by part.
//!
//! Invariant: what [`TaskBuilder::build`] returns was checked whole. A mistake on the way is kept
//! and told at the end, so that the chain needs no `?` in between. It sends nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use workyard_shared::Error;
use workyard_shared::envelope::NewTask;
use workyard_shared::name::{Kind, TaskId};
use workyard_shared::options::{Backoff, TaskOptions};
use workyard_shared::trace_context::{TRACEPARENT, TraceContext};

/// Begins a task of `kind` with the payload `null` and every default.
///
/// ```
/// use std::time::Duration;
/// use workyard_producer::task;
///
/// let task = task("mail:send")
///     .payload(&serde_json::json!({"to": "ada@example.com"}))
///     .priority(1)
///     .delay(Duration::from_secs(30))
///     .header("trace", "4bf92f35")
///     .build()?;
/// assert_eq!(&task.payload[..], br#"{"to":"ada@example.com"}"#);
/// # Ok::<(), workyard_producer::Error>(())
/// ```
#[must_use]
pub fn task(kind: impl AsRef<str>) -> TaskBuilder {
    TaskBuilder {
        kind: Kind::new(kind),
        id: None,
        payload: Ok(Bytes::from_static(b"null")),
        options: TaskOptions::default(),
        headers: BTreeMap::new(),
        trace: None,
    }
}

/// A task in the making; see [`task`].
#[derive(Debug, Clone)]
pub struct TaskBuilder {
    kind: Result<Kind, Error>,
    id: Option<Result<TaskId, Error>>,
    payload: Result<Bytes, Error>,
    options: TaskOptions,
    headers: BTreeMap<String, String>,
    trace: Option<Result<TraceContext, Error>>,
}

impl TaskBuilder {
    /// The payload: any value that serde can write as JSON.
    #[must_use]
    pub fn payload<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.payload = serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|e| Error::Invalid(format!("payload cannot be written as JSON: {e}")));
        self
    }

    /// The payload as JSON text, kept byte for byte.
    #[must_use]
    pub fn raw_payload(mut self, json: impl Into<Bytes>) -> Self {
        self.payload = Ok(json.into());
        self
    }

    /// An id of the caller's own: the same id is one task, however often it is enqueued.
    #[must_use]
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        self.id = Some(TaskId::new(id));
        self
    }

    /// 0 (most urgent) to 255; 5 by default.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// Not claimed earlier than this long after the enqueue.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.delay = Some(delay);
        self
    }

    /// Longest run of one attempt.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Expired if not started within this long of the enqueue.
    #[must_use]
    pub fn expires_in(mut self, span: Duration) -> Self {
        self.options.expires_in = Some(span);
        self
    }

    /// Failures after which it is dead-lettered; 3 by default.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = Some(attempts);
        self
    }

    /// Waits between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.options.backoff = Some(backoff);
        self
    }

    /// How long the result stays; an hour by default, zero keeps none.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.options.retention = Some(retention);
        self
    }

    /// Every option at once, for those without a method of their own.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut TaskOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// A header: text for whoever comes after.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The span that the task's spans are below, as the W3C `traceparent` that others hand on. It goes before a header of that
    /// name, and before the current span of OpenTelemetry, which the feature `otel` takes otherwise. A `tracestate` is a header.
    #[must_use]
    pub fn trace_parent(mut self, traceparent: impl Into<String>) -> Self {
        self.trace = Some(TraceContext::new(traceparent));
        self
    }

    /// The task, all parts checked.
    ///
    /// # Errors
    /// [`Error::Invalid`] says which part breaks which rule.
    pub fn build(self) -> Result<NewTask, crate::Error> {
        let mut task = NewTask::new(self.kind?, self.payload?)?;
        task.id = self.id.transpose()?;
        task.options = self.options;
        task.headers = self.headers;
        if let Some(trace) = self.trace.transpose()? {
            task.headers
                .insert(TRACEPARENT.to_owned(), trace.traceparent().to_owned());
        }
        task.options.validate()?;
        task.extra()?;
        Ok(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_anywhere_in_the_chain_is_told_at_the_end() {
        for (bad, reason) in [
            (task("a b"), "kind"),
            (task("k").id("a b"), "visible ASCII"),
            (task("k").raw_payload("oops"), "not JSON"),
            (task("k").max_attempts(0), "max_attempts"),
            (task("k").timeout(Duration::ZERO), "timeout"),
            (task("k").header("h", "x".repeat(70_000)), "headers"),
            (task("k").trace_parent("00-1-2-3"), "traceparent must be like"),
        ] {
            let error = bad.build().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
