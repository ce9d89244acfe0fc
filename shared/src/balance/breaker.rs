//! The breaker of one kind, for the whole fleet: when a kind fails everywhere its tasks wait, burning
//! no attempt, until a few probes show that it works again. After Nygard's circuit breaker ("Release It!").
//!
//! The maintainer calls [`Breaker::next`] with each [`super::Fleet`] it computes; consumers read the
//! state, clear their window of the kind whenever it changes (so that counts are of probes only), and
//! ask [`Breaker::admits`] before they run a task of it.
//!
//! Invariant: it opens only when the better consumers fail too, and closes when it works for one; a consumer that fails alone is the
//! business of its [`super::Circuit`]. Failures for good are no reason: they say that the kind answers. It does not park
//! tasks; whoever claims does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::circuit::Allowed;
use super::fleet::KindFleet;

/// Runs of the fleet below which nothing is concluded.
const MIN_FLEET_RUNS: u32 = 10;
/// Probes of one consumer that must have ended well before a half-open breaker closes; of all together, ended badly,
/// before it opens again.
const VERDICT: u32 = 3;
/// By then every consumer has said what it probes: two beats. Before that, nobody else's result is waited for in vain.
const HEARD_MS: u64 = 2000;
/// Consumers that may probe, on average: enough for a verdict, few enough to burn little.
const PROBERS: f64 = 4.0;
const FIRST_PAUSE_MS: u64 = 1000;
const LONGEST_PAUSE_MS: u64 = 8000;
/// A half-open breaker without any result asks other consumers after this.
const ASK_OTHERS_MS: u64 = 5000;

/// State of one kind's breaker; times in ms of the maintainer's `now`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Breaker {
    /// All run it.
    #[default]
    Closed,
    /// Nobody runs it.
    Open {
        /// When it becomes half-open.
        until_ms: u64,
        /// How long this pause is.
        pause_ms: u64,
    },
    /// A few run one task of it at a time.
    HalfOpen {
        /// Since when.
        since_ms: u64,
        /// The pause before.
        pause_ms: u64,
    },
}

impl Breaker {
    /// Whether both are closed, both open, or both half-open.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// The state after the maintainer has seen the fleet's figures for the kind.
    #[must_use]
    pub fn next(self, seen: &KindFleet, now: Duration) -> Self {
        let now_ms = ms(now);
        match self {
            Self::Closed if seen.is_out() && seen.runs >= MIN_FLEET_RUNS => {
                // Who fails does so at once, who works takes its time: it may be the fault of the former alone.
                if now_ms.saturating_sub(seen.out_since_ms) >= seen.silent_ms {
                    Self::open(now_ms, FIRST_PAUSE_MS)
                } else {
                    Self::Closed
                }
            }
            Self::Closed => Self::Closed,
            Self::Open { until_ms, pause_ms } if now_ms >= until_ms => Self::HalfOpen {
                since_ms: now_ms,
                pause_ms,
            },
            // A clock that was set back must not make a pause longer than it is.
            Self::Open { until_ms, pause_ms } => Self::Open {
                until_ms: until_ms.min(now_ms.saturating_add(pause_ms)),
                pause_ms,
            },
            Self::HalfOpen { since_ms, pause_ms } => {
                let since_ms = since_ms.min(now_ms);
                let waited = now_ms - since_ms;
                // Of slow tasks one result must do: three take too long.
                let enough = |runs| runs >= VERDICT || (runs > 0 && waited >= ASK_OTHERS_MS);
                if enough(seen.well) {
                    Self::Closed
                } else if seen.well == 0 && enough(seen.runs) && waited >= seen.silent_ms.max(HEARD_MS) {
                    Self::open(now_ms, pause_ms.saturating_mul(2).min(LONGEST_PAUSE_MS))
                } else if seen.runs == 0 && waited >= seen.silent_ms.max(ASK_OTHERS_MS) {
                    Self::HalfOpen {
                        since_ms: now_ms,
                        pause_ms,
                    }
                } else {
                    Self::HalfOpen { since_ms, pause_ms }
                }
            }
        }
    }

    /// What a consumer may run of the kind. `consumers` is how many there are, `draw` a number in
    /// 0..1 that the consumer draws anew when the state changes and keeps until then.
    #[must_use]
    pub fn admits(self, consumers: u32, draw: f64) -> Allowed {
        match self {
            Self::Closed => Allowed::All,
            Self::Open { until_ms, .. } => Allowed::Nothing {
                until: Duration::from_millis(until_ms),
            },
            Self::HalfOpen { .. } if draw * f64::from(consumers) < PROBERS => Allowed::Probe,
            // Others probe; there is no time before which asking is of no use.
            Self::HalfOpen { since_ms, .. } => Allowed::Nothing {
                until: Duration::from_millis(since_ms),
            },
        }
    }

    /// For how long nothing of it changes by time alone; `None`: for ever.
    #[must_use]
    pub fn rests(self, now: Duration) -> Option<Duration> {
        let (from_ms, ms_more) = match self {
            Self::Closed => return None,
            Self::Open { until_ms, .. } => (until_ms, 0),
            Self::HalfOpen { since_ms, .. } => (since_ms, ASK_OTHERS_MS),
        };
        Some(Duration::from_millis((from_ms + ms_more).saturating_sub(ms(now))))
    }

