//! When each duty of the maintainer is due.
//!
//! Invariant: nothing is done before it is due, nor again within the pause that its last time asked for, so that what it costs
//! is bounded however many reasons come up; and whatever is due is done then, at the latest.

use std::time::{Duration, Instant};

/// One duty.
#[derive(Debug, Default)]
pub(crate) struct Paced {
    due: Option<Instant>,
    not_before: Option<Instant>,
}

impl Paced {
    /// Due then.
    pub(crate) fn at(due: Instant) -> Self {
        Self {
            due: Some(due),
            not_before: None,
        }
    }

    /// Due then, whatever was said before; `None`: not at all.
    pub(crate) fn set(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// Due then, says one who may have looked before the last reason came up: what is due already stays so.
    pub(crate) fn hear(&mut self, due: Option<Instant>, now: Instant) {
        if self.due.is_none_or(|known| known > now) {
            self.due = due;
        }
    }

    /// Due then or sooner.
    pub(crate) fn by(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// When to do it.
    pub(crate) fn when(&self) -> Option<Instant> {
        self.due.max(self.due.and(self.not_before))
    }

    /// Whether to do it now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.when().is_some_and(|at| at <= now)
    }

    /// It was done at `now`: due again then, but not within `pause`.
    pub(crate) fn done(&mut self, next: Option<Instant>, now: Instant, pause: Duration) {
        self.due = next;
        self.not_before = Some(now + pause);
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Agenda {
    /// Tasks come due.
    pub(crate) promote: Paced,
    /// Leases may have ended, unstarted tasks expired.
    pub(crate) ends: Paced,
    /// Results and dead letters have had their time.
    pub(crate) sweep: Paced,
    /// The consumers want to be compared.
    pub(crate) look: Paced,
    /// Jobs want to be tended.
    pub(crate) jobs: Paced,
}

impl Agenda {
    /// Of one who has done nothing yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            promote: Paced::default(),
            ends: Paced::default(),
            sweep: Paced::at(now),
            look: Paced::at(now),
            jobs: Paced::default(),
        }
    }

    /// When there is something to do next.
    pub(crate) fn next(&self) -> Option<Instant> {
        [&self.promote, &self.ends, &self.sweep, &self.look, &self.jobs]
            .into_iter()
            .filter_map(Paced::when)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_waits_for_the_pause_of_its_last_time_and_no_longer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut duty = Paced::default();
        assert_eq!(duty.when(), None);
        duty.by(at(500));
        duty.by(at(900));
        assert_eq!(duty.when(), Some(at(500)), "one alone is done on its time");
        duty.done(Some(at(501)), at(500), Duration::from_millis(25));
        assert_eq!((duty.when(), duty.is_due(at(524))), (Some(at(525)), false));
        duty.by(at(300));
        assert_eq!(duty.when(), Some(at(525)), "however urgent");
        duty.done(None, at(525), Duration::from_millis(25));
        assert_eq!(duty.when(), None, "a pause alone is no reason");
        duty.by(at(700));
        assert_eq!(duty.when(), Some(at(700)));
        duty.set(None);
        assert!(!duty.is_due(at(1000)));
    }

    #[test]
    fn what_is_due_is_not_put_off_by_one_who_looked_before() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut duty = Paced::default();
        duty.hear(Some(at(900)), start);
        duty.hear(Some(at(3600)), start);
        assert_eq!(duty.when(), Some(at(3600)), "of what lies ahead the last word counts");
        duty.by(at(100));
        duty.hear(Some(at(3600)), at(100));
        assert!(duty.is_due(at(100)), "a task came in between");
        duty.done(None, at(100), Duration::ZERO);
        duty.hear(None, at(200));
        assert_eq!(duty.when(), None);
    }

    #[test]
    fn the_next_is_the_soonest_of_all() {
        let start = Instant::now();
        let mut agenda = Agenda::new(start);
        assert_eq!(agenda.next(), Some(start));
        agenda.sweep.set(None);
        agenda.look.done(Some(start), start, Duration::from_millis(250));
        agenda.jobs.by(start + Duration::from_millis(300));
        assert_eq!(agenda.next(), Some(start + Duration::from_millis(250)));
    }
}
