//! Counters and depths of queues, and what happened in each minute of the last day.
//!
//! Invariant: the numbers are those that the functions keep, exact; this module only subtracts. Two
//! queues are read one after the other, so sums over them are not of one moment.

use std::collections::BTreeMap;

use serde::Serialize;
use workyard_shared::broker::{COUNTERS, Overview};
use workyard_shared::name::QueueName;

use crate::client::Client;
use crate::error::Error;
use crate::moment::Moment;

/// Minutes that are kept.
const DAY: u64 = 1440;

/// What is in a queue and what has happened there.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// The queue.
    pub queue: String,
    /// Tasks that wait for a consumer.
    pub pending: u64,
    /// Delayed tasks and retries.
    pub scheduled: u64,
    /// About how many of these were handed back unstarted, because their kind is full or its breaker open, and wait as what is
    /// pending does.
    pub handed_back: u64,
    /// Tasks that consumers hold.
    pub running: u64,
    /// Dead letters.
    pub failed: u64,
    /// Results still kept.
    pub results: u64,
    /// Raw items that wait to be ingested.
    pub inbox: u64,
    /// Consumers with a session lease.
    pub consumers: u64,
    /// Whether nothing is handed out.
    pub paused: bool,
    /// Since when the oldest pending task is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pending: Option<Moment>,
    /// Every counter by name.
    pub totals: BTreeMap<String, u64>,
    /// Counters by kind, then by name.
    pub kinds: BTreeMap<String, BTreeMap<String, u64>>,
    /// When this was so.
    pub at: Moment,
}

/// What happened in a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MinuteCounts {
    /// The beginning of the minute.
    pub minute: Moment,
    /// Counters that changed in it.
    pub counts: BTreeMap<&'static str, u64>,
}

impl QueueStats {
    fn new(queue: &QueueName, overview: Overview, inbox: u64) -> Self {
        let mut totals = overview.totals;
        for name in COUNTERS {
            totals.entry(name.to_owned()).or_default();
        }
        Self {
            queue: queue.to_string(),
            pending: overview.pending,
            scheduled: overview.scheduled,
            handed_back: overview.handed_back,
            running: overview.running,
            failed: overview.failed,
            results: overview.results,
            inbox,
            consumers: overview.consumers,
            paused: overview.paused,
            oldest_pending: overview.oldest_ms.map(Moment::from_ms),
            totals,
            kinds: overview.kinds,
            at: Moment::from_ms(overview.now_ms),
        }
    }

    /// Whether nobody ever used the queue, as far as Redis knows.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.totals.values().all(|n| *n == 0)
            && self.pending + self.scheduled + self.running + self.failed + self.results + self.inbox + self.consumers
                == 0
    }
}

/// The counts of each minute of the last day. A snapshot holds the totals before a minute's first
/// change, so what happened in it is the difference to the next one, or to the totals of now.
fn minute_counts(mut rows: Vec<(u64, Vec<u64>)>, totals: &BTreeMap<String, u64>, now_ms: u64) -> Vec<MinuteCounts> {
    let now = now_ms / 60_000;
    rows.push((
        u64::MAX,
        COUNTERS
            .iter()
            .map(|name| totals.get(*name).copied().unwrap_or_default())
            .collect(),
    ));
    let recent = rows.windows(2).filter(|pair| pair[0].0 + DAY > now);
    recent
        .map(|pair| {
            let change = |i: usize| {
                pair[1]
                    .1
                    .get(i)
                    .copied()
                    .unwrap_or_default()
                    .saturating_sub(pair[0].1.get(i).copied().unwrap_or_default())
            };
            let counts = COUNTERS
                .iter()
                .enumerate()
                .map(|(i, name)| (*name, change(i)))
                .filter(|(_, n)| *n > 0)
                .collect();
            MinuteCounts {
                minute: Moment::from_ms(pair[0].0 * 60_000),
                counts,
            }
        })
        .collect()
}

