//! What came of a simulation.

use std::collections::BTreeMap;

use serde::Serialize;
use workyard_bench::profile::percentile;

/// The figures of one policy in one scenario, over all rounds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) policy: &'static str,
    /// Seconds until the last task had ended; the mean of the rounds.
    pub(crate) makespan_s: f64,
    /// From arrival to the first start.
    pub(crate) wait_p50_s: f64,
    pub(crate) wait_p99_s: f64,
    /// From arrival to the end, retries included.
    pub(crate) total_p50_s: f64,
    pub(crate) total_p99_s: f64,
    /// Runs per round that failed or were lost with their consumer.
    pub(crate) wasted: f64,
    /// Wasted over all runs.
    pub(crate) wasted_share: f64,
    /// Tasks per round that failed for good.
    pub(crate) failed: f64,
    /// Share of all runs by profile.
    pub(crate) shares: BTreeMap<&'static str, f64>,
}

/// Raw results of one or more rounds.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) makespans: Vec<f64>,
    pub(crate) waits: Vec<f64>,
    pub(crate) totals: Vec<f64>,
    pub(crate) wasted: u64,
    pub(crate) runs: u64,
    pub(crate) failed: u64,
    pub(crate) by_profile: BTreeMap<&'static str, u64>,
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
impl Raw {
    /// The figures.
    pub(crate) fn tally(mut self, policy: &'static str) -> Tally {
        let rounds = self.makespans.len().max(1) as f64;
        self.waits.sort_unstable_by(f64::total_cmp);
        self.totals.sort_unstable_by(f64::total_cmp);
        let runs = self.runs.max(1) as f64;
        Tally {
            policy,
            makespan_s: self.makespans.iter().sum::<f64>() / rounds,
            wait_p50_s: percentile(&self.waits, 50),
            wait_p99_s: percentile(&self.waits, 99),
            total_p50_s: percentile(&self.totals, 50),
            total_p99_s: percentile(&self.totals, 99),
            wasted: self.wasted as f64 / rounds,
            wasted_share: self.wasted as f64 / runs,
            failed: self.failed as f64 / rounds,
            shares: self
                .by_profile
                .iter()
                .map(|(name, n)| (*name, *n as f64 / runs))
                .collect(),
        }
    }
}
