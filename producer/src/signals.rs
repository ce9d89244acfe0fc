//! Signals for autoscalers: how much waits, how fast it comes and goes, and how many consumers that wants.
//!
//! Pure arithmetic on what the functions count. Invariant: nothing is made up: without a measured pace there is no
//! estimate. Rates are those of the last five complete minutes and the current one, counted from the first of them in
//! which something happened. How fast a backlog goes is measured only while there is one: minutes in which nobody had
//! anything to do say nothing about it, and until there is a whole one, run times and slots do. It scales nothing itself.

use std::collections::BTreeMap;

use serde::Serialize;
use workyard_shared::broker::COUNTERS;
use workyard_shared::name::QueueName;

use crate::client::Client;
use crate::error::Error;
use crate::serving::Serving;
use crate::stats::QueueStats;

/// Complete minutes that a rate looks back.
const MINUTES: u64 = 5;
/// In how many seconds the wanted consumers would be done with the backlog, while keeping up with what arrives.
const CATCH_UP: f64 = 60.0;

/// Tasks per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Pace {
    /// That came in.
    pub(crate) arrival: f64,
    /// That left by themselves: completed, failed or expired. Those shed or cancelled are no work that was done.
    pub(crate) drain: f64,
    /// That would leave while there is a backlog.
    pub(crate) clears: f64,
}

/// Totals at the beginning of a minute.
type Row = (u64, Vec<u64>);

impl Pace {
    /// From the totals of now and at the beginning of each minute, oldest first, in which they changed; since when there is
    /// a backlog; and what the consumers could do.
    fn of(rows: &[Row], totals: &BTreeMap<String, u64>, now_ms: u64, since_ms: Option<u64>, able: f64) -> Self {
        let (arrival, drain) = rows.first().map_or((0.0, 0.0), |row| rates(row, totals, now_ms));
        let busy = |(minute, _): &&Row| {
            since_ms.is_some_and(|since| minute * 60_000 >= since && now_ms.saturating_sub(minute * 60_000) >= 60_000)
        };
        let clears = match rows.iter().find(busy) {
            Some(row) => rates(row, totals, now_ms).1,
            None if able > 0.0 => able.max(drain),
            None => drain,
        };
        Self { arrival, drain, clears }
    }

    /// How long this many tasks take, in ms; `None` if nothing drains.
    pub(crate) fn takes_ms(&self, tasks: u64) -> Option<u64> {
        (self.clears > 0.0).then(|| (tasks as f64 / self.clears * 1000.0).round() as u64)
    }
}

/// What came in and left per second since the beginning of a minute.
fn rates((minute, before): &Row, totals: &BTreeMap<String, u64>, now_ms: u64) -> (f64, f64) {
    let change = |name: &str| {
        let place = COUNTERS.iter().position(|counter| *counter == name);
        let then = place.and_then(|place| before.get(place)).copied().unwrap_or_default();
        totals.get(name).copied().unwrap_or_default().saturating_sub(then)
    };
    // What somebody cancelled says nothing of how fast the rest will go.
    let left = change("completed") + change("failed") + change("expired");
    // A second at least: the first task of a minute is no rate.
    let span = now_ms.saturating_sub(minute * 60_000).max(1000) as f64 / 1000.0;
    (
        change("submitted") as f64 / span,
        left.saturating_sub(change("shed")) as f64 / span,
    )
}

/// What an autoscaler wants to know of a queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Signals {
    /// Tasks that could run now: pending, handed back for a while because their kind is full or its breaker open, and raw items
    /// that wait to be ingested.
    pub backlog: u64,
    /// How long the oldest pending task has been so, in ms; absent if nothing is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending_ms: Option<u64>,
    /// Tasks that came in per second.
    pub arrival_per_second: f64,
    /// Tasks that completed, failed for good or expired, per second.
    pub drain_per_second: f64,
    /// How long the backlog of now takes at this pace, in ms; absent if nothing drains: the queue is paused, no consumer is well, or some kind's
    /// breaker is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_drain_ms: Option<u64>,
    /// Consumers that are alive and well.
    pub healthy_consumers: u64,
    /// Tasks that they can run at once.
    pub slots: u64,
    /// How many consumers like these would keep up with what arrives and be done with the backlog in a minute;
    /// absent while there is no pace to tell from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_consumers: Option<u64>,
}

