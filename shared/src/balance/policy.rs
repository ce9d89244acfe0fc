//! Who gets the next task: the policy of a queue as a rank among those that wait, and as the size of
//! a claim under a backlog.
//!
//! Invariant: a rank is exact in an f64 (below 2^53) and the lowest is woken first; whoever holds
//! nothing may claim at least one. It does not say whether a consumer may claim at all: see
//! [`super::Circuit`] and [`super::Breaker`].

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How a queue chooses among its consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Whoever has waited longest.
    #[default]
    Pull,
    /// In turn among those with free slots.
    RoundRobin,
    /// The lowest load score; in turn among equals.
    Adaptive,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pull, Self::RoundRobin, Self::Adaptive];

    /// The name in settings and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::RoundRobin => "round-robin",
            Self::Adaptive => "adaptive",
        }
    }
}

impl std::str::FromStr for Policy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let wrong = || Error::Invalid(format!("balance \"{name}\" must be pull, round-robin or adaptive"));
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or_else(wrong)
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a consumer stands when it parks. Times are Redis' in microseconds; a fencing token serves as
/// time of the last claim, and differs for each claim.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// When it parked.
    pub parked_us: u64,
    /// When it last got a task; 0 if never.
    pub served_us: u64,
    /// See [`super::load_score`].
    pub load_score: f64,
    /// Its circuit is open and a probe is due.
    pub probe: bool,
}

/// Load scores closer than this are equal, and take turns.
const STEP: f64 = 0.1;
const STEPS: f64 = 255.0;
/// 64 us: the last time served, in this grain, takes 45 of 53 bits until 2041, the step the others.
const GRAIN_US: u64 = 64;
const BELOW_STEP: u64 = 1 << 45;
const EXACT: u64 = (1 << 53) - 1;

/// A rank but for the moment of service, which the claim that parks decides: see [`Rank::at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The part that load decides.
    pub base: u64,
    /// How many microseconds of having been served earlier count as one.
    pub grain: u64,
}

impl Rank {
    /// Behind everyone, under every policy.
    pub const LAST: Self = Self {
        base: EXACT,
        grain: 1 << 52,
    };

    /// Where a consumer of this load stands; `None`: by the time of parking. A due probe comes before everyone: it
    /// is one task per pause, and behind idle healthy consumers it would never come.
    #[must_use]
    pub fn of(policy: Policy, load_score: f64, probe: bool) -> Option<Self> {
        if probe {
            return Some(Self {
                base: 0,
                grain: 1 << 52,
            });
        }
        match policy {
            Policy::Pull => None,
            Policy::RoundRobin => Some(Self { base: 0, grain: 1 }),
            Policy::Adaptive => {
                let score = if load_score.is_nan() { f64::INFINITY } else { load_score };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole and within 0..255"
                )]
                let step = (score / STEP).round().clamp(0.0, STEPS) as u64;
                Some(Self {
                    base: step * BELOW_STEP,
                    grain: GRAIN_US,
                })
            }
        }
    }

    /// The rank of one that was last served then.
    #[must_use]
    pub fn at(self, served_us: u64) -> u64 {
        let most = if self.grain == GRAIN_US { BELOW_STEP - 1 } else { EXACT };
        self.base + (served_us / self.grain).min(most)
    }
}

/// The rank of a consumer that waits; the lowest is woken first.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "all below 2^53")]
pub fn rank(policy: Policy, standing: &Standing) -> f64 {
    match Rank::of(policy, standing.load_score, standing.probe) {
        None => standing.parked_us.min(EXACT) as f64,
        Some(rank) => rank.at(standing.served_us) as f64,
    }
}

/// From this health on a consumer claims as much as it wants: what a healthy one has with all slots
/// busy on a host under pressure.
const FULL_SHARE: f64 = 0.6;

/// How many to claim of the `wanted` when `running` are held. Under `adaptive` what it would hold in
/// all is scaled by its health; whoever holds nothing still gets one.
#[must_use]
pub fn claim_size(policy: Policy, wanted: usize, running: usize, health: f64) -> usize {
    if policy != Policy::Adaptive || wanted == 0 {
        return wanted;
    }
    let share = if health.is_nan() {
        0.0
    } else {
        (health / FULL_SHARE).clamp(0.0, 1.0)
    };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "slots are few, the share is within 0..1"
    )]
    let hold = ((running.saturating_add(wanted) as f64 * share).ceil() as usize).max(1);
    hold.saturating_sub(running).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_500_000_000_000;

    fn standing(parked: u64, served: u64, load_score: f64) -> Standing {
        Standing {
            parked_us: NOW + parked,
            served_us: NOW + served,
            load_score,
            probe: false,
        }
    }

    #[test]
    fn names_come_back() {
        for policy in Policy::ALL {
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        assert!(
            "fastest"
                .parse::<Policy>()
                .unwrap_err()
                .to_string()
                .contains("round-robin")
        );
    }

    #[test]
    fn the_three_policies_choose_differently() {
        let waiting = [standing(1, 900, 1.5), standing(2, 100, 1.9), standing(3, 500, 0.5)];
        for (policy, first) in [(Policy::Pull, 0), (Policy::RoundRobin, 1), (Policy::Adaptive, 2)] {
            let best = (0..3).min_by(|a, b| rank(policy, &waiting[*a]).total_cmp(&rank(policy, &waiting[*b])));
            assert_eq!(best, Some(first), "{policy}");
        }
    }

    #[test]
    fn adaptive_takes_turns_among_equals() {
        let (a, b) = (standing(0, 1000, 1.01), standing(0, 2000, 0.99));
        assert!(rank(Policy::Adaptive, &a) < rank(Policy::Adaptive, &b));
    }

    #[test]
    fn a_due_probe_comes_first_and_ranks_are_exact() {
        for policy in Policy::ALL {
            let probe = Standing {
                probe: true,
                ..standing(0, 0, 10.0)
            };
            assert!(
                rank(policy, &probe)
                    < rank(
                        policy,
                        &Standing {
                            parked_us: 1,
                            served_us: 1,
                            load_score: 0.1,
                            probe: false
                        }
                    )
            );
            for worst in [f64::NAN, f64::INFINITY, 1e300] {
                let rank = rank(
                    policy,
                    &Standing {
                        parked_us: u64::MAX,
                        served_us: u64::MAX,
                        load_score: worst,
                        probe: false,
                    },
                );
                assert!(rank.is_finite() && rank <= 9_007_199_254_740_992.0, "{policy} {rank}");
            }
        }
    }

    #[test]
    fn claims_are_scaled_by_health_only_under_adaptive() {
        for (policy, wanted, running, health, size) in [
            (Policy::Pull, 8, 0, 0.1, 8),
            (Policy::RoundRobin, 8, 0, 0.1, 8),
            (Policy::Adaptive, 8, 0, 1.0, 8),
            (Policy::Adaptive, 8, 0, 0.6, 8),
            (Policy::Adaptive, 8, 0, 0.3, 4),
            (Policy::Adaptive, 4, 4, 0.3, 0),
            (Policy::Adaptive, 8, 0, 0.0, 1),
            (Policy::Adaptive, 8, 1, 0.0, 0),
            (Policy::Adaptive, 0, 0, 1.0, 0),
            (Policy::Adaptive, 8, 0, f64::NAN, 1),
        ] {
            assert_eq!(
                claim_size(policy, wanted, running, health),
                size,
                "{policy} {wanted} {running} {health}"
            );
        }
    }
}
