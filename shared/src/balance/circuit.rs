//! One consumer's circuit: closed while it is healthy; open when it fails what others complete; then
//! single probes with growing pauses until three in a row succeed, or fewer that are slow. After Nygard ("Release It!").
//!
//! Invariant: it opens only after [`GRACE`] of bad health, so that a kind that breaks everywhere is
//! seen by the fleet first (its breaker opens, the blame goes away) and other kinds go on. While it is
//! open at most one probe is under way. The caller clears its windows at each [`Turn`]: from then on
//! only what ran since counts. A probe that ends in no result (cancelled, handed back, lost with its
//! session) must be told as well, or nobody would ever ask again. It does not claim, and knows nothing of kinds.

use std::time::Duration;

use super::score::{MAX_ERROR_RATE, MIN_HEALTH, MIN_RUNS};

/// How long health must be bad before the circuit opens: longer than a report takes to reach the
/// maintainer and its answer to come back, which is short as failing consumers report at once.
const GRACE: Duration = Duration::from_millis(1500);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A mended consumer waits at most this long for the probe that shows it.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// An open circuit that heard of no result for so long closes: there was nothing to try, and what it failed before is
/// forgotten like everything else. Else a queue that is idle would for ever have no healthy consumer.
const FORGIVEN: Duration = Duration::from_secs(30);
/// Successful probes in a row that close it ...
const PROBES: u32 = 3;
/// ... or fewer that ran for so long together: three slow ones, one after the other, would keep a mended consumer waiting.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// What may be claimed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// As many as there are slots.
    All,
    /// One task. Whoever gets this answer and claims must report the result, or that there will be none.
    Probe,
    /// Nothing before then, or before the probe that is under way has ended.
    Nothing {
        /// When to ask again.
        until: Duration,
    },
}

/// The circuit has turned: clear the windows, report at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// From now on only probes.
    Opened,
    /// From now on everything again.
    Closed,
}

/// The circuit of one consumer.
#[derive(Debug, Clone, Default)]
pub struct Circuit {
    state: State,
    /// Whether load and response times are good enough to close.
    unwell: bool,
    /// How many probes were handed out: the number of the one under way.
    probes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Closed,
    Suspect {
        since: Duration,
    },
    Open {
        until: Duration,
        probe: Probe,
    },
    Probing {
        probe: Probe,
    },
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    successes: u32,
    /// How long those ran together.
    ran: Duration,
    pause: Duration,
    /// When it opened, or a result was last heard of.
    heard: Duration,
}