impl Signals {
    /// `stuck`: some kind's breaker is open, and more consumers would help what was handed back to nothing.
    fn of(stats: &QueueStats, pace: Pace, serving: Serving, stuck: bool) -> Self {
        let backlog = stats.pending + stats.inbox + stats.handed_back;
        let moves = if stuck { backlog - stats.handed_back } else { backlog };
        let holds = stats.paused || serving.healthy == 0 || stuck;
        // Behind an open breaker only what leaves is work for more consumers: the rest of what comes in is handed back.
        let arrival = if stuck {
            pace.arrival.min(pace.drain)
        } else {
            pace.arrival
        };
        let rounded = |rate: f64| (rate * 1000.0).round() / 1000.0;
        Self {
            backlog,
            oldest_pending_ms: stats.oldest_pending.map(|at| stats.at.ms().saturating_sub(at.ms())),
            arrival_per_second: rounded(pace.arrival),
            drain_per_second: rounded(pace.drain),
            time_to_drain_ms: match backlog {
                0 => Some(0),
                _ => pace.takes_ms(backlog).filter(|_| !holds),
            },
            healthy_consumers: serving.healthy,
            slots: serving.slots,
            wanted_consumers: wanted(moves, stats.running, Pace { arrival, ..pace }, serving),
        }
    }
}

/// How many consumers the work wants.
fn wanted(backlog: u64, running: u64, pace: Pace, serving: Serving) -> Option<u64> {
    if serving.healthy == 0 || serving.slots == 0 {
        // One will show the pace.
        return Some(u64::from(backlog > 0 || pace.arrival > 0.0));
    }
    if backlog == 0 && running == 0 && pace.arrival == 0.0 {
        return Some(0);
    }
    // With a backlog every slot works; without one only those that run something made this pace.
    let (pace_of_busy, busy) = if backlog > 0 {
        (pace.clears, serving.slots)
    } else {
        (pace.drain, running.clamp(1, serving.slots))
    };
    if pace_of_busy == 0.0 {
        return None;
    }
    let per_slot = pace_of_busy / busy as f64;
    let slots = (pace.arrival + backlog as f64 / CATCH_UP) / per_slot;
    let consumers = slots / (serving.slots as f64 / serving.healthy as f64);
    Some((consumers.ceil() as u64).max(1))
}

impl Client {
    /// The pace of a queue in the last minutes.
    pub(crate) async fn pace(&self, queue: &QueueName, stats: &QueueStats, serving: Serving) -> Result<Pace, Error> {
        let calls = self.queue(queue);
        let minute = stats.at.ms() / 60_000;
        let first = minute.saturating_sub(MINUTES);
        let rows = self.patiently(|| calls.minutes_between(first, minute)).await?;
        let since = stats.oldest_pending.map(|at| at.ms());
        Ok(Pace::of(&rows, &stats.totals, stats.at.ms(), since, serving.rate))
    }

    /// The signals of a queue, for these statistics of it.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn signals(&self, queue: &QueueName, stats: &QueueStats) -> Result<Signals, Error> {
        let serving = self.serving(queue).await?;
        let pace = self.pace(queue, stats, serving).await?;
        let stuck = stats.handed_back > 0 && !self.broken_kinds(queue).await?.is_empty();
        Ok(Signals::of(stats, pace, serving, stuck))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(submitted: u64, completed: u64, failed: u64, shed: u64) -> BTreeMap<String, u64> {
        let named = [
            ("submitted", submitted),
            ("completed", completed),
            ("failed", failed),
            ("shed", shed),
        ];
        named.map(|(name, n)| (name.to_owned(), n)).into()
    }

    /// Submitted, completed, failed; the places behind them are zero.
    fn row(minute: u64, submitted: u64, completed: u64, failed: u64) -> (u64, Vec<u64>) {
        (minute, vec![submitted, completed, failed])
    }

