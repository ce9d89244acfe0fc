//! Testing handlers without Redis: the same registry, run inline.
//!
//! Invariant: what a handler sees (payload check, attempt, timeout, panic, size limits) is what the
//! worker does, because it is the same code. Waits between attempts are not slept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use workyard_shared::envelope::check_payload;
use workyard_shared::options::{DEFAULT_MAX_ATTEMPTS, DEFAULT_RETENTION};

use crate::context::Context;
use crate::done::Done;
use crate::execute::{Run, Work, execute};
use crate::handler::Failure;
use crate::registry::Registry;

/// Runs tasks of a registry in the caller's own test.
///
/// ```
/// use workyard_consumer::{Context, Failure, Registry, testing::Inline};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut registry = Registry::new();
/// registry.register("flaky", |ctx: Context, n: u32| async move {
///     if ctx.attempt() < 3 { Err(Failure::retry("not yet")) } else { Ok(n * 2) }
/// })?;
/// let ended = Inline::new(registry).run("flaky", &21).await;
/// assert_eq!(ended.attempts, 3);
/// assert_eq!(ended.result::<u32>()?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Inline {
    registry: Registry,
    max_attempts: u32,
    timeout: Option<Duration>,
}

/// How a task ended.
#[derive(Debug, Clone)]
pub struct InlineEnd {
    /// Attempts made.
    pub attempts: u32,
    /// The result as JSON, or the last error.
    pub outcome: Result<Bytes, String>,
}

impl InlineEnd {
    /// The result as a Rust value.
    ///
    /// # Errors
    /// [`Failure`] if the task failed or its result is of another type.
    pub fn result<R: DeserializeOwned>(&self) -> Result<R, std::io::Error> {
        let bytes = self
            .outcome
            .as_ref()
            .map_err(|text| std::io::Error::other(text.clone()))?;
        serde_json::from_slice(bytes).map_err(std::io::Error::other)
    }
}

impl Inline {
    /// Runs tasks of `registry` with the default of 3 attempts and no timeout.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            timeout: None,
        }
    }

    /// Other limits for the tasks to come.
    #[must_use]
    pub fn with_limits(mut self, max_attempts: u32, timeout: Option<Duration>) -> Self {
        (self.max_attempts, self.timeout) = (max_attempts.max(1), timeout);
        self
    }

    /// Runs a task to its end, retries included.
    pub async fn run<P: Serialize + ?Sized>(&self, kind: &str, payload: &P) -> InlineEnd {
        match serde_json::to_vec(payload) {
            Ok(bytes) => self.run_raw(kind, bytes).await,
            Err(e) => InlineEnd {
                attempts: 0,
                outcome: Err(format!("the payload cannot be written as JSON: {e}")),
            },
        }
    }

    /// Runs a task with a payload as a client would send it.
    pub async fn run_raw(&self, kind: &str, payload: impl Into<Bytes>) -> InlineEnd {
        let payload = payload.into();
        let Some(entry) = self.registry.get(kind) else {
            return InlineEnd {
                attempts: 0,
                outcome: Err(format!("no handler for kind {kind}")),
            };
        };
        if let Err(error) = check_payload(&payload) {
            return InlineEnd {
                attempts: 0,
                outcome: Err(format!("malformed: {error}")),
            };
        }
        for attempt in 1.. {
            let mut ctx = Context::for_test(kind, "inline");
            ctx.edit().number = attempt;
            ctx.edit().deadline = self.timeout.map(|limit| Instant::now() + limit);
            let task = Run {
                ctx,
                token: 1,
                payload: payload.clone(),
                work: Work::Handler(entry.handler.clone()),
                timeout: self.timeout,
                created_ms: 0,
                retention: DEFAULT_RETENTION,
                entrance: None,
            };
            let outcome = match execute(task, [].into()).await.0 {
                Done::Completed(completion) => Ok(completion.result),
                Done::Dropped { .. } | Done::HandedBack(_) | Done::Member(..) => Err("cancelled".to_owned()),
                Done::Failed(report, _) if report.is_final() || attempt >= self.max_attempts => Err(report.error),
                Done::Failed(..) => continue,
            };
            return InlineEnd {
                attempts: attempt,
                outcome,
            };
        }
        InlineEnd {
            attempts: 0,
            outcome: Err(Failure::fatal("no attempt").message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::new();
        registry
            .register("double", |_: Context, n: u32| async move { Ok::<_, Failure>(n * 2) })
            .unwrap();
        registry
            .register("never", |_: Context, _: u32| async {
                Err::<(), _>(Failure::fatal("no"))
            })
            .unwrap();
        registry
            .register("slow", |_: Context, _: u32| {
                std::future::pending::<Result<(), Failure>>()
            })
            .unwrap();
        registry
    }

    #[tokio::test]
    async fn inline_runs_meet_the_same_rules_as_a_worker() {
        let inline = Inline::new(registry()).with_limits(2, Some(Duration::from_millis(10)));
        assert_eq!(inline.run("double", &4).await.result::<u32>().unwrap(), 8);
        for (kind, payload, attempts, text) in [
            ("never", "1", 1, "no"),
            ("slow", "1", 2, "timed out"),
            ("double", "\"x\"", 1, "does not fit"),
            ("double", "{", 0, "malformed"),
            ("unknown", "1", 0, "no handler"),
        ] {
            let end = inline.run_raw(kind, payload).await;
            assert_eq!(end.attempts, attempts, "{kind}");
            assert!(end.outcome.as_ref().unwrap_err().contains(text), "{kind}: {end:?}");
        }
    }
}