impl Circuit {
    /// Every [`Self::name`].
    pub const NAMES: [&'static str; 4] = ["closed", "suspect", "open", "probing"];

    /// A closed circuit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Health, [`super::Blame`] and its runs, each beat and after each failure.
    pub fn on_health(&mut self, score: f64, error_rate: f64, runs: u32, now: Duration) -> Option<Turn> {
        self.unwell = score < MIN_HEALTH;
        let bad = self.unwell || (runs >= MIN_RUNS && error_rate > MAX_ERROR_RATE);
        match self.state {
            State::Closed if bad => self.state = State::Suspect { since: now },
            State::Suspect { .. } if !bad => self.state = State::Closed,
            State::Suspect { since } if now.saturating_sub(since) >= GRACE => {
                let probe = Probe {
                    successes: 0,
                    ran: Duration::ZERO,
                    pause: FIRST_PAUSE,
                    heard: now,
                };
                self.state = State::Open {
                    until: now + FIRST_PAUSE,
                    probe,
                };
                return Some(Turn::Opened);
            }
            State::Open { probe, .. } if !self.unwell && now.saturating_sub(probe.heard) >= FORGIVEN => {
                self.state = State::Closed;
                return Some(Turn::Closed);
            }
            State::Closed | State::Suspect { .. } | State::Open { .. } | State::Probing { .. } => {}
        }
        None
    }

    /// Each beat while nobody else is there, in place of [`Self::on_health`]: it closes. There is nobody to leave the work to, and
    /// who was compared with has gone; what fails everywhere is the business of the kind's breaker.
    pub fn on_alone(&mut self) -> Option<Turn> {
        self.unwell = false;
        let turn = match self.state {
            // A probe is under way: its end comes first.
            State::Closed | State::Probing { .. } => return None,
            State::Suspect { .. } => None,
            State::Open { .. } => Some(Turn::Closed),
        };
        self.state = State::Closed;
        turn
    }

    /// What may be claimed; after [`Allowed::Probe`] one probe is under way.
    pub fn may_claim(&mut self, now: Duration) -> Allowed {
        match self.state {
            State::Closed | State::Suspect { .. } => Allowed::All,
            State::Open { until, .. } if now < until => Allowed::Nothing { until },
            State::Open { probe, .. } => {
                self.state = State::Probing { probe };
                self.probes += 1;
                Allowed::Probe
            }
            State::Probing { probe } => Allowed::Nothing {
                until: now + probe.pause,
            },
        }
    }

    /// The number of the latest probe.
    #[must_use]
    pub fn probe(&self) -> u64 {
        self.probes
    }

    /// The claim of this probe brought nothing: ask again whenever there is reason to.
    pub fn on_nothing(&mut self, number: u64, now: Duration) {
        self.forget(number, now);
    }

    /// The task of this probe is gone without a result: another one, but not at once, as the same may become of it.
    pub fn on_gone(&mut self, number: u64, now: Duration) {
        self.forget(number, now + FIRST_PAUSE);
    }

    /// The task of this probe was left to another consumer: no other until then, or this one would be the first to get it again.
    pub fn on_passed(&mut self, number: u64, until: Duration) {
        self.forget(number, until);
    }

    fn forget(&mut self, number: u64, until: Duration) {
        if let State::Probing { probe } = self.state
            && number == self.probes
        {
            self.state = State::Open { until, probe };
        }
    }

    /// A task has ended after `took`. While a probe is under way the first result counts as its own: one that was
    /// claimed before says the same thing. Without a probe, results of older tasks change nothing.
    pub fn on_result(&mut self, ok: bool, took: Duration, now: Duration) -> Option<Turn> {
        let State::Probing { mut probe } = self.state else {
            return None;
        };
        probe.heard = now;
        if !ok {
            let pause = (probe.pause * 2).min(LONGEST_PAUSE);
            self.state = State::Open {
                until: now + probe.pause,
                probe: Probe {
                    successes: 0,
                    ran: Duration::ZERO,
                    pause,
                    heard: now,
                },
            };
            return None;
        }
        probe.successes += 1;
        probe.ran += took;
        if probe.successes < PROBES && probe.ran < LONG_ENOUGH {
            self.state = State::Open { until: now, probe };
            return None;
        }
        if self.unwell {
            let pause = (probe.pause * 2).min(LONGEST_PAUSE);
            self.state = State::Open {
                until: now + probe.pause,
                probe: Probe { pause, ..probe },
            };
            return None;
        }
        self.state = State::Closed;
        Some(Turn::Closed)
    }

    /// Whether everything may be claimed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Suspect { .. })
    }

