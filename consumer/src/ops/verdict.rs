//! Whether a daemon is alive: pure, from marks and from what a connection of its own says about Redis.
//!
//! Invariant: an outage of Redis never makes it dead: a restart would mend nothing. Its own connections being
//! dead while Redis answers another one does.

use std::time::Duration;

use workyard_shared::name::QueueName;

use super::progress::Progress;

/// Whether everything that must go round does.
///
/// `answering`: for how long Redis has answered the judge's own connection; `None`: it does not.
///
/// # Errors
/// The reason, for people.
pub(super) fn alive(
    progress: &Progress,
    queues: &[QueueName],
    started: bool,
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
    if !started {
        return Ok(());
    }
    for (queue, mark) in queues.iter().zip(&progress.lanes) {
        let age = mark.age(now);
        if stuck(age) {
            return Err(format!(
                "the loop of queue {queue} has made no progress for {} s",
                seconds(age)
            ));
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
    use super::*;

    const LIMIT: Duration = Duration::from_millis(40);
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    /// Everything went round but what `leave_out` says.
    async fn judged(leave_out: &str, started: bool, answering: Option<Duration>) -> Result<(), String> {
        let progress = Progress::new(1);
        tokio::time::sleep(2 * LIMIT).await;
        let marks = [
            ("runtime", &progress.runtime),
            ("lane", &progress.lanes[0]),
            ("link", &progress.link),
            ("pulse", &progress.pulse),
        ];
        for (name, mark) in marks {
            if name != leave_out {
                mark.now();
            }
        }
        alive(&progress, &[QueueName::new("q").unwrap()], started, LIMIT, answering)
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
        let progress = Progress::new(1);
        progress.lanes[0].end();
        tokio::time::sleep(2 * LIMIT).await;
        progress.runtime.now();
        let verdict = alive(&progress, &[QueueName::new("q").unwrap()], true, LIMIT, None);
        assert_eq!(verdict, Ok(()));
    }
}
