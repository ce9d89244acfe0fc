//! Why a task ran again although a run of it had come to its end.
//!
//! Invariant: a reason lies between the two runs: the death of the consumer while the first was under way or had just ended, the end of
//! its lease then, or a death of Redis that took the end. What happened to a process at another time explains nothing.

use crate::evidence::Evidence;
use crate::runs::Run;

/// How long a run may have been over, and its end not told, when its consumer was killed or heard that its lease had ended: a network or
/// a Redis that is away keeps an end for so long.
const UNTOLD_MS: u64 = 15_000;

/// The reason of each run that came to its end and was followed by another for one.
pub(crate) fn repeats(evidence: &Evidence, runs: &[Run], was_undone: impl Fn(&Run) -> bool) -> Vec<&'static str> {
    let pairs = runs.windows(2).filter(|pair| pair[0].done_ms.is_some());
    pairs
        .filter_map(|pair| reason(evidence, &pair[0], &pair[1], &was_undone))
        .collect()
}

fn reason(evidence: &Evidence, first: &Run, next: &Run, was_undone: impl Fn(&Run) -> bool) -> Option<&'static str> {
    let mut lives = evidence.lives.iter().filter(|life| life.pid == first.pid);
    let untold = |at_ms: u64| first.begun_ms <= at_ms && first.done_ms.is_some_and(|done| done + UNTOLD_MS >= at_ms);
    // What is dead, or has heard of its loss, is older than the loss itself; the next run may begin before the first one hears of it.
    if lives
        .clone()
        .any(|life| !life.was_told && life.died_ms.is_some_and(|at| untold(at) && at <= next.begun_ms))
    {
        return Some("its consumer was killed before it could tell");
    }
    let heard = |at_ms: &u64| untold(*at_ms) && *at_ms <= next.begun_ms + UNTOLD_MS;
    if lives.any(|life| life.lost_lease_ms.iter().any(heard)) {
        return Some("its consumer's lease had ended");
    }
    was_undone(first).then_some("Redis lost its end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Life;

    fn run(pid: u32, token: u64, begun_ms: u64, done_ms: u64) -> Run {
        Run {
            pid,
            token,
            begun_ms,
            done_ms: Some(done_ms),
            starts: 1,
        }
    }

    /// Process 1 died at 50,000, process 2 lost its lease then, and process 4 had ended as it was told to.
    fn evidence() -> Evidence {
        let life = |pid, died_ms, lost_lease_ms| Life {
            pid,
            born_ms: 0,
            died_ms,
            was_told: pid == 4,
            lost_lease_ms,
        };
        Evidence {
            lives: vec![
                life(1, Some(50_000), vec![]),
                life(2, None, vec![50_000]),
                life(4, Some(50_000), vec![]),
            ],
            ..Evidence::default()
        }
    }

    #[test]
    fn a_death_and_a_lost_lease_explain_what_was_under_way_then_and_nothing_else() {
        for pid in [1, 2] {
            let why = |first: Run, next: Run| repeats(&evidence(), &[first, next], |_| false).len();
            assert_eq!(
                why(run(pid, 1, 49_000, 49_500), run(3, 2, 53_000, 53_001)),
                1,
                "{pid}: under way"
            );
            assert_eq!(
                why(run(pid, 1, 1_000, 1_100), run(3, 2, 2_000, 2_100)),
                0,
                "{pid}: long before"
            );
            assert_eq!(
                why(run(pid, 1, 60_000, 60_100), run(3, 2, 61_000, 61_100)),
                0,
                "{pid}: behind it"
            );
            assert_eq!(
                why(run(3, 1, 49_000, 49_500), run(pid, 2, 53_000, 53_001)),
                0,
                "{pid}: another's"
            );
        }
        let told = [run(4, 1, 49_000, 49_500), run(3, 2, 53_000, 53_001)];
        assert!(repeats(&evidence(), &told, |_| false).is_empty(), "it could tell");
        let again = [run(3, 1, 10, 20), run(3, 2, 30, 40)];
        assert_eq!(repeats(&evidence(), &again, |_| true), ["Redis lost its end"]);
    }
}
