//! How often runs of one kind failed lately: counts over the last ten seconds, or over the time of five runs if those take
//! longer ([`super::RunTimes::reach`]): of tasks of half a minute, ten seconds hold nothing to compare.
//!
//! Invariant: a run that is older no longer counts, and memory is a bucket for each second with a result (at most five
//! minutes of them) however many runs there are. [`STREAK`] failures in a row are news: what came before them is forgotten, so that
//! a consumer whose every run begins to fail has an error rate of 1 after eight runs and not after
//! half a window. Successes forget nothing (eight in a row are common at 30 % errors).
//! It does not judge; see [`super::Blame`].

use std::collections::VecDeque;
use std::time::Duration;

/// This many failures in a row make what came before them meaningless.
pub const STREAK: u32 = 8;

/// How far back the window reaches at least, in buckets of one second.
const BUCKETS: u64 = 10;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Badly; another attempt may help.
    Failure,
    /// Badly and for good: its handler says that no attempt can help, so the fault is the task's own (bad data, an
    /// address that does not exist). It shows that the kind works, and says nothing of what the kind depends on.
    Final,
}

impl Outcome {
    /// That of a run of which only this is known.
    #[must_use]
    pub fn of(ok: bool) -> Self {
        if ok { Self::Success } else { Self::Failure }
    }

    /// Whether it ended well.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Self::Success
    }
}

/// Runs and failed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Runs that ended, however they ended.
    pub runs: u32,
    /// Those that failed.
    pub errors: u32,
    /// Those of them that failed for good.
    pub finals: u32,
}

/// Outcomes of one kind on one consumer, of late.
#[derive(Debug, Clone, Default)]
pub struct Window {
    buckets: VecDeque<(u64, Counts)>,
    streak: u32,
    /// Seconds beyond the first ten.
    more: u64,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far back it shall reach: ten seconds at least.
    pub fn set_reach(&mut self, reach: Duration) {
        self.more = reach.as_secs().saturating_sub(BUCKETS);
    }

    /// One run has ended.
    pub fn record(&mut self, outcome: Outcome, now: Duration) {
        self.forget(now);
        let second = self.buckets.back().map_or(0, |(second, _)| *second).max(now.as_secs());
        if self.buckets.back().is_none_or(|(newest, _)| *newest != second) {
            self.buckets.push_back((second, Counts::default()));
        }
        if let Some((_, counts)) = self.buckets.back_mut() {
            counts.runs = counts.runs.saturating_add(1);
            counts.errors = counts.errors.saturating_add(u32::from(!outcome.is_ok()));
            counts.finals = counts.finals.saturating_add(u32::from(outcome == Outcome::Final));
        }
        self.streak = match outcome {
            Outcome::Success => 0,
            Outcome::Failure => self.streak.saturating_add(1),
            // Neither that it works for all, nor that it does not.
            Outcome::Final => return,
        };
        if self.streak == STREAK {
            self.buckets.clear();
            self.buckets.push_back((
                second,
                Counts {
                    runs: STREAK,
                    errors: STREAK,
                    finals: 0,
                },
            ));
        }
    }

    /// What counts now.
    #[must_use]
    pub fn counts(&self, now: Duration) -> Counts {
        let mut sum = Counts::default();
        for (_, counts) in self
            .buckets
            .iter()
            .filter(|(second, _)| second + BUCKETS + self.more > now.as_secs())
        {
            sum.runs = sum.runs.saturating_add(counts.runs);
            sum.errors = sum.errors.saturating_add(counts.errors);
            sum.finals = sum.finals.saturating_add(counts.finals);
        }
        sum
    }

    /// Whether the last [`STREAK`] runs or more all failed: worth a report before the next beat.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.streak >= STREAK
    }

    /// Begins anew: after a circuit or breaker turned, only what ran since then counts.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.streak = 0;
    }

    /// Begins anew, unless all that it holds went well (or failed by the tasks' own fault).
    pub fn forgive(&mut self) {
        if self.buckets.iter().any(|(_, counts)| counts.errors > counts.finals) {
            self.clear();
        }
    }

    fn forget(&mut self, now: Duration) {
        while self
            .buckets
            .front()
            .is_some_and(|(second, _)| second + BUCKETS + self.more <= now.as_secs())
        {
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn counts(runs: u32, errors: u32) -> Counts {
        Counts {
            runs,
            errors,
            finals: 0,
        }
    }

    #[test]
    fn failures_for_good_count_and_are_no_streak() {
        let mut window = Window::new();
        for _ in 0..20 {
            window.record(Outcome::Final, at(1));
        }
        assert!(!window.is_failing());
        assert_eq!(
            window.counts(at(1)),
            Counts {
                runs: 20,
                errors: 20,
                finals: 20
            }
        );
    }

    #[test]
    fn errors_are_forgotten_after_ten_seconds() {
        let mut window = Window::new();
        window.record(Outcome::Failure, at(100));
        window.record(Outcome::Success, at(104));
        assert_eq!(window.counts(at(109)), counts(2, 1));
        assert_eq!(window.counts(at(110)), counts(1, 0));
        assert_eq!(window.counts(at(114)), Counts::default());
    }

    #[test]
    fn of_slow_tasks_it_holds_what_is_older() {
        let mut window = Window::new();
        window.set_reach(Duration::from_secs(60));
        window.record(Outcome::Success, at(100));
        window.record(Outcome::Success, at(130));
        assert_eq!(window.counts(at(159)), counts(2, 0));
        assert_eq!(window.counts(at(160)), counts(1, 0));
        window.forgive();
        assert_eq!(window.counts(at(160)), counts(1, 0), "there is nothing to forgive");
        window.record(Outcome::Failure, at(161));
        window.forgive();
        assert_eq!(window.counts(at(161)), Counts::default());
    }

    #[test]
    fn eight_failures_in_a_row_forget_what_came_before() {
        let mut window = Window::new();
        for _ in 0..1000 {
            window.record(Outcome::Success, at(1));
        }
        for n in 1..=STREAK {
            assert!(!window.is_failing());
            window.record(Outcome::Failure, at(2));
            let runs = if n < STREAK { 1000 + n } else { STREAK };
            assert_eq!(window.counts(at(2)), counts(runs, n));
        }
        assert!(window.is_failing());
        window.record(Outcome::Success, at(2));
        assert!(!window.is_failing());
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let mut window = Window::new();
        window.record(Outcome::Success, at(50));
        window.record(Outcome::Failure, at(40));
        assert_eq!(window.counts(at(50)), counts(2, 1));
    }
}
