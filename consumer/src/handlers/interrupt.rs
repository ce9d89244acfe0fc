//! The two things that end an attempt from outside: cancellation and time.
//!
//! Invariant: the earlier of the task's own deadline and the handler's `timeout` counts, and it
//! is fixed when the attempt starts.

use std::time::{Duration, Instant};

use workyard_shared::duration;

use crate::{Context, Failure};

/// When and why an attempt must stop.
#[derive(Debug)]
pub(crate) struct Interrupt {
    ctx: Context,
    started: Instant,
    deadline: Option<Instant>,
}

impl Interrupt {
    /// Starts the clock of the handler's `timeout`.
    pub(crate) fn start(ctx: &Context, timeout: Option<Duration>) -> Self {
        let started = Instant::now();
        let own = timeout.and_then(|timeout| started.checked_add(timeout));
        let deadline = match (ctx.deadline(), own) {
            (Some(task), Some(own)) => Some(task.min(own)),
            (task, own) => task.or(own),
        };
        Self {
            ctx: ctx.clone(),
            started,
            deadline,
        }
    }

    /// What is left of the attempt's time, in whole milliseconds; `None` if nothing limits it.
    pub(crate) fn remaining_ms(&self) -> Option<u64> {
        let left = self.deadline?.saturating_duration_since(Instant::now());
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// Waits until the attempt must stop; the failure says why. May be dropped and called again.
    pub(crate) async fn fired(&self) -> Failure {
        let out_of_time = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.ctx.cancellation().cancelled() => {}
            () = out_of_time => {}
        }
        // Whoever watches the task's deadline cancels at that moment: it is the time that is over, whoever was first to say so.
        if self.deadline.is_none_or(|deadline| Instant::now() < deadline) {
            return Failure::retry("cancelled");
        }
        self.ctx.ran_out_of_time();
        Failure::retry(format!("timed out after {}", self.allowed()))
    }

    fn allowed(&self) -> String {
        let whole = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(self.started));
        // The task's own deadline began a little before the handler did; 29.998s reads as 30s.
        duration::format(whole.unwrap_or_default() + Duration::from_micros(500))
    }
}
