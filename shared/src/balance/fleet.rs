//! What the reports of all consumers of a queue say together, kind by kind: the yardstick by which
//! each one is judged.
//!
//! Invariant: a kind's error rate is that of its better consumers (the lowest tenth, so of up to ten
//! consumers the best one): what fails for them too is the kind's fault, what fails above it is the
//! consumer's. Consumers with too few runs count together as one. Whether a kind is out, for its breaker, is asked of
//! everybody who has any result, and waits for those who still run their first: quick failures must not outvote
//! slow successes. The maintainer computes it, no one
//! else; consumers read it with their heartbeat's reply.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::Breaker;
use super::score::{MAX_ERROR_RATE, MIN_RUNS};

/// Runs of consumers with too few of them that together are enough to compare others with.
const MIN_TOGETHER: u32 = 3;
/// Those of whom nothing is heard may have begun since their last beat.
const ONE_BEAT_MS: u64 = 1100;
/// Consumers that still run their first task of a kind are waited for so long ...
const SHORTEST_WAIT_MS: u64 = 5000;
/// ... or three times what the kind is known to take, but no longer than this.
const LONGEST_WAIT_MS: u64 = 60_000;
use super::vitals::{KindVitals, Vitals};

/// The fleet of one queue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fleet {
    /// Consumers that reported.
    pub consumers: u32,
    /// Figures per kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, KindFleet>,
}

/// One kind over all consumers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KindFleet {
    /// Median of the consumers' mean run times, in ms; 0 if none has any.
    pub median_ms: f64,
    /// Error rate of the better consumers, 0..1: what fails for them too is no consumer's fault.
    pub error_rate: f64,
    /// The same without what failed for good, which is no fault of the kind's either but of the tasks themselves.
    pub outage_rate: f64,
    /// Consumers with enough runs to be compared.
    pub consumers: u32,
    /// Runs in all windows together.
    pub runs: u32,
    /// Those that failed, and might not the next time.
    pub errors: u32,
    /// The most runs of one consumer that fails no more than half of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub well: u32,
    /// Who that is, if it is the only one; 0: there are others, or it did not say.
    #[serde(skip_serializing_if = "is_zero")]
    pub only_well: u32,
    /// How long those are worth waiting for who run tasks of the kind and have no result yet, in ms; 0 if there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub silent_ms: u64,
    /// Since when it has looked as if the kind were out, in ms of the maintainer's `now`; 0 if it does not.
    #[serde(skip_serializing_if = "is_zero")]
    pub out_since_ms: u64,
    /// Whether the kind runs at all.
    pub breaker: Breaker,
}

impl Fleet {
    /// The fleet after `reports`; breakers go on from where they were.
    #[must_use]
    pub fn next<'a>(&self, reports: impl IntoIterator<Item = &'a Vitals>, now: Duration) -> Self {
        let mut next = Self::default();
        let mut gathered: BTreeMap<&str, Gathered> = BTreeMap::new();
        for vitals in reports {
            next.consumers += 1;
            for (kind, seen) in &vitals.kinds {
                gathered.entry(kind).or_default().add(vitals.who, seen);
            }
        }
        for (kind, gathered) in gathered {
            let all_heard = gathered.heard >= next.consumers;
            let mut figures = gathered.figures();
            if !all_heard {
                // Who has just begun has not said so yet.
                figures.silent_ms = figures.silent_ms.max(ONE_BEAT_MS);
            }
            let before = self.kinds.get(kind).copied().unwrap_or_default();
            figures.out_since_ms = figures.out_since(before.out_since_ms, now);
            figures.breaker = before.breaker.next(&figures, now);
            next.kinds.insert(kind.to_owned(), figures);
        }
        // A kind nobody reports any more keeps its breaker while that is not closed.
        for (kind, old) in self.kinds.iter().filter(|(_, old)| old.breaker != Breaker::Closed) {
            next.kinds.entry(kind.clone()).or_insert_with(|| KindFleet {
                median_ms: old.median_ms,
                breaker: old.breaker.next(&KindFleet::default(), now),
                ..KindFleet::default()
            });
        }
        next
    }

    /// For how long no breaker changes by time alone; `None`: all are closed.
    #[must_use]
    pub fn rests(&self, now: Duration) -> Option<Duration> {
        self.kinds.values().filter_map(|kind| kind.breaker.rests(now)).min()
    }
}

impl KindFleet {
    /// Whether even its better consumers fail more than half of its runs: then that is no consumer's fault.
    #[must_use]
    pub fn fails_everywhere(&self) -> bool {
        self.consumers > 0 && self.error_rate > MAX_ERROR_RATE
    }

