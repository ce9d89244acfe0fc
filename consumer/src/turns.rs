//! Whose turn it is among the queues of one worker that want the same slots.
//!
//! Invariant: one that asks in vain is remembered until it has been served, says that it wants nothing, or has not asked for
//! [`FORGOTTEN`]: nobody who only looked more often gets its slot, and no slot waits for one that went away. It counts no
//! slots; those who share them do.

use std::time::{Duration, Instant};

use crate::slots::QueueOrder;

/// A queue that wants a slot asks four times a second.
const FORGOTTEN: Duration = Duration::from_millis(700);

/// Which queue asks, and how it stands among those of its worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) lane: usize,
    /// Its place in the order of the queues, which a reload may change.
    pub(crate) rank: usize,
    pub(crate) weight: usize,
    pub(crate) order: QueueOrder,
    /// There is no other queue.
    pub(crate) alone: bool,
    /// Tasks that it may run before another has its turn: to hand a slot over takes longer than many a task.
    pub(crate) burst: usize,
}

/// The turns of all queues that ever asked.
#[derive(Debug, Default)]
pub(crate) struct Turns(Vec<Turn>);

#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// What it was served, divided by its weight (as in stride scheduling, Waldspurger and Weihl 1995).
    pass: f64,
    /// When it asked last, if that was in vain.
    asked: Option<Instant>,
    /// Its place among the queues, when it asked last.
    rank: usize,
    /// It wants nothing at present.
    resting: bool,
    /// When it asked or was served last.
    seen: Option<Instant>,
}

impl Turn {
    /// Whether it takes part now.
    fn is_active(&self, now: Instant) -> bool {
        !self.resting
            && self
                .seen
                .is_some_and(|at| now.saturating_duration_since(at) < FORGOTTEN)
    }
}

impl Turns {
    fn of(&mut self, lane: usize) -> &mut Turn {
        if self.0.len() <= lane {
            self.0.resize(lane + 1, Turn::default());
        }
        &mut self.0[lane]
    }

    /// How many of the others that wait go before this one.
    pub(crate) fn before(&mut self, who: Standing, now: Instant) -> usize {
        self.begins(who.lane, now);
        let mine = *self.of(who.lane);
        let burst = share(who.burst, who.weight);
        let others = self.0.iter().enumerate().filter(|(lane, _)| *lane != who.lane);
        let waiting = others.filter(|(_, turn)| {
            turn.asked
                .is_some_and(|at| now.saturating_duration_since(at) < FORGOTTEN)
        });
        waiting
            .filter(|(_, turn)| match who.order {
                QueueOrder::Strict => turn.rank < who.rank,
                QueueOrder::Weighted => turn.pass + burst < mine.pass,
            })
            .count()
    }

    /// One that rested, or has not asked for long, or never, begins where those stand that take part: neither behind for what it
    /// had long ago, nor with a claim to all that it did not want.
    fn begins(&mut self, lane: usize, now: Instant) {
        let was_active = self.of(lane).is_active(now);
        if !was_active {
            let others = self
                .0
                .iter()
                .enumerate()
                .filter(|(other, turn)| *other != lane && turn.is_active(now));
            if let Some(least) = others.map(|(_, turn)| turn.pass).reduce(f64::min) {
                self.of(lane).pass = least;
            }
        }
        let turn = self.of(lane);
        (turn.resting, turn.seen) = (false, Some(now));
    }

    /// It asked in vain.
    pub(crate) fn waits(&mut self, who: Standing, now: Instant) {
        self.begins(who.lane, now);
        let turn = self.of(who.lane);
        (turn.asked, turn.rank) = (Some(now), who.rank);
    }

    /// It got so many.
    pub(crate) fn served(&mut self, who: Standing, tasks: usize, now: Instant) {
        self.begins(who.lane, now);
        let more = share(tasks, who.weight);
        let turn = self.of(who.lane);
        (turn.asked, turn.pass) = (None, turn.pass + more);
    }

