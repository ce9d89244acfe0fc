//! What the reports of all consumers of a queue say together, kind by kind: the yardstick by which
//! each one is judged.
//!
//! Invariant: a kind's error rate is that of its better consumers (the lowest tenth, so of up to ten
//! consumers the best one): what fails for them too is the kind's fault, what fails above it is the
//! consumer's. Consumers with too few runs count together as one. The maintainer computes it, no one
//! else; consumers read it with their heartbeat's reply.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::Breaker;
use super::score::{MAX_ERROR_RATE, MIN_RUNS};
use super::vitals::Vitals;

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
    /// Error rate of the better consumers, 0..1.
    pub error_rate: f64,
    /// Consumers with enough runs to be compared.
    pub consumers: u32,
    /// Runs in all windows together.
    pub runs: u32,
    /// Those that failed.
    pub errors: u32,
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
                gathered
                    .entry(kind)
                    .or_default()
                    .add(seen.runs, seen.error_rate(), seen.mean_ms);
            }
        }
        for (kind, gathered) in gathered {
            let mut figures = gathered.figures();
            let breaker = self.kinds.get(kind).map(|k| k.breaker).unwrap_or_default();
            figures.breaker = breaker.next(&figures, now);
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
}

impl KindFleet {
    /// Whether even its better consumers fail more than half of its runs.
    #[must_use]
    pub fn fails_everywhere(&self) -> bool {
        self.consumers > 0 && self.error_rate > MAX_ERROR_RATE
    }
}

/// What is collected of one kind on the way.
#[derive(Debug, Default)]
struct Gathered {
    means: Vec<f64>,
    rates: Vec<f64>,
    runs: u32,
    errors: f64,
    few_runs: u32,
    few_errors: f64,
}

impl Gathered {
    fn add(&mut self, runs: u32, error_rate: f64, mean_ms: f64) {
        let errors = error_rate * f64::from(runs);
        self.runs = self.runs.saturating_add(runs);
        self.errors += errors;
        if runs >= MIN_RUNS {
            self.rates.push(error_rate);
        } else {
            self.few_runs += runs;
            self.few_errors += errors;
        }
        if mean_ms.is_finite() && mean_ms > 0.0 {
            self.means.push(mean_ms);
        }
    }

    fn figures(mut self) -> KindFleet {
        if self.few_runs >= MIN_RUNS {
            self.rates.push(self.few_errors / f64::from(self.few_runs));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `runs`")]
        let errors = self.errors.round() as u32;
        KindFleet {
            consumers: u32::try_from(self.rates.len()).unwrap_or(u32::MAX),
            median_ms: median(self.means),
            error_rate: lowest_tenth(self.rates),
            runs: self.runs,
            errors,
            breaker: Breaker::Closed,
        }
    }
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
    use super::super::vitals::KindVitals;
    use super::*;

    fn report(runs: u32, errors: u32, mean_ms: f64) -> Vitals {
        let kind = KindVitals {
            runs,
            errors,
            mean_ms,
            recent_ms: Vec::new(),
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
        assert_eq!(of(&[(4, 4, 0.0)]).consumers, 0);
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