    fn open(now_ms: u64, pause_ms: u64) -> Self {
        Self::Open {
            until_ms: now_ms + pause_ms,
            pause_ms,
        }
    }
}

fn ms(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(consumers: u32, error_rate: f64, runs: u32, errors: u32) -> KindFleet {
        KindFleet {
            consumers,
            error_rate,
            outage_rate: error_rate,
            runs,
            errors,
            well: if errors * 2 > runs { 0 } else { runs },
            ..KindFleet::default()
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn opens_only_when_it_fails_everywhere() {
        for (seen, opens) in [
            (seen(4, 1.0, 400, 400), true),
            (seen(1, 1.0, 10, 10), true),
            (seen(4, 0.0, 400, 300), false),
            (seen(4, 0.5, 400, 200), false),
            (seen(1, 1.0, 9, 9), false),
            (seen(0, 1.0, 400, 400), false),
        ] {
            let next = Breaker::Closed.next(&seen, at(5000));
            assert_eq!(next != Breaker::Closed, opens, "{seen:?}");
        }
    }

    #[test]
    fn probes_after_a_growing_pause_and_resumes() {
        let dead = seen(4, 1.0, 100, 100);
        let (mut now, mut breaker, mut pauses) = (0, Breaker::Closed.next(&dead, at(0)), Vec::new());
        for _ in 0..5 {
            let Breaker::Open { until_ms, .. } = breaker else {
                unreachable!("{breaker:?}")
            };
            pauses.push(until_ms - now);
            assert_eq!(
                breaker.next(&dead, at(until_ms - 1)),
                breaker,
                "old counts change nothing while it is open"
            );
            now = until_ms;
            breaker = breaker.next(&KindFleet::default(), at(now));
            assert_eq!(
                breaker.next(&seen(0, 0.0, 2, 2), at(now)),
                breaker,
                "two probes are no verdict"
            );
            assert_eq!(
                breaker.next(&seen(0, 0.0, 3, 3), at(now + 1999)),
                breaker,
                "others may have begun and not said so yet"
            );
            now += 2000;
            breaker = breaker.next(&seen(0, 0.0, 3, 3), at(now));
        }
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 8000]);
        let half = breaker.next(&KindFleet::default(), at(now + 8000));
        assert_eq!(half.next(&seen(0, 0.0, 3, 1), at(now + 9000)), Breaker::Closed);
    }

    #[test]
    fn quick_failures_of_one_consumer_do_not_outvote_the_slow_success_of_another() {
        let half = Breaker::HalfOpen {
            since_ms: 0,
            pause_ms: 1000,
        };
        let mixed = KindFleet {
            runs: 12,
            errors: 12,
            silent_ms: 9000,
            ..KindFleet::default()
        };
        assert_eq!(half.next(&mixed, at(8999)), half, "the others still run theirs");
        assert!(matches!(
            half.next(&mixed, at(9000)),
            Breaker::Open { pause_ms: 2000, .. }
        ));
        let one = KindFleet {
            well: 1,
            silent_ms: 0,
            ..mixed
        };
        assert_eq!(half.next(&one, at(4999)), half, "one success may be luck");
        assert_eq!(half.next(&one, at(5000)), Breaker::Closed);
        assert_eq!(half.next(&KindFleet { well: 3, ..mixed }, at(100)), Breaker::Closed);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_pause_longer() {
        let open = Breaker::Open {
            until_ms: 3_600_000,
            pause_ms: 1000,
        };
        let next = open.next(&KindFleet::default(), at(5000));
        assert_eq!(
            next,
            Breaker::Open {
                until_ms: 6000,
                pause_ms: 1000
            }
        );
        assert!(matches!(
            next.next(&KindFleet::default(), at(6000)),
            Breaker::HalfOpen { .. }
        ));
    }

    #[test]
    fn about_four_consumers_probe_whatever_the_size_of_the_fleet() {
        let half = Breaker::HalfOpen {
            since_ms: 0,
            pause_ms: 1000,
        };
        for consumers in [1_u32, 4, 100, 10_000] {
            let admitted = (0..consumers)
                .filter(|n| half.admits(consumers, f64::from(*n) / f64::from(consumers)) == Allowed::Probe)
                .count();
            assert_eq!(admitted, consumers.min(4) as usize);
        }
        assert_eq!(Breaker::Closed.admits(4, 0.9), Allowed::All);
        let open = Breaker::Open {
            until_ms: 7,
            pause_ms: 1,
        };
        assert_eq!(open.admits(4, 0.0), Allowed::Nothing { until: at(7) });
    }

    #[test]
    fn without_a_result_others_are_asked() {
        let half = Breaker::HalfOpen {
            since_ms: 0,
            pause_ms: 1000,
        };
        assert_eq!(half.next(&KindFleet::default(), at(4999)), half);
        assert_eq!(
            half.next(&KindFleet::default(), at(5000)),
            Breaker::HalfOpen {
                since_ms: 5000,
                pause_ms: 1000
            }
        );
    }
}
