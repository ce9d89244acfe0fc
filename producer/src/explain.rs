//! Why a task is not running, or that it is.
//!
//! Invariant: every reason is a fact of one moment, seen in Redis; an estimate is given only where a pace was measured.
//! What the words are is for whoever shows them. Reads only, in a handful of bounded looks.

use serde::Serialize;
use workyard_shared::Error as CallError;
use workyard_shared::balance::{Breaker, Bulletin};
use workyard_shared::broker::Queue;
use workyard_shared::name::QueueName;
use workyard_shared::record::State;

use crate::client::Client;
use crate::error::Error;
use crate::inbox::InboxPlace;
use crate::moment::Moment;
use crate::reason::Reason;
use crate::serving::Serving;
use crate::signals::Pace;
use crate::stats::QueueStats;
use crate::view::TaskView;

/// What is to be said of a task at a moment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The task.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Where in its life it is; absent while it is in the inbox only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Everything that keeps it from running; what must happen first stands first.
    pub reasons: Vec<Reason>,
    /// When this was so.
    pub at: Moment,
}

/// What the reasons are found in.
struct Facts<'a> {
    view: &'a TaskView,
    stats: &'a QueueStats,
    serving: Serving,
    pace: Pace,
    /// What the maintainer says of the fleet.
    bulletin: Bulletin,
    /// Tasks that are claimed before it, if it is pending.
    ahead: Option<u64>,
    /// When the lease of the consumer that holds it ended, if it is over.
    lease_ended: Option<Moment>,
}

/// What lies with the kind and not with the queue.
fn breakers(facts: &Facts<'_>) -> Option<Reason> {
    let kind = facts.bulletin.fleet.kinds.get(&facts.view.kind)?;
    (kind.breaker != Breaker::Closed).then(|| Reason::BreakerOpen {
        kind: facts.view.kind.clone(),
    })
}

/// Of what a consumer holds.
fn held(facts: &Facts<'_>) -> Vec<Reason> {
    let Facts { view, serving, .. } = facts;
    let mut reasons = vec![match (facts.lease_ended, &view.consumer) {
        (Some(at), Some(consumer)) => Reason::HolderGone {
            consumer: consumer.clone(),
            at,
        },
        _ => Reason::Running {
            consumer: view.consumer.clone(),
            since: view.started_at,
        },
    }];
    if facts.lease_ended.is_some() && serving.alive == 0 {
        reasons.push(Reason::NoConsumer { alive: 0 });
    }
    reasons
}

fn reasons(facts: &Facts<'_>) -> Vec<Reason> {
    let Facts {
        view, stats, serving, ..
    } = facts;
    let mut reasons = Vec::new();
    // Those by consumers that know no handler are a reason of their own.
    let other_releases = view.releases.saturating_sub(view.unhandled);
    match view.state {
        State::Completed | State::Failed | State::Cancelled | State::Expired => {
            let reason = view.reason.clone().filter(|word| word != view.state.as_str());
            return vec![Reason::Ended {
                reason,
                at: view.finished_at,
                error: view.error.clone(),
            }];
        }
        State::Running => return held(facts),
        State::Retrying => reasons.push(Reason::Retrying {
            failures: view.failures,
            handed_back: other_releases,
            error: view.error.clone(),
            until: view.due_at,
        }),
        State::Scheduled if other_releases > 0 => reasons.push(Reason::HandedBack {
            kind: view.kind.clone(),
            times: other_releases,
            waiting: stats.handed_back.max(1),
            until: view.due_at,
        }),
        State::Scheduled => reasons.push(Reason::NotDue { until: view.due_at }),
        State::Pending => {}
    }
    if let Some(at) = view.expires_at.filter(|at| *at <= stats.at) {
        reasons.push(Reason::TooLate { at });
    }
    if view.unhandled > 0 {
        reasons.push(Reason::Unhandled {
            kind: view.kind.clone(),
            times: view.unhandled,
        });
    }
    if stats.paused {
        reasons.push(Reason::Paused);
    }
    if serving.healthy == 0 {
        reasons.push(Reason::NoConsumer { alive: serving.alive });
    }
    reasons.extend(breakers(facts));
    if let Some(ahead) = facts.ahead {
        // What nothing else holds up starts when those before it have gone; where more than these are handed back, a full kind
        // is in the way, and the pace of all says nothing of one.
        let by_pace = reasons.is_empty() && stats.handed_back <= ahead;
        // With all slots taken one of those that run has to end, too.
        let before = ahead + u64::from(stats.running >= serving.slots);
        let starts_in_ms = facts.pace.takes_ms(before).filter(|_| by_pace);
        reasons.push(Reason::Queued {
            ahead,
            starts_in_ms,
            drain_per_second: starts_in_ms.map(|_| (facts.pace.clears * 1000.0).round() / 1000.0),
        });
    }
    reasons
}

