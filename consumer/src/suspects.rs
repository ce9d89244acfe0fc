//! Tasks that consumers died under, one death short of the dead-letter set: in this process one of them runs at a time.
//!
//! All that a process holds is charged with its death, in its hands or running, in whichever queue. Invariant: while a suspect is
//! in the hands of any queue nothing is claimed and nothing else started. It starts when Redis has taken back the others that
//! came with it, no claim is under way, and nothing else has started for a moment, and has a second to itself; if it finds no
//! slot in time it goes back. For some seconds behind it a claim does not come close behind a start. What kills at once, this
//! one or one that nobody suspects yet, has done it by then: a death is charged to a suspect that did not deserve it only
//! beside one that takes longer to kill, or that starts in the very moment in which the suspect is claimed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use workyard_shared::broker::Handback;

/// How long a task that consumers died under is left to others while another such one runs here.
pub(crate) const SUSPECT_DELAY: Duration = Duration::from_secs(1);
/// How long nothing else has started before a suspect does.
const CALM_BEFORE: Duration = Duration::from_millis(300);
/// How long nothing is claimed or started behind it, unless it ends before.
const CALM_BEHIND: Duration = Duration::from_secs(1);
/// How long after one has come the next is reckoned with.
const ALERT: Duration = Duration::from_secs(3);
/// How long Redis may take to hear of its end: until then it is charged with a death, too.
const SETTLING: Duration = Duration::from_millis(100);
/// How long the others hold still for one that does not come to start: its kind is full, or every slot is.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What all queues of this process know of them.
#[derive(Debug)]
pub(crate) struct Suspects {
    permit: Arc<Semaphore>,
    begun: Instant,
    /// When anything was started last, in ms since `begun`, and one.
    started_ms: AtomicU64,
    /// Claims whose answers are not taken in yet.
    claims: AtomicUsize,
    /// Whether all others hold still: looked at before each start, so it must cost nothing.
    still: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Handed back by a queue (its number in the process), and Redis has not said yet that they are.
    leaving: HashSet<(usize, String)>,
    /// Since when one is in hand that has not started.
    waits_since: Option<Instant>,
    calm_until: Option<Instant>,
    /// Suspects have come of late, and more may: claims and starts take turns.
    alert_until: Option<Instant>,
    /// At the start of the process: until when the queues are waited for whose first claim has not been answered.
    opening_until: Option<Instant>,
    opening: HashSet<usize>,
}

impl State {
    fn is_still(&self) -> bool {
        let one = self.waits_since.or(self.calm_until);
        one.or(self.opening_until).or(self.alert_until).is_some()
    }
}

/// The one that stays, while it is held.
#[derive(Debug)]
pub(crate) struct Alone {
    suspects: Arc<Suspects>,
    _permit: OwnedSemaphorePermit,
}

/// A claim, until what it brought is in the lane's hands.
#[derive(Debug)]
pub(crate) struct ClaimUnderWay(Arc<Suspects>);

impl Default for Suspects {
    fn default() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            begun: Instant::now(),
            started_ms: AtomicU64::new(0),
            claims: AtomicUsize::new(0),
            still: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }
}

impl Suspects {
    /// For a process with so many queues. It may have been started because it died, and what it died of comes with the first
    /// claims: nothing starts before all of them are answered.
    pub(crate) fn new(lanes: usize) -> Self {
        let all = Self::default();
        if lanes > 1 {
            all.change(|state| {
                state.opening = (0..lanes).collect();
                state.opening_until = Some(Instant::now() + LONGEST_WAIT);
            });
        }
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.still.store(state.is_still(), Ordering::SeqCst);
    }

    /// Whether a suspect may stay here: only one at a time.
    pub(crate) fn stay(self: &Arc<Self>) -> Option<Alone> {
        let permit = Arc::clone(&self.permit).try_acquire_owned().ok()?;
        let now = Instant::now();
        self.change(|state| (state.waits_since, state.alert_until) = (Some(now), Some(now + ALERT)));
        Some(Alone {
            suspects: Arc::clone(self),
            _permit: permit,
        })
    }

    /// A claim begins.
    pub(crate) fn claim(self: &Arc<Self>) -> ClaimUnderWay {
        self.claims.fetch_add(1, Ordering::SeqCst);
        ClaimUnderWay(Arc::clone(self))
    }

    /// A claim of this queue has been answered.
    pub(crate) fn answered(&self, lane: usize) {
        if !self.still.load(Ordering::SeqCst) {
            return;
        }
        self.change(|state| {
            state.opening.remove(&lane);
            if state.opening.is_empty() {
                state.opening_until = None;
            }
        });
    }

    /// One goes back.
    pub(crate) fn leaves(&self, lane: usize, id: &str) {
        self.state().leaving.insert((lane, id.to_owned()));
    }

    /// Redis has answered a queue for these.
    pub(crate) fn gone(&self, lane: usize, handbacks: &[Handback]) {
        if handbacks.is_empty() {
            return;
        }
        let mut state = self.state();
        if !state.leaving.is_empty() {
            handbacks.iter().for_each(|handback| {
                state.leaving.remove(&(lane, handback.id.clone()));
            });
        }
    }

    /// A queue has a new session: what it held is not its own any more.
    pub(crate) fn forget(&self, lane: usize) {
        self.state().leaving.retain(|(of, _)| *of != lane);
    }

    /// Whether one is in hand that has waited for too long.
    pub(crate) fn gives_up(&self) -> bool {
        self.still.load(Ordering::SeqCst) && self.has_waited(Instant::now())
    }

