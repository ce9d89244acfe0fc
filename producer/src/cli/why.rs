//! Why a task is not running, in words: for `explain`, and for the one who waited in vain; and what an id names that is no task's.
//!
//! Invariant: behind a wait it is one more look, at its end only, and bounded: it may say nothing, never hold up the
//! exit. What it says is of that moment.

use std::time::Duration;

use workyard_producer::{Error, InboxPlace, JobId, Moment, QueueName, Reason};
use workyard_shared::duration;

use super::away;
use super::exit::CliError;
use super::output::clean;
use super::session::Session;
use super::time::Clock;

/// Longest time for the look.
const LOOK: Duration = Duration::from_secs(1);
/// Characters of an error that are shown.
const SHOWN: usize = 200;

/// What a command that is to be typed needs behind it to mean this queue: ` -q emails`, or nothing.
pub(crate) fn on(queue: &QueueName) -> String {
    if queue.as_str() == "default" && std::env::var_os("WORKYARD_QUEUE").is_none() {
        return String::new();
    }
    format!(" -q {queue}")
}

/// What to say of an id that names a job and no task.
pub(crate) async fn job_instead(id: &str, session: &Session) -> Option<String> {
    let id = JobId::new(id).ok()?;
    let look = session.client.job(&session.queue, &id);
    let found = tokio::time::timeout(LOOK, look.status()).await;
    matches!(found, Ok(Ok(_))).then(|| {
        let queue = on(&session.queue);
        format!("there is a job of that name: `workyard job {id}{queue}`")
    })
}

/// What to say of an id that is not there: which queue was looked in, as the usual reason is that the task is in another.
pub(crate) async fn looked_in(session: &Session) -> String {
    let others = tokio::time::timeout(LOOK, session.other_queues()).await;
    let queue = &session.queue;
    match others {
        Ok(Ok(names)) if !names.is_empty() => {
            format!("looked in queue {queue}; -q names another: {}", names.join(", "))
        }
        _ => format!("looked in queue {queue}; -q names another"),
    }
}

/// Where in the inbox the item of this id is, as far as a bounded look tells.
async fn place_in_inbox(id: &str, session: &Session) -> InboxPlace {
    let look = session.client.place_in_inbox(&session.queue, id);
    // It may say nothing.
    match tokio::time::timeout(LOOK, look).await {
        Ok(Ok(place)) => place,
        _ => InboxPlace::Absent,
    }
}

/// Whether a bounded look finds the item of this id in the inbox.
pub(crate) async fn is_in_inbox(id: &str, session: &Session) -> bool {
    matches!(place_in_inbox(id, session).await, InboxPlace::Behind(_))
}

/// What to do about a task that is in the inbox.
pub(crate) fn until_taken_in(id: &str, session: &Session) -> String {
    let queue = on(&session.queue);
    format!(
        "the next consumer of queue {} that looks takes it in; `workyard explain {id}{queue}` says what it waits for",
        session.queue
    )
}

fn in_inbox(id: &str, ahead: u64, session: &Session) -> CliError {
    let place = Reason::InInbox { ahead, full: false };
    let clock = Clock {
        now: Moment::from_ms(0),
    };
    let where_it_is = words(&place, session.queue.as_str(), clock);
    CliError::task(format!("task {id} is no task yet: {where_it_is}")).because(&[until_taken_in(id, session)])
}

/// The error of a look or a wait; one that ran out of time also says what the task waits for.
pub(crate) async fn explained(error: Error, session: &Session) -> CliError {
    if let Error::NotFound { queue, id } | Error::NotSeen { queue, id, .. } = &error {
        let not_there = match place_in_inbox(id, session).await {
            InboxPlace::Behind(ahead) => return in_inbox(id, ahead, session),
            InboxPlace::Unseen(unseen) => Error::NotSeen {
                queue: queue.clone(),
                id: id.clone(),
                unseen,
            },
            _ => error.clone(),
        };
        let hint = match job_instead(id, session).await {
            Some(hint) => hint,
            None => looked_in(session).await,
        };
        return CliError::from(not_there).because(&[hint]);
    }
    let Error::Timeout { id, .. } = &error else {
        return away::given_up(error, &session.client);
    };
    // Nothing can be seen then, and nothing else matters.
    if let Some(outage) = away::reason(&session.client) {
        return CliError::from(error).because(&[outage]);
    }
    let look = tokio::time::timeout(LOOK, session.client.explain(&session.queue, id)).await;
    let mut reasons = Vec::new();
    if let Ok(Ok(explanation)) = look {
        let clock = Clock { now: explanation.at };
        // It may have ended since: that is for the next wait to tell.
        let unended = explanation
            .reasons
            .iter()
            .filter(|reason| !matches!(reason, Reason::Ended { .. }));
        reasons.extend(unended.map(|reason| words(reason, &explanation.queue, clock)));
    }
    CliError::from(error).because(&reasons)
}

fn handed_back(kind: &str, times: u32, waiting: u64, due: &str) -> String {
    format!(
        "consumers handed it back {}, as the slots of kind {kind} are taken or it fares badly there; it comes again{due}. \
         About {waiting} tasks of the queue wait so",
        often(times)
    )
}

fn retrying(failures: u32, handed_back: u32, error: Option<&str>, due: &str) -> String {
    let mut times = String::new();
    if failures > 1 {
        times = format!(" {failures} times");
    }
    if handed_back > 0 {
        times.push_str(&format!(", was handed back unharmed {},", often(handed_back)));
    }
    let error = error.map(|text| format!("; its last error: {}", clean(text, SHOWN)));
    format!("it failed{times} and is due{due}{}", error.unwrap_or_default())
}

