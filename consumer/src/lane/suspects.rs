//! Tasks that consumers died under, one death short of the dead-letter set: here one of them runs at a time.
//!
//! All that a consumer holds is charged with its death, in its hands or running. Invariant: a suspect starts only when Redis has
//! taken back the others that came with it, and for a moment no claim brings new ones: a task that kills at once would
//! take them with it, although they never ran.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use workyard_shared::broker::Handback;

/// How long a task that consumers died under is left to others while another such one runs here.
pub(super) const SUSPECT_DELAY: Duration = Duration::from_secs(1);
/// How long nothing is claimed behind the start of a suspect: what kills at once has done it by then.
const CALM: Duration = Duration::from_millis(300);

/// What the lane knows of them.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Handed back, and Redis has not said yet that they are.
    leaving: HashSet<String>,
    /// One could start, but for what is still with us.
    blocked: bool,
    calm_until: Option<Instant>,
}

impl Suspects {
    /// One goes back.
    pub(super) fn leaves(&mut self, id: &str) {
        self.leaving.insert(id.to_owned());
    }

    /// Redis has answered for these.
    pub(super) fn gone(&mut self, handbacks: &[Handback]) {
        if !self.leaving.is_empty() {
            handbacks.iter().for_each(|handback| {
                self.leaving.remove(&handback.id);
            });
        }
    }

    /// Whether the one that stays may start now that it has a slot; if not, nothing more is claimed until it may.
    pub(super) fn may_start(&mut self, claiming: bool) -> bool {
        self.blocked = claiming || !self.leaving.is_empty();
        !self.blocked
    }

    /// None waits to start, as far as is known.
    pub(super) fn look(&mut self) {
        self.blocked = false;
    }

    /// It starts.
    pub(super) fn started(&mut self, now: Instant) {
        self.calm_until = Some(now + CALM);
    }

    /// Whether a claim may bring more tasks.
    pub(super) fn may_claim(&mut self, now: Instant) -> bool {
        if self.calm_until.is_some_and(|until| now >= until) {
            self.calm_until = None;
        }
        !self.blocked && self.calm_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handback(id: &str) -> Handback {
        Handback {
            id: id.to_owned(),
            token: 1,
            unhandled: false,
            delay: SUSPECT_DELAY,
        }
    }

    #[test]
    fn a_suspect_starts_when_the_others_are_gone_and_nothing_is_claimed_until_it_has_run_a_moment() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        assert!(suspects.may_start(false) && suspects.may_claim(now));
        suspects.leaves("a");
        suspects.leaves("b");
        suspects.gone(&[handback("a"), handback("other")]);
        assert!(!suspects.may_start(false) && !suspects.may_claim(now));
        suspects.gone(&[handback("b")]);
        assert!(
            !suspects.may_start(true) && !suspects.may_claim(now),
            "who knows what that brings"
        );
        suspects.look();
        assert!(suspects.may_claim(now), "it is not here any more");
        assert!(suspects.may_start(false));
        suspects.started(now);
        assert!(!suspects.may_claim(now) && suspects.may_claim(now + CALM));
        assert!(suspects.may_claim(now), "it is over once");
    }
}