impl Client {
    /// The queues that client libraries and consumers have used.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn queues(&self) -> Result<Vec<QueueName>, Error> {
        self.patiently(|| self.inner.broker.queues()).await
    }

    /// Depths and counters of a queue.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn stats(&self, queue: &QueueName) -> Result<QueueStats, Error> {
        let calls = self.queue(queue);
        let overview = self.patiently(|| calls.overview()).await?;
        let inbox = self.patiently(|| calls.inbox_len()).await?;
        Ok(QueueStats::new(queue, overview, inbox))
    }

    /// What happened in each minute of the last 24 hours in which something did, oldest first.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn minutes(&self, queue: &QueueName) -> Result<Vec<MinuteCounts>, Error> {
        let calls = self.queue(queue);
        let rows = self.patiently(|| calls.minutes()).await?;
        let overview = self.patiently(|| calls.overview()).await?;
        Ok(minute_counts(rows, &overview.totals, overview.now_ms))
    }

    /// Refused inbox items, newest first, as JSON text with reason and raw item.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn rejected(&self, queue: &QueueName, most: u64) -> Result<Vec<String>, Error> {
        let calls = self.queue(queue);
        self.patiently(|| calls.rejected(most)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_count_is_the_difference_of_two_snapshots() {
        let row = |minute, submitted, completed| (minute, vec![submitted, completed]);
        let totals = BTreeMap::from([("submitted".to_owned(), 9), ("completed".to_owned(), 5)]);
        let rows = vec![row(10, 0, 0), row(3000, 4, 0), row(3002, 6, 5)];
        let counts = minute_counts(rows, &totals, 3002 * 60_000);
        let expected = [
            (3000, vec![("completed", 5), ("submitted", 2)]),
            (3002, vec![("submitted", 3)]),
        ];
        assert_eq!(counts.len(), expected.len());
        for (found, (minute, changes)) in counts.iter().zip(expected) {
            assert_eq!(found.minute, Moment::from_ms(minute * 60_000));
            assert_eq!(found.counts, BTreeMap::from_iter(changes));
        }
    }

    /// The ring as `lua/stats.lua` keeps it: before the first change of a minute the totals go to that minute's place.
    #[derive(Default)]
    struct Ring {
        places: BTreeMap<u64, (u64, Vec<u64>)>,
        submitted: u64,
    }

    impl Ring {
        fn submit(&mut self, minute: u64, n: u64) {
            let before = vec![self.submitted];
            let place = self.places.entry(minute % DAY).or_insert((minute, before.clone()));
            if place.0 != minute {
                *place = (minute, before);
            }
            self.submitted += n;
        }

        /// What is told at this minute: minute and count of each.
        fn told(&self, now: u64) -> Vec<(Moment, u64)> {
            let mut rows: Vec<_> = self.places.values().cloned().collect();
            rows.sort_unstable();
            let totals = BTreeMap::from([("submitted".to_owned(), self.submitted)]);
            let counts = minute_counts(rows, &totals, now * 60_000 + 59_999);
            counts
                .iter()
                .map(|of| (of.minute, of.counts.get("submitted").copied().unwrap_or(0)))
                .collect()
        }
    }

    #[test]
    fn the_ring_of_minutes_tells_the_last_day_however_often_it_went_round() {
        let first = 29_934_000; // some minute of 2026
        let mut ring = Ring::default();
        for minute in first..first + 2 * DAY + 61 {
            ring.submit(minute, minute - first);
            if !(minute - first).is_multiple_of(97) {
                continue;
            }
            let told = ring.told(minute);
            let oldest = (minute + 1).saturating_sub(DAY).max(first);
            let wanted: Vec<_> = (oldest..=minute)
                .map(|at| (Moment::from_ms(at * 60_000), at - first))
                .collect();
            assert_eq!(told, wanted, "{} minutes after the first", minute - first);
        }
        // Rows of before a rest that is longer than an hour, and than a day, are not taken for those of now.
        let rested = first + 4 * DAY + 7;
        ring.submit(rested, 3);
        assert_eq!(ring.told(rested), [(Moment::from_ms(rested * 60_000), 3)]);
        ring.submit(rested + 61, 2);
        assert_eq!(ring.told(rested + 61).last().unwrap().1, 2);
        assert_eq!(ring.told(rested + 61).len(), 2);
    }
}