    /// It wants nothing now.
    pub(crate) fn rests(&mut self, lane: usize) {
        let turn = self.of(lane);
        (turn.asked, turn.resting) = (None, true);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a batch and a weight")]
fn share(tasks: usize, weight: usize) -> f64 {
    tasks as f64 / weight.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(lane: usize, weight: usize, order: QueueOrder) -> Standing {
        Standing {
            lane,
            rank: lane,
            weight,
            order,
            alone: false,
            burst: 0,
        }
    }

    /// Who gets each of `n` slots that come free one after the other, when all want all of them and the last asks most often.
    fn shares(n: usize, all: &[Standing]) -> Vec<usize> {
        let (mut turns, mut got, now) = (Turns::default(), vec![0; all.len()], Instant::now());
        for _ in 0..n {
            for who in all {
                turns.waits(*who, now);
            }
            let next = all.iter().rev().find(|who| turns.before(**who, now) == 0).unwrap();
            turns.served(*next, 1, now);
            got[next.lane] += 1;
        }
        got
    }

    #[test]
    fn a_slot_at_a_time_is_shared_by_weight_or_goes_to_the_first() {
        use QueueOrder::{Strict, Weighted};
        assert_eq!(shares(10, &[standing(0, 1, Strict), standing(1, 1, Strict)]), [10, 0]);
        assert_eq!(
            shares(10, &[standing(0, 1, Weighted), standing(1, 1, Weighted)]),
            [5, 5]
        );
        assert_eq!(
            shares(12, &[standing(0, 1, Weighted), standing(1, 3, Weighted)]),
            [3, 9]
        );
    }

    #[test]
    fn short_tasks_are_run_some_at_a_time_and_shared_all_the_same() {
        let all = [0, 1].map(|lane| Standing {
            burst: 10,
            ..standing(lane, 1, QueueOrder::Weighted)
        });
        let got = shares(200, &all);
        assert!(got[0].abs_diff(got[1]) <= 20, "{got:?}");
    }

    #[test]
    fn one_that_rests_or_went_away_keeps_nobody_waiting_and_saves_nothing_up() {
        let [a, b] = [0, 1].map(|lane| standing(lane, 1, QueueOrder::Weighted));
        let (mut turns, now) = (Turns::default(), Instant::now());
        turns.waits(a, now);
        assert_eq!(turns.before(a, now), 0);
        turns.served(b, 100, now);
        turns.waits(a, now);
        assert_eq!(turns.before(b, now), 1);
        assert_eq!(turns.before(b, now + FORGOTTEN), 0);
        turns.rests(0);
        assert_eq!(turns.before(b, now), 0);
        assert_eq!(turns.before(a, now), 0);
        turns.waits(a, now);
        assert_eq!(turns.before(b, now), 0, "what it did not want is not owed to it");
        turns.served(a, 1, now);
        turns.waits(b, now);
        assert_eq!(turns.before(a, now), 1);
    }

    #[test]
    fn nobody_pays_for_what_it_had_while_it_was_alone() {
        let [old, new] = [0, 1].map(|lane| standing(lane, 1, QueueOrder::Weighted));
        let (mut turns, now) = (Turns::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(turns.before(old, now), 0);
            turns.served(old, 1, now);
        }
        let mut got = [0, 0];
        for _ in 0..10 {
            for who in [new, old] {
                let before = turns.before(who, now);
                match before {
                    0 => {
                        turns.served(who, 1, now);
                        got[who.lane] += 1;
                    }
                    _ => turns.waits(who, now),
                }
            }
        }
        assert!(got[0] >= 4 && got[1] >= 4, "{got:?}");
        // After a pause both begin alike.
        let later = now + FORGOTTEN;
        turns.waits(new, later);
        assert_eq!(turns.before(new, later), 0);
        assert_eq!(turns.before(old, later), 0);
    }
}