    /// The state's name, for people: `closed`, `suspect`, `open` or `probing`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Suspect { .. } => "suspect",
            State::Open { .. } => "open",
            State::Probing { .. } => "probing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::new();
        assert_eq!(circuit.on_health(0.1, 1.0, 8, at(0)), None);
        assert_eq!(circuit.may_claim(at(0)), Allowed::All);
        assert_eq!(circuit.on_health(0.1, 1.0, 8, at(1500)), Some(Turn::Opened));
        circuit
    }

    #[test]
    fn opens_when_health_stays_bad() {
        for (score, error_rate, runs, opens) in [
            (0.1, 1.0, 8, true),
            (0.45, 0.55, 5, true),
            (0.45, 0.55, 4, false),
            (0.5, 0.5, 100, false),
            (0.29, 0.0, 0, true),
            (0.3, 0.0, 0, false),
        ] {
            let mut circuit = Circuit::new();
            let turns = [0, 1000, 1500].map(|ms| circuit.on_health(score, error_rate, runs, at(ms)));
            assert_eq!(
                turns.contains(&Some(Turn::Opened)),
                opens,
                "{score} {error_rate} {runs}"
            );
        }
    }

    #[test]
    fn a_blame_that_goes_away_in_time_opens_nothing() {
        let mut circuit = Circuit::new();
        circuit.on_health(0.1, 1.0, 8, at(0));
        circuit.on_health(0.8, 0.0, 8, at(1000));
        assert_eq!(circuit.on_health(0.1, 1.0, 8, at(2000)), None);
        assert!(circuit.is_closed());
    }

    #[test]
    fn one_that_is_alone_closes_and_none_opens() {
        let mut circuit = opened();
        circuit.may_claim(at(2000));
        assert_eq!((circuit.on_alone(), circuit.name()), (None, "probing"));
        circuit.on_result(false, at(1), at(2100));
        assert_eq!((circuit.on_alone(), circuit.name()), (Some(Turn::Closed), "closed"));
        assert_eq!(circuit.may_claim(at(2200)), Allowed::All);
        circuit.on_health(0.1, 1.0, 8, at(3000));
        assert_eq!((circuit.on_alone(), circuit.name()), (None, "closed"));
    }

    #[test]
    fn probes_one_at_a_time_with_growing_pauses() {
        let mut circuit = opened();
        let (mut now, mut pauses) = (1500, Vec::new());
        for _ in 0..7 {
            let Allowed::Nothing { until } = circuit.may_claim(at(now)) else {
                unreachable!()
            };
            pauses.push((until - at(now)).as_millis());
            now += u64::try_from((until - at(now)).as_millis()).unwrap();
            assert_eq!(circuit.may_claim(at(now)), Allowed::Probe);
            assert!(matches!(circuit.may_claim(at(now)), Allowed::Nothing { .. }));
            assert_eq!(circuit.on_result(false, at(1), at(now)), None);
        }
        assert_eq!(pauses, [250, 250, 500, 1000, 2000, 4000, 4000]);
    }

    #[test]
    fn three_probes_that_succeed_close_it() {
        let mut circuit = opened();
        circuit.on_health(0.8, 0.0, 0, at(1600));
        assert_eq!(circuit.on_result(true, at(1), at(1700)), None, "no probe is under way");
        for n in 0..3 {
            assert_eq!(circuit.may_claim(at(2000 + n)), Allowed::Probe);
            circuit.on_nothing(circuit.probe(), at(2000 + n));
            assert_eq!(circuit.may_claim(at(2000 + n)), Allowed::Probe);
            let turn = circuit.on_result(true, at(1), at(2000 + n));
            assert_eq!(turn, (n == 2).then_some(Turn::Closed));
        }
        assert_eq!(circuit.may_claim(at(2003)), Allowed::All);
    }

    #[test]
    fn one_slow_probe_that_succeeds_is_enough() {
        let mut circuit = opened();
        circuit.on_health(0.8, 0.0, 0, at(1600));
        circuit.may_claim(at(2000));
        assert_eq!(circuit.on_result(true, at(4900), at(6900)), None);
        circuit.may_claim(at(6900));
        assert_eq!(circuit.on_result(true, at(100), at(7000)), Some(Turn::Closed));
        let mut circuit = opened();
        circuit.may_claim(at(2000));
        assert_eq!(circuit.on_result(true, at(4900), at(6900)), None);
        circuit.may_claim(at(6900));
        assert_eq!(circuit.on_result(false, at(4900), at(12_000)), None);
        circuit.may_claim(at(13_000));
        assert_eq!(
            circuit.on_result(true, at(4900), at(18_000)),
            None,
            "a failure begins anew"
        );
    }

    #[test]
    fn a_probe_without_a_result_is_followed_by_another() {
        let mut circuit = opened();
        assert_eq!(circuit.may_claim(at(2000)), Allowed::Probe);
        let first = circuit.probe();
        circuit.on_gone(first, at(3000));
        assert_eq!(circuit.may_claim(at(3249)), Allowed::Nothing { until: at(3250) });
        assert_eq!(circuit.may_claim(at(3250)), Allowed::Probe);
        // What is heard of one that is long forgotten changes nothing.
        circuit.on_gone(first, at(3300));
        assert!(matches!(circuit.may_claim(at(4000)), Allowed::Nothing { .. }));
        circuit.on_result(true, at(1), at(4000));
        circuit.on_gone(circuit.probe(), at(4001));
        assert_eq!(
            circuit.may_claim(at(4001)),
            Allowed::Probe,
            "a success asks for the next one at once"
        );
    }

    #[test]
    fn an_open_circuit_that_finds_nothing_to_try_closes_after_a_while() {
        let mut circuit = opened();
        assert_eq!(circuit.may_claim(at(2000)), Allowed::Probe);
        circuit.on_result(false, at(1), at(2000));
        for ms in [5000, 20_000, 31_999] {
            assert_eq!(circuit.may_claim(at(ms)), Allowed::Probe);
            circuit.on_nothing(circuit.probe(), at(ms));
            assert_eq!(circuit.on_health(0.8, 0.0, 0, at(ms)), None);
        }
        assert_eq!(circuit.on_health(0.1, 0.0, 0, at(32_000)), None, "its host is unwell");
        assert_eq!(circuit.on_health(0.8, 0.0, 0, at(32_001)), Some(Turn::Closed));
        assert_eq!(circuit.may_claim(at(32_001)), Allowed::All);
    }

    #[test]
    fn a_consumer_that_is_still_far_too_slow_goes_on_probing() {
        let mut circuit = opened();
        for ms in [2000, 2001, 2002] {
            circuit.may_claim(at(ms));
            assert_eq!(circuit.on_result(true, at(1), at(ms)), None);
        }
        assert!(matches!(circuit.may_claim(at(2003)), Allowed::Nothing { .. }));
        circuit.on_health(0.6, 0.0, 3, at(2100));
        circuit.may_claim(at(9000));
        assert_eq!(circuit.on_result(true, at(1), at(9000)), Some(Turn::Closed));
    }
}
