//! How well a consumer does, measured against the fleet: health 0..1, load score (lower is better).
//!
//! The ingredients are the paper's: errors, load, response time, and its thresholds. Mended: errors
//! and times are relative to the fleet's for the same kind, load to capacity, and the parts multiply,
//! so that one bad part is enough (a mean of three floored parts never falls below 0.4).
//!
//! Invariant: finite and within range for any input; never better with more errors, more load or
//! longer times. Only errors and extreme slowness reach below [`MIN_HEALTH`]; being full never does.
//! It has no memory: that is the window's and the moving mean's.

use super::fleet::{Fleet, KindFleet};
use super::vitals::{KindVitals, Vitals};

/// Below this a consumer is unhealthy, as in the paper.
pub const MIN_HEALTH: f64 = 0.3;
/// Above this error rate, with [`MIN_RUNS`], a consumer is unhealthy, as in the paper.
pub const MAX_ERROR_RATE: f64 = 0.5;
/// Runs in the window below which an error rate says little.
pub const MIN_RUNS: u32 = 5;

/// What load and host pressure can each take off the health.
const LOAD_PENALTY: f64 = 0.2;
/// Three times the fleet's median is still normal: hosts differ, and a slow slot is better than none.
const SLOW: f64 = 3.0;
/// Within this factor of the median a consumer counts as average, so that noise moves no one.
const ABOUT_EQUAL: f64 = 1.3;
/// Differences in error rate below this are noise.
const NOISE: f64 = 0.03;
/// Times are compared after adding this: below a millisecond they measure the machinery.
const GRAIN_MS: f64 = 1.0;
/// What failing everything costs beside the health it takes: whoever waits for the retry waits longer than for a run.
const COST_OF_AN_ERROR: f64 = 2.0;
const WORST_RATIO: f64 = 20.0;
const WORST_LOAD_SCORE: f64 = 10.0;

/// The share of its runs that failed and would not have failed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Blame {
    /// 0 (as good as the better consumers) to 1 (fails everything that others complete).
    pub rate: f64,
    /// Runs behind it.
    pub runs: u32,
}

impl Blame {
    /// Compares each kind with the fleet's better consumers: `1 - success / their success`, weighted
    /// by runs. A kind that no second consumer runs, or that fails everywhere, blames nobody.
    #[must_use]
    pub fn of(vitals: &Vitals, fleet: &Fleet) -> Self {
        let (mut runs, mut failed) = (0_u32, 0.0);
        for (kind, own) in &vitals.kinds {
            runs = runs.saturating_add(own.runs);
            failed += f64::from(own.runs) * kind_blame(own, fleet.kinds.get(kind));
        }
        Self {
            rate: (failed / f64::from(runs.max(1))).clamp(0.0, 1.0),
            runs,
        }
    }
}

fn kind_blame(own: &KindVitals, fleet: Option<&KindFleet>) -> f64 {
    let Some(fleet) = fleet.filter(|f| f.consumers > 1 && !f.fails_everywhere()) else {
        return 0.0;
    };
    let elsewhere = 1.0 - unit(fleet.error_rate);
    let blame = 1.0 - (1.0 - own.error_rate()) / elsewhere;
    if blame <= NOISE { 0.0 } else { blame * certainty(own) }
}

/// How much a few runs say: in proportion up to [`MIN_RUNS`].
fn certainty(own: &KindVitals) -> f64 {
    (f64::from(own.runs) / f64::from(MIN_RUNS)).min(1.0)
}

/// Mean run time over the fleet's median, weighted by runs; 1 without a comparison. `trust` says how much of what a
/// kind is beyond the median counts.
fn slowness(vitals: &Vitals, fleet: &Fleet, trust: impl Fn(&KindVitals) -> f64) -> f64 {
    let (mut weight, mut sum) = (0.0, 0.0);
    for (kind, own) in vitals.kinds.iter().filter(|(_, own)| own.runs > 0) {
        let median = fleet.kinds.get(kind).map_or(0.0, |f| f.median_ms);
        if own.mean_ms.is_finite() && own.mean_ms > 0.0 && median.is_finite() && median > 0.0 {
            let w = f64::from(own.runs);
            let ratio = ((own.mean_ms + GRAIN_MS) / (median + GRAIN_MS)).min(WORST_RATIO);
            sum += w * (1.0 + (ratio - 1.0) * trust(own));
            weight += w;
        }
    }
    if weight > 0.0 { sum / weight } else { 1.0 }
}

/// How hard pressed the consumer's host is, 0..1: the worst of CPU above 85 %, memory above 85 %,
/// event loop later than 50 ms, Redis further than 50 ms.
#[must_use]
pub fn pressure(vitals: &Vitals) -> f64 {
    let ramp = |value: f64, from: f64, to: f64| unit((value - from) / (to - from));
    [
        ramp(vitals.cpu, 0.85, 1.0),
        ramp(vitals.memory, 0.85, 1.0),
        ramp(vitals.lag_ms, 50.0, 500.0),
        ramp(vitals.rtt_ms, 50.0, 500.0),
    ]
    .into_iter()
    .fold(0.0, f64::max)
}

/// Health: 1 is as good as any, below [`MIN_HEALTH`] is unhealthy, 0 is failing everything.
///
/// `(1 - blame) * (1 - 0.2 load - 0.2 pressure) * min(1, 3 / slowness)`, where one long run among none makes nobody
/// unhealthy: slowness counts by the runs behind it, like errors.
#[must_use]
pub fn health_score(vitals: &Vitals, fleet: &Fleet) -> f64 {
    let errors = 1.0 - Blame::of(vitals, fleet).rate;
    let load = 1.0 - LOAD_PENALTY * vitals.load() - LOAD_PENALTY * pressure(vitals);
    let response = (SLOW / slowness(vitals, fleet, certainty)).min(1.0);
    unit(errors * load * response)
}

/// Load score, 0 to 10, lower is better: `(1 - health) + load + slowness + 2 blame`: the paper's sum, but the response
/// time is a multiple of the fleet's median, 1 while it is about equal, and errors are paid for beyond the health.
#[must_use]
pub fn load_score(vitals: &Vitals, fleet: &Fleet) -> f64 {
    let slow = slowness(vitals, fleet, |_| 1.0);
    let slow = if (1.0 / ABOUT_EQUAL..=ABOUT_EQUAL).contains(&slow) {
        1.0
    } else {
        slow
    };
    let errors = COST_OF_AN_ERROR * Blame::of(vitals, fleet).rate;
    ((1.0 - health_score(vitals, fleet)) + vitals.load() + slow + errors).clamp(0.0, WORST_LOAD_SCORE)
}

/// Into 0..1; NaN is 0.
fn unit(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}