    /// Whether somebody runs it well beside the consumer with this number.
    #[must_use]
    pub fn runs_well_beside(&self, who: u32) -> bool {
        self.well > 0 && (self.only_well == 0 || self.only_well != who)
    }

    /// Whether what it depends on is gone: so often do its better consumers fail with what is not the task's own fault.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.consumers > 0 && self.outage_rate > MAX_ERROR_RATE
    }

    fn out_since(&self, before: u64, now: Duration) -> u64 {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        match (self.is_out(), before) {
            (false, _) => 0,
            (true, 0) => now,
            // A clock that was set back begins the wait anew.
            (true, since) => since.min(now),
        }
    }
}

fn is_zero(n: &(impl Default + PartialEq)) -> bool {
    *n == Default::default()
}

/// What is collected of one kind on the way.
#[derive(Debug, Default)]
struct Gathered {
    means: Vec<f64>,
    rates: Vec<f64>,
    outages: Vec<f64>,
    runs: u32,
    errors: u32,
    few: KindVitals,
    well: u32,
    /// Those who run it well.
    well_ones: u32,
    /// The last of them.
    well_one: u32,
    /// Consumers that said something of it.
    heard: u32,
    /// The longest mean of those without a result.
    silent_ms: Option<f64>,
}

impl Gathered {
    fn add(&mut self, who: u32, seen: &KindVitals) {
        self.heard += 1;
        if seen.runs == 0 {
            if seen.running > 0 {
                self.silent_ms = Some(self.silent_ms.unwrap_or(0.0).max(seen.mean_ms));
            }
            return;
        }
        if f64::from(seen.outages()) <= MAX_ERROR_RATE * f64::from(seen.runs) {
            self.well = self.well.max(seen.runs);
            self.well_ones += 1;
            self.well_one = who;
        }
        self.runs = self.runs.saturating_add(seen.runs);
        self.errors = self.errors.saturating_add(seen.outages());
        if seen.runs >= MIN_RUNS {
            self.rate(seen);
        } else {
            self.few.runs += seen.runs;
            self.few.errors = self.few.errors.saturating_add(seen.errors.min(seen.runs));
            self.few.finals = self.few.finals.saturating_add(seen.finals.min(seen.runs));
        }
        if seen.mean_ms.is_finite() && seen.mean_ms > 0.0 {
            self.means.push(seen.mean_ms);
        }
    }

    fn rate(&mut self, seen: &KindVitals) {
        self.rates.push(seen.error_rate());
        self.outages.push(outage_rate(seen));
    }

    fn figures(mut self) -> KindFleet {
        let few = std::mem::take(&mut self.few);
        if few.runs >= MIN_TOGETHER {
            self.rate(&few);
        } else if few.runs > 0 {
            // Too little to blame anybody with; but a kind that works for somebody is not out.
            self.outages.push(outage_rate(&few));
        }
        let median_ms = median(self.means);
        KindFleet {
            consumers: u32::try_from(self.rates.len()).unwrap_or(u32::MAX),
            median_ms,
            well: self.well,
            only_well: if self.well_ones == 1 { self.well_one } else { 0 },
            silent_ms: self.silent_ms.map_or(0, |mean_ms| patience(mean_ms.max(median_ms))),
            out_since_ms: 0,
            error_rate: lowest_tenth(self.rates),
            outage_rate: lowest_tenth(self.outages),
            runs: self.runs,
            errors: self.errors,
            breaker: Breaker::Closed,
        }
    }
}

fn outage_rate(seen: &KindVitals) -> f64 {
    f64::from(seen.outages()) / f64::from(seen.runs.max(1))
}