    #[test]
    fn the_pace_counts_from_the_first_of_the_minutes_in_which_something_happened() {
        let table = [
            // rows, totals, ms into minute 10, arrival, drain
            (vec![], totals(9, 9, 9, 0), 0, 0.0, 0.0),
            (vec![row(10, 0, 0, 0)], totals(60, 30, 0, 0), 30_000, 2.0, 1.0),
            // Half a second into the minute is taken for a second.
            (vec![row(10, 0, 0, 0)], totals(5, 0, 0, 0), 500, 5.0, 0.0),
            (
                vec![row(9, 40, 10, 0), row(10, 100, 50, 0)],
                totals(220, 100, 0, 0),
                30_000,
                2.0,
                1.0,
            ),
            (vec![row(5, 0, 0, 0)], totals(330, 0, 66, 33), 30_000, 1.0, 0.1),
        ];
        for (rows, totals, into, arrival, drain) in table {
            let pace = Pace::of(&rows, &totals, 600_000 + into, None, 0.0);
            let clears = drain;
            assert_eq!(pace, Pace { arrival, drain, clears }, "{rows:?}");
        }
    }

    #[test]
    fn a_backlog_goes_as_fast_as_it_went_while_it_was_there_or_as_its_consumers_could() {
        // 60 ended in minute 8, 600 in minute 9, 300 in the 30 s of minute 10.
        let rows = [row(8, 0, 0, 0), row(9, 0, 60, 0), row(10, 0, 660, 0)];
        let clears = |since_ms: Option<u64>, able: f64| {
            let pace = Pace::of(&rows, &totals(0, 960, 0, 0), 630_000, since_ms, able);
            assert_eq!(pace.drain, 960.0 / 150.0);
            pace.clears
        };
        assert_eq!(clears(Some(470_000), 99.0), 960.0 / 150.0, "since minute 7");
        assert_eq!(clears(Some(500_000), 99.0), 10.0, "minute 8 was half idle");
        assert_eq!(clears(Some(550_000), 99.0), 99.0, "no whole minute of it yet");
        assert_eq!(clears(Some(550_000), 0.0), 6.4, "and nobody says how long a run takes");
        assert_eq!(clears(Some(550_000), 3.0), 6.4, "they did more than that");
        assert_eq!(clears(None, 99.0), 99.0);
    }

    #[test]
    fn wanted_consumers_keep_up_and_are_done_with_the_backlog_in_a_minute() {
        let table = [
            // backlog, running, arrival, drain, healthy, slots, wanted
            (0, 0, 0.0, 0.0, 0, 0, Some(0)),
            (0, 0, 0.0, 0.0, 4, 32, Some(0)),
            (0, 0, 1.0, 0.0, 0, 0, Some(1)),
            (500, 0, 0.0, 0.0, 0, 0, Some(1)),
            // Nothing has ended yet: no pace to tell from.
            (500, 8, 9.0, 0.0, 1, 8, None),
            // 8 slots do 8/s: 16/s arriving want two, and 480 more in a minute a third one.
            (480, 8, 16.0, 8.0, 1, 8, Some(3)),
            // All at once and nothing more: 60,000 in a minute at 10/s each.
            (60_000, 80, 0.0, 100.0, 10, 80, Some(100)),
            // No backlog: ten consumers with one task running are nine too many.
            (0, 1, 1.0, 1.0, 10, 10, Some(1)),
            (0, 8, 8.0, 8.0, 10, 10, Some(8)),
            // More held than slots (read ahead) is not more than all of them.
            (0, 40, 8.0, 8.0, 2, 8, Some(2)),
        ];
        for (backlog, running, arrival, drain, healthy, slots, expected) in table {
            let serving = Serving {
                alive: healthy,
                healthy,
                slots,
                rate: 0.0,
            };
            let found = wanted(
                backlog,
                running,
                Pace {
                    arrival,
                    drain,
                    clears: drain,
                },
                serving,
            );
            assert_eq!(found, expected, "{backlog} {running} {arrival} {drain} {serving:?}");
        }
    }

    #[test]
    fn a_backlog_takes_as_long_as_its_pace_says_and_nobody_knows_without_one() {
        let pace = Pace {
            arrival: 0.0,
            drain: 1.0,
            clears: 2.0,
        };
        assert_eq!((pace.takes_ms(0), pace.takes_ms(9)), (Some(0), Some(4500)));
        assert_eq!(Pace::default().takes_ms(9), None);
    }
}
