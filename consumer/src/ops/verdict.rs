//! Whether a daemon is alive: pure, from marks and from what a connection of its own says about Redis.
//!
//! Invariant: an outage of Redis never makes it dead: a restart would mend nothing. Its own connections being
//! dead while Redis answers another one does.

use std::sync::Arc;
use std::time::Duration;

use super::progress::Progress;
use crate::queues::Served;

/// Whether everything that must go round does.
///
/// `queues`: those that have a loop; `None` before the loops run. `answering`: for how long Redis has answered the judge's own connection; `None`: it does not.
///
/// # Errors
/// The reason, for people.
pub(super) fn alive(
    progress: &Progress,
    queues: Option<&[Arc<Served>]>,
    limit: Duration,
    answering: Option<Duration>,
) -> Result<(), String> {
    let now = progress.now();
    let stuck = |age: Duration| age > limit;
    let seconds = |age: Duration| age.as_secs();
    let age = progress.runtime.age(now);
    if stuck(age) {
        return Err(format!("the runtime has made no progress for {} s", seconds(age)));
    }
    let Some(queues) = queues else { return Ok(()) };
    for queue in queues {
        let age = queue.mark.age(now);
        if stuck(age) {
            let (name, age) = (&queue.name, seconds(age));
            return Err(format!("the loop of queue {name} has made no progress for {age} s"));
        }
    }
    // Whoever was cut off with Redis gets the same time anew when it is back.
    if answering.is_none_or(|span| !stuck(span)) {
        return Ok(());
    }
    for (name, mark) in [
        ("the connection", &progress.link),
        ("the heartbeat's connection", &progress.pulse),
    ] {
        let age = mark.age(now);
        if stuck(age) {
            let age = seconds(age);
            return Err(format!(
                "{name} has had no answer for {age} s, though Redis answers another one"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;
    use workyard_shared::name::QueueName;

    use super::*;
    use crate::health::{Desk, Host};
    use crate::metrics::Meters;
    use crate::queues::Refusals;

    const LIMIT: Duration = Duration::from_millis(40);
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    fn queue(progress: &Progress) -> Arc<Served> {
        Arc::new(Served {
            name: QueueName::new("q").unwrap(),
            lane: 0,
            desk: Arc::new(Desk::new("q", Arc::new(Host::new()), Arc::new(Notify::new()))),
            meter: Meters::new().queue(),
            mark: progress.mark(),
            refusals: Refusals::default(),
            drain: CancellationToken::new(),
            halt: CancellationToken::new(),
        })
    }

    /// Everything went round but what `leave_out` says.
    async fn judged(leave_out: &str, started: bool, answering: Option<Duration>) -> Result<(), String> {
        let progress = Progress::new();
        let queue = queue(&progress);
        tokio::time::sleep(2 * LIMIT).await;
        let marks = [
            ("runtime", &progress.runtime),
            ("lane", &queue.mark),
            ("link", &progress.link),
            ("pulse", &progress.pulse),
        ];
        for (name, mark) in marks {
            if name != leave_out {
                mark.now();
            }
        }
        let queues = [queue];
        alive(&progress, started.then_some(&queues[..]), LIMIT, answering)
    }

    #[tokio::test]
    async fn a_stuck_loop_is_dead_and_a_dead_connection_only_while_redis_answers_another() {
        assert_eq!(judged("", true, LONG).await, Ok(()));
        for (what, reason) in [
            ("runtime", "the runtime"),
            ("lane", "the loop of queue q"),
            ("link", "the connection has"),
            ("pulse", "the heartbeat's connection"),
        ] {
            let error = judged(what, true, LONG).await.unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
        for what in ["link", "pulse"] {
            assert_eq!(judged(what, true, None).await, Ok(()), "an outage");
            assert_eq!(judged(what, true, Some(LIMIT / 2)).await, Ok(()), "just back");
        }
        assert_eq!(judged("lane", false, LONG).await, Ok(()), "no loop runs yet");
    }

    #[tokio::test]
    async fn a_loop_that_has_ended_is_not_stuck() {
        let progress = Progress::new();
        let queue = queue(&progress);
        queue.mark.end();
        tokio::time::sleep(2 * LIMIT).await;
        progress.runtime.now();
        let verdict = alive(&progress, Some(&[queue]), LIMIT, None);
        assert_eq!(verdict, Ok(()));
    }
}
