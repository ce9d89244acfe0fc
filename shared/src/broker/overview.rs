//! overview: depths and counters of a queue, read in one step. Reads only.

use std::collections::BTreeMap;

use redis::Value;

use super::{Queue, reply};
use crate::error::Error;

/// The counters, in the order in which `lua/stats.lua` writes a minute's snapshot.
pub const COUNTERS: [&str; 18] = [
    "submitted",
    "completed",
    "failed",
    "retried",
    "cancelled",
    "expired",
    "reclaimed",
    "released",
    "stale",
    "rejected",
    "trimmed",
    "deleted",
    "duplicate",
    "requeued",
    "purged",
    "shed",
    "jobs_failed",
    "promoted",
];

/// Depths, settings and counters of a queue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// Tasks that wait for a consumer.
    pub pending: u64,
    /// Delayed tasks and retries.
    pub scheduled: u64,
    /// About how many of the scheduled were handed back unstarted, and wait as what is pending does.
    pub handed_back: u64,
    /// Tasks that a consumer holds.
    pub running: u64,
    /// The dead-letter set.
    pub failed: u64,
    /// Results still kept.
    pub results: u64,
    /// Consumers that wait for work.
    pub parked: u64,
    /// Consumers with a session lease.
    pub consumers: u64,
    /// Whether nothing is handed out.
    pub paused: bool,
    /// Redis' clock, ms.
    pub now_ms: u64,
    /// Since when the oldest pending task is pending, ms; `None`: nothing is.
    pub oldest_ms: Option<u64>,
    /// Counters by name.
    pub totals: BTreeMap<String, u64>,
    /// Counters by kind, then by name.
    pub kinds: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Overview {
    /// Reads the answer of the function.
    pub(super) fn read(answer: Value) -> Result<Self, Error> {
        let items = reply::array(answer)?;
        if items.len() < 10 {
            return Err(Error::Protocol("a short overview".to_owned()));
        }
        let n: Vec<u64> = items[..9].iter().map(reply::count).collect::<Result<_, _>>()?;
        let mut overview = Self {
            pending: n[0],
            scheduled: n[1],
            failed: n[2],
            // Every live task has exactly one place, so those in no set are held by consumers.
            running: n[3].saturating_sub(n[0] + n[1] + n[2]),
            results: n[4],
            parked: n[5],
            consumers: n[6],
            paused: n[7] == 1,
            now_ms: n[8],
            // '' when there is none.
            oldest_ms: reply::count(&items[9]).ok(),
            ..Self::default()
        };
        let mut stats = items.into_iter().skip(10);
        while let (Some(name), Some(value)) = (stats.next(), stats.next()) {
            overview.add(&reply::string(name)?, reply::count(&value)?);
        }
        overview.handed_back = overview.totals.remove("handed_back").unwrap_or_default();
        Ok(overview)
    }

    fn add(&mut self, name: &str, value: u64) {
        match name.split_once(' ') {
            Some((counter, kind)) => {
                let kind = self.kinds.entry(kind.to_owned()).or_default();
                kind.insert(counter.to_owned(), value);
            }
            None if name != "minute" => {
                self.totals.insert(name.to_owned(), value);
            }
            None => {}
        }
    }
}

impl Queue {
    /// Depths and counters, read in one step.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn overview(&self) -> Result<Overview, Error> {
        Overview::read(self.link.call(&self.fcall("overview", &[])).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::COUNTERS;

    #[test]
    fn the_counters_stand_in_the_order_of_the_lua_file() {
        let source = include_str!("../../lua/stats.lua");
        let list = source
            .split("local COUNTERS = {")
            .nth(1)
            .and_then(|rest| rest.split('}').next())
            .unwrap();
        let names: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
        assert_eq!(names, COUNTERS);
    }
}