impl Client {
    /// Kinds of a queue that fail everywhere: their breaker is open or half-open, and their tasks wait.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn broken_kinds(&self, queue: &QueueName) -> Result<Vec<String>, Error> {
        let fleet = self.bulletin(&self.queue(queue)).await?.fleet;
        let broken = fleet
            .kinds
            .into_iter()
            .filter(|(_, figures)| figures.breaker != Breaker::Closed);
        Ok(broken.map(|(kind, _)| kind).collect())
    }

    /// One that is of another release says nothing.
    async fn bulletin(&self, calls: &Queue) -> Result<Bulletin, Error> {
        let json = self.patiently(|| calls.fleet()).await?.unwrap_or_default();
        Ok(serde_json::from_str(&json).unwrap_or_default())
    }

    /// Why a task is not running, what it waits for, and about when it starts.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not here, not in the inbox either, and no result of it is kept; [`Error::NotSeen`] if
    /// the inbox has more than the 1,000 items that are looked at; [`Error::Call`].
    pub async fn explain(&self, queue: &QueueName, id: &str) -> Result<Explanation, Error> {
        let view = self.task(queue, id).await;
        let stats = self.stats(queue).await?;
        let serving = self.serving(queue).await?;
        let (state, reasons) = match view {
            Ok(view) => {
                let calls = self.queue(queue);
                let ahead = self.patiently(|| calls.rank(id)).await?;
                let lease_ended = match (view.state, &view.consumer) {
                    (State::Running, Some(holder)) => self.lease_ended(&calls, holder, stats.at).await?,
                    _ => None,
                };
                let facts = Facts {
                    lease_ended,
                    view: &view,
                    stats: &stats,
                    serving,
                    pace: self.pace(queue, &stats, serving).await?,
                    bulletin: self.bulletin(&calls).await?,
                    ahead: ahead.filter(|_| view.state == State::Pending),
                };
                (Some(view.state), reasons(&facts))
            }
            Err(error @ Error::NotFound { .. }) => {
                let ahead = match self.place_in_inbox(queue, id).await? {
                    InboxPlace::Behind(ahead) => ahead,
                    InboxPlace::Unseen(unseen) => {
                        let (queue, id) = (queue.to_string(), id.to_owned());
                        return Err(Error::NotSeen { queue, id, unseen });
                    }
                    InboxPlace::Absent => return Err(error),
                };
                (None, self.in_inbox(queue, &stats, serving, ahead).await?)
            }
            Err(error) => return Err(error),
        };
        Ok(Explanation {
            id: id.to_owned(),
            queue: queue.to_string(),
            state,
            reasons,
            at: stats.at,
        })
    }

    async fn lease_ended(&self, calls: &Queue, holder: &str, now: Moment) -> Result<Option<Moment>, Error> {
        let consumers = self.patiently(|| calls.consumers()).await?;
        let ends = consumers.into_iter().find(|(session, _)| session.as_str() == holder);
        Ok(ends.map(|(_, ms)| Moment::from_ms(ms)).filter(|at| *at <= now))
    }

    async fn in_inbox(
        &self,
        queue: &QueueName,
        stats: &QueueStats,
        serving: Serving,
        ahead: u64,
    ) -> Result<Vec<Reason>, Error> {
        let calls = self.queue(queue);
        let full = match self.patiently(|| calls.inbox_is_blocked()).await {
            // A user of old rules, who may not ask how much memory the tasks take.
            Err(Error::Call(CallError::Denied(_))) => {
                let settings = self.settings(queue).await?;
                settings.max_pending > 0 && stats.pending + stats.handed_back >= settings.max_pending
            }
            other => other?,
        };
        let mut reasons = vec![Reason::InInbox { ahead, full }];
        // It comes in all the same, where there is room; but no room comes, and it would not run.
        if stats.paused {
            reasons.push(Reason::Paused);
        }
        if serving.healthy == 0 {
            reasons.push(Reason::NoConsumer { alive: serving.alive });
        }
        Ok(reasons)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn stats(paused: bool) -> QueueStats {
        QueueStats {
            queue: "q".to_owned(),
            pending: 9,
            scheduled: 0,
            handed_back: 0,
            running: 0,
            failed: 0,
            results: 0,
            inbox: 0,
            consumers: 1,
            paused,
            oldest_pending: None,
            totals: BTreeMap::new(),
            kinds: BTreeMap::new(),
            at: Moment::from_ms(1000),
        }
    }

    #[test]
    fn what_was_handed_back_is_not_merely_delayed_and_where_many_are_no_start_is_promised() {
        let mut view = TaskView::bare(&QueueName::new("q").unwrap(), "a", State::Scheduled);
        (view.kind, view.releases) = ("k".to_owned(), 7);
        let mut stats = stats(false);
        stats.handed_back = 40;
        let mut facts = facts_of(&view, &stats);
        let handed_back = Reason::HandedBack {
            kind: "k".to_owned(),
            times: 7,
            waiting: 40,
            until: None,
        };
        assert_eq!(reasons(&facts), [handed_back]);
        let pending = TaskView::bare(&QueueName::new("q").unwrap(), "b", State::Pending);
        (facts.view, facts.ahead) = (&pending, Some(6));
        let queued = Reason::Queued {
            ahead: 6,
            starts_in_ms: None,
            drain_per_second: None,
        };
        assert_eq!(reasons(&facts), [queued]);
    }

    fn facts_of<'a>(view: &'a TaskView, stats: &'a QueueStats) -> Facts<'a> {
        Facts {
            view,
            stats,
            serving: Serving {
                alive: 1,
                healthy: 1,
                slots: 1,
                rate: 0.0,
            },
            pace: Pace {
                arrival: 0.0,
                drain: 2.0,
                clears: 2.0,
            },
            bulletin: Bulletin::default(),
            lease_ended: None,
            ahead: None,
        }
    }

    fn find(state: State, unhandled: u32, paused: bool, alive: u64, healthy: u64, drain: f64) -> Vec<Reason> {
        let mut view = TaskView::bare(&QueueName::new("q").unwrap(), "a", state);
        view.kind = "k".to_owned();
        view.unhandled = unhandled;
        let stats = stats(paused);
        let mut facts = facts_of(&view, &stats);
        (facts.serving.alive, facts.serving.healthy, facts.serving.slots) = (alive, healthy, healthy);
        (facts.pace.drain, facts.pace.clears) = (drain, drain);
        facts.ahead = (state == State::Pending).then_some(6);
        reasons(&facts)
    }

    #[test]
    fn each_state_has_its_reasons_and_what_must_happen_first_stands_first() {
        let queued = |starts_in_ms: Option<u64>| Reason::Queued {
            ahead: 6,
            starts_in_ms,
            drain_per_second: starts_in_ms.map(|_| 2.0),
        };
        let none = Reason::NoConsumer { alive: 0 };
        let table = [
            (find(State::Pending, 0, false, 1, 1, 2.0), vec![queued(Some(3000))]),
            (find(State::Pending, 0, false, 1, 1, 0.0), vec![queued(None)]),
            (
                find(State::Pending, 0, true, 1, 1, 2.0),
                vec![Reason::Paused, queued(None)],
            ),
            (
                find(State::Pending, 0, true, 0, 0, 2.0),
                vec![Reason::Paused, none.clone(), queued(None)],
            ),
            (
                find(State::Pending, 2, false, 3, 0, 2.0),
                vec![
                    Reason::Unhandled {
                        kind: "k".to_owned(),
                        times: 2,
                    },
                    Reason::NoConsumer { alive: 3 },
                    queued(None),
                ],
            ),
            (
                find(State::Scheduled, 0, false, 0, 0, 2.0),
                vec![Reason::NotDue { until: None }, none],
            ),
            (
                find(State::Retrying, 0, false, 1, 1, 2.0),
                vec![Reason::Retrying {
                    failures: 0,
                    handed_back: 0,
                    error: None,
                    until: None,
                }],
            ),
            (
                find(State::Running, 0, true, 1, 1, 2.0),
                vec![Reason::Running {
                    consumer: None,
                    since: None,
                }],
            ),
            (
                find(State::Expired, 0, true, 0, 0, 2.0),
                vec![Reason::Ended {
                    reason: None,
                    at: None,
                    error: None,
                }],
            ),
        ];
        for (found, expected) in table {
            assert_eq!(found, expected);
        }
    }
}