/// How long a first result of a kind is waited for that is known to take `mean_ms`; 0: not known.
fn patience(mean_ms: f64) -> u64 {
    let thrice = Duration::try_from_secs_f64(mean_ms * 3.0 / 1000.0).unwrap_or_default();
    u64::try_from(thrice.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(SHORTEST_WAIT_MS, LONGEST_WAIT_MS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

fn lowest_tenth(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len().saturating_sub(1) / 10).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(runs: u32, errors: u32, mean_ms: f64) -> Vitals {
        let kind = KindVitals {
            runs,
            errors,
            mean_ms,
            ..KindVitals::default()
        };
        Vitals {
            kinds: [("mail".to_owned(), kind)].into(),
            ..Vitals::default()
        }
    }

    fn of(reports: &[(u32, u32, f64)]) -> KindFleet {
        let reports: Vec<Vitals> = reports
            .iter()
            .map(|(runs, errors, mean)| report(*runs, *errors, *mean))
            .collect();
        Fleet::default()
            .next(&reports, Duration::ZERO)
            .kinds
            .remove("mail")
            .unwrap()
    }

    #[test]
    fn the_yardstick_is_the_median_time_and_the_better_consumers_errors() {
        let kind = of(&[(100, 5, 200.0), (100, 10, 500.0), (100, 15, 1000.0), (100, 30, 300.0)]);
        assert_eq!((kind.median_ms, kind.error_rate, kind.consumers), (400.0, 0.05, 4));
        assert_eq!((kind.runs, kind.errors, kind.breaker), (400, 60, Breaker::Closed));
        assert_eq!(of(&[(100, 100, 0.0), (100, 100, 0.0), (100, 0, 7.0)]).error_rate, 0.0);
        assert_eq!(of(&[(100, 100, 0.0), (100, 0, 7.0)]).median_ms, 7.0);
    }

    #[test]
    fn consumers_with_few_runs_count_together() {
        let kind = of(&[(4, 4, 0.0); 5]);
        assert_eq!((kind.consumers, kind.error_rate), (1, 1.0));
        assert_eq!(of(&[(2, 2, 0.0)]).consumers, 0);
    }

    #[test]
    fn one_that_works_for_somebody_is_not_out() {
        let kind = of(&[(20, 20, 0.0), (2, 0, 4000.0)]);
        assert_eq!((kind.consumers, kind.error_rate, kind.outage_rate), (1, 1.0, 0.0));
        assert_eq!((kind.well, kind.breaker), (2, Breaker::Closed));
    }

    #[test]
    fn whoever_runs_a_kind_well_alone_is_nobody_else_to_itself() {
        let named = |who, errors| Vitals {
            who,
            ..report(10, errors, 5.0)
        };
        let beside = |reports: &[Vitals], who| {
            let fleet = Fleet::default().next(reports, Duration::ZERO);
            fleet.kinds["mail"].runs_well_beside(who)
        };
        let one = [named(7, 0), named(8, 10)];
        assert!(!beside(&one, 7));
        assert!(beside(&one, 8));
        assert!(beside(&[named(7, 0), named(8, 1)], 7));
        assert!(!beside(&[named(8, 10)], 7), "nobody does");
    }

    #[test]
    fn quick_failures_wait_for_those_who_still_run_their_first() {
        let mut slow = report(0, 0, 0.0);
        slow.kinds.values_mut().for_each(|kind| kind.running = 4);
        let reports = [report(20, 20, 0.0), slow];
        let mut fleet = Fleet::default();
        for (second, opens) in [(10, false), (14, false), (15, true)] {
            fleet = fleet.next(&reports, Duration::from_secs(second));
            let kind = fleet.kinds["mail"];
            assert_eq!(kind.breaker != Breaker::Closed, opens, "{second}: {kind:?}");
        }
        assert_eq!(fleet.kinds["mail"].silent_ms, 5000);
        let mut known = report(0, 0, 12_000.0);
        known.kinds.values_mut().for_each(|kind| kind.running = 1);
        let fleet = Fleet::default().next(&[known], Duration::ZERO);
        assert_eq!(fleet.kinds["mail"].silent_ms, 36_000, "three times what it takes");
    }

    #[test]
    fn what_fails_for_good_everywhere_blames_nobody_and_opens_no_breaker() {
        let bad_data = KindVitals {
            runs: 100,
            errors: 100,
            finals: 90,
            ..KindVitals::default()
        };
        let reports = [0, 1].map(|_| Vitals {
            kinds: [("mail".to_owned(), bad_data.clone())].into(),
            ..Vitals::default()
        });
        let kind = Fleet::default().next(&reports, Duration::ZERO).kinds["mail"];
        assert_eq!((kind.error_rate, kind.outage_rate, kind.errors), (1.0, 0.1, 20));
        assert_eq!(kind.breaker, Breaker::Closed);
    }

    #[test]
    fn a_breaker_outlives_the_reports_of_its_kind() {
        let dead = [report(100, 100, 0.0), report(100, 100, 0.0)];
        let fleet = Fleet::default().next(&dead, Duration::ZERO);
        assert!(matches!(fleet.kinds["mail"].breaker, Breaker::Open { .. }));
        let silent = fleet.next([], Duration::from_secs(1));
        assert!(matches!(silent.kinds["mail"].breaker, Breaker::HalfOpen { .. }));
        let text = serde_json::to_string(&silent).unwrap();
        assert_eq!(serde_json::from_str::<Fleet>(&text).unwrap(), silent);
    }
}