fn often(times: u32) -> String {
    match times {
        1 => "once".to_owned(),
        _ => format!("{times} times"),
    }
}

/// What holds up a kind.
pub(crate) fn breaker(kind: &str) -> String {
    format!("kind {kind} fails everywhere: its breaker is open, and only a few probes run until one succeeds")
}

/// One reason as a sentence without its end.
pub(crate) fn words(reason: &Reason, queue: &str, clock: Clock) -> String {
    let due = |at: &Option<Moment>| at.map_or_else(String::new, |at| format!(" {}", clock.full(at)));
    match reason {
        Reason::Ended { reason, at, error } => {
            let said = |label: &str, text: &Option<String>| {
                text.as_ref()
                    .map_or_else(String::new, |text| format!("{label}{}", clean(text, SHOWN)))
            };
            let (why, error) = (said(", reason: ", reason), said("; its last error: ", error));
            format!("it has ended{}{why}{error}", due(at))
        }
        Reason::TooLate { at } => format!(
            "its time to start was over {}: it expires when a consumer of the queue looks",
            clock.full(*at)
        ),
        Reason::Running { consumer, since } => {
            let who = consumer.as_deref().unwrap_or("a consumer");
            let since = since.map(|at| format!(" since {}", clock.full(at)));
            // Redis does not know whether it has begun, or was claimed ahead and waits there.
            format!(
                "{who} has held it{}: it runs there, or is next in line for a slot",
                since.unwrap_or_default()
            )
        }
        Reason::HolderGone { consumer, at } => format!(
            "{consumer}, which held it, is gone: its lease ended {}. The next consumer that looks takes the task back",
            clock.full(*at)
        ),
        Reason::NotDue { until } => format!("it is due{}", due(until)),
        Reason::HandedBack {
            kind,
            times,
            waiting,
            until,
        } => handed_back(kind, *times, *waiting, &due(until)),
        Reason::Retrying {
            failures,
            handed_back,
            error,
            until,
        } => retrying(*failures, *handed_back, error.as_deref(), &due(until)),
        Reason::Unhandled { kind, times } => {
            format!(
                "consumers that know no handler for kind {kind} handed it back {}",
                often(*times)
            )
        }
        Reason::Paused => format!("queue {queue} is paused"),
        Reason::BreakerOpen { kind } => breaker(kind),
        Reason::NoConsumer { alive: 0 } => format!("no consumer serves queue {queue} now"),
        Reason::NoConsumer { alive } => {
            format!(
                "no healthy consumer serves queue {queue} now: {alive} alive, but draining or with an open circuit, \
                 which gets single probes (`workyard consumers` says which)"
            )
        }
        Reason::Queued { ahead, .. } => queued(*ahead, pace(reason)),
        Reason::InInbox { ahead, full } => {
            let waits = if *full {
                ", which waits for room: the queue is full"
            } else {
                ""
            };
            format!("it is still in the inbox of queue {queue} behind {ahead} others{waits}")
        }
        // A reason that a later version of the library knows.
        other => format!("{other:?}"),
    }
}

/// In how many ms a task starts that is queued, and how many leave per second.
fn pace(reason: &Reason) -> Option<(u64, f64)> {
    match reason {
        Reason::Queued {
            starts_in_ms,
            drain_per_second,
            ..
        } => starts_in_ms.zip(*drain_per_second),
        _ => None,
    }
}

fn queued(ahead: u64, pace: Option<(u64, f64)>) -> String {
    let place = match ahead {
        0 => return "it is the next to be claimed".to_owned(),
        1 => "1 task is claimed before it".to_owned(),
        n => format!("{n} tasks are claimed before it"),
    };
    let Some((ms, rate)) = pace else { return place };
    // Nobody reads milliseconds of an estimate.
    let start = duration::format(Duration::from_secs((ms / 1000).max(1)));
    let digits = if rate < 10.0 { 1 } else { 0 };
    format!("{place}; at the pace of its consumers, {rate:.digits$} a second, it starts in about {start}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_proposed_means_the_queue_that_is_meant() {
        assert_eq!(on(&QueueName::new("texts").unwrap()), " -q texts");
    }

    #[test]
    fn a_reason_is_told_in_words_that_cannot_drive_the_terminal() {
        let clock = Clock {
            now: Moment::from_ms(1_700_000_000_000),
        };
        let table = [
            (
                Reason::Queued {
                    ahead: 12,
                    starts_in_ms: Some(61_900),
                    drain_per_second: Some(0.21),
                },
                "12 tasks are claimed before it; at the pace of its consumers, 0.2 a second, it starts in about 1m 1s",
            ),
            (
                Reason::Queued {
                    ahead: 0,
                    starts_in_ms: None,
                    drain_per_second: None,
                },
                "it is the next to be claimed",
            ),
            (
                Reason::Retrying {
                    failures: 2,
                    handed_back: 0,
                    error: Some("no\u{1b}[31m".to_owned()),
                    until: Some(Moment::from_ms(1_700_000_004_000)),
                },
                "it failed 2 times and is due 2023-11-14 22:13:24 UTC (in 4s); its last error: no\\u{1b}[31m",
            ),
            (
                Reason::Retrying {
                    failures: 1,
                    handed_back: 3,
                    error: None,
                    until: None,
                },
                "it failed, was handed back unharmed 3 times, and is due",
            ),
            (
                Reason::InInbox { ahead: 3, full: true },
                "it is still in the inbox of queue q behind 3 others, which waits for room: the queue is full",
            ),
        ];
        for (reason, text) in table {
            assert_eq!(words(&reason, "q", clock), text);
        }
    }
}