    fn has_waited(&self, now: Instant) -> bool {
        let since = self.state().waits_since;
        since.is_some_and(|since| now.saturating_duration_since(since) >= LONGEST_WAIT)
    }

    fn may_start(&self, now: Instant) -> bool {
        self.is_calm(now) && self.state().leaving.is_empty() && self.claims.load(Ordering::SeqCst) == 0
    }

    /// Whether nothing has started of late.
    fn is_calm(&self, now: Instant) -> bool {
        let last = self.started_ms.load(Ordering::SeqCst).checked_sub(1);
        let since = now.saturating_duration_since(self.begun);
        last.is_none_or(|ms| since >= Duration::from_millis(ms) + CALM_BEFORE)
    }

    /// Whether a task may start that has a slot.
    pub(crate) fn lets_start(&self, is_suspect: bool) -> bool {
        match is_suspect {
            true => self.may_start(Instant::now()),
            false => !self.still.load(Ordering::SeqCst) || self.others_may(Instant::now(), true),
        }
    }

    /// Whether a claim may bring more.
    pub(crate) fn lets_claim(&self) -> bool {
        !self.still.load(Ordering::SeqCst) || self.others_may(Instant::now(), false)
    }

    /// A task starts.
    pub(crate) fn started(&self, is_suspect: bool, now: Instant) {
        if is_suspect {
            return self.change(|state| (state.waits_since, state.calm_until) = (None, Some(now + CALM_BEHIND)));
        }
        let ms = now.saturating_duration_since(self.begun).as_millis();
        self.started_ms
            .store(u64::try_from(ms).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    fn others_may(&self, now: Instant, to_start: bool) -> bool {
        let mut may = false;
        self.change(|state| {
            for until in [&mut state.calm_until, &mut state.opening_until, &mut state.alert_until] {
                until.take_if(|until| now >= *until);
            }
            // What starts now may kill, and what a claim brings meanwhile would be charged with it.
            let apart = match (to_start, state.alert_until) {
                (_, None) => true,
                (true, Some(_)) => self.claims.load(Ordering::SeqCst) == 0,
                (false, Some(_)) => self.is_calm(now),
            };
            let open = apart && (!to_start || state.opening_until.is_none());
            may = open && state.waits_since.is_none() && state.calm_until.is_none();
        });
        may
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let settled = Instant::now() + SETTLING;
        self.suspects
            .change(|state| (state.waits_since, state.calm_until) = (None, Some(settled)));
    }
}

impl Drop for ClaimUnderWay {
    fn drop(&mut self) {
        self.0.claims.fetch_sub(1, Ordering::SeqCst);
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
    fn a_suspect_starts_when_the_others_are_gone_and_no_queue_claims_or_starts_until_it_has_run_a_moment() {
        let (suspects, now) = (Arc::new(Suspects::default()), Instant::now());
        assert!(suspects.lets_claim() && suspects.lets_start(false));
        let alone = suspects.stay().unwrap();
        assert!(suspects.stay().is_none(), "one at a time, of all queues");
        assert!(!suspects.others_may(now, true), "it goes first");
        suspects.leaves(0, "a");
        suspects.leaves(1, "b");
        suspects.gone(0, &[handback("a"), handback("b")]);
        assert!(!suspects.may_start(now), "b is another queue's");
        suspects.gone(1, &[handback("b")]);
        let claim = suspects.claim();
        assert!(!suspects.may_start(now), "who knows what that brings");
        drop(claim);
        suspects.started(false, now);
        assert!(
            !suspects.may_start(now) && !suspects.may_start(now + CALM_BEFORE / 2),
            "that one may kill, too"
        );
        let later = now + CALM_BEFORE * 2;
        assert!(suspects.may_start(later));
        suspects.started(true, later);
        assert!(!suspects.others_may(later, true) && suspects.others_may(later + CALM_BEHIND, true));
        suspects.started(true, later);
        drop(alone);
        assert!(suspects.others_may(Instant::now() + SETTLING, true), "it has ended");
        assert!(suspects.stay().is_some());
    }

    #[test]
    fn nothing_starts_before_each_queue_has_heard_what_its_first_claim_brings() {
        let suspects = Suspects::new(2);
        assert!(suspects.lets_claim() && !suspects.lets_start(false));
        suspects.answered(1);
        assert!(!suspects.lets_start(false) && suspects.others_may(Instant::now() + LONGEST_WAIT, true));
        let suspects = Suspects::new(2);
        suspects.answered(0);
        suspects.answered(1);
        assert!(suspects.lets_start(false) && Suspects::new(1).lets_start(false));
    }

    #[test]
    fn one_that_does_not_come_to_start_keeps_nobody_waiting_for_long() {
        let (suspects, now) = (Arc::new(Suspects::default()), Instant::now());
        let alone = suspects.stay();
        suspects.leaves(3, "a");
        assert!(!suspects.may_start(now) && !suspects.others_may(now, true) && !suspects.has_waited(now));
        assert!(suspects.has_waited(now + LONGEST_WAIT * 2), "it goes back then");
        drop(alone);
        assert!(!suspects.others_may(now, true) && suspects.others_may(Instant::now() + SETTLING, true));
        assert!(!suspects.has_waited(now + LONGEST_WAIT * 2));
        let _alone = suspects.stay();
        assert!(!suspects.may_start(now));
        suspects.forget(3);
        assert!(suspects.may_start(now), "what an old session held is not ours");
    }
}
