//! Suspects: tasks that one more death of a consumer would make poison. In this process one of them runs at a time, and starts alone.
//!
//! Of the suspects that a dead process held only the one is charged that it had told Redis of before it started it
//! (`lua/suspect.lua`). Invariant: nothing has started for a moment when a suspect does, and nothing else starts for its first
//! second: what kills at once has killed by then, and so one is poison by its own deaths. Before others start beside one that
//! goes on, Redis is told of that, too, and it bears more of the deaths that follow; with each of them it is alone for longer,
//! so that what kills late is found out as well. Suspects and the others take turns, so that neither waits
//! for long for the end of the other, however many there are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// How long a suspect is left to others while another one runs here.
pub(crate) const SUSPECT_DELAY: Duration = Duration::from_secs(1);
/// How often those look again that hold still.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long nothing else has started before a suspect does.
const CALM_BEFORE: Duration = Duration::from_millis(300);
/// How long nothing else starts beside it; twice as long with each death that it survived beside others.
const ALONE: Duration = Duration::from_secs(1);
/// How often that doubles: as many such deaths as `lua/reclaim.lua` lets it survive.
const DOUBLES: u32 = 3;
/// How long before the others start Redis is told that they do.
const TELLS_BEFORE: Duration = Duration::from_millis(100);
/// How long suspects may follow each other while others hold still; at least as long is the turn of the others.
const TURN: Duration = Duration::from_secs(1);
/// How long the next one may take to come, in a turn.
const BETWEEN: Duration = Duration::from_millis(30);
/// How long the others hold still for one that does not come to start.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What all queues of this process know of them.
#[derive(Debug)]
pub(crate) struct Suspects {
    permit: Arc<Semaphore>,
    begun: Instant,
    /// When another was started last, in ms since `begun`, and one.
    started_ms: AtomicU64,
    /// Whether the others hold still: looked at before each start, so it must cost nothing.
    still: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the others hold still: one that had just been let start has said so a moment later.
    still_since: Option<Instant>,
    /// Since when one wants to start.
    waits_since: Option<Instant>,
    /// Until when the others hold still for the one that runs, or for the next.
    still_until: Option<Instant>,
    /// Since when suspects have had their turn.
    turn_since: Option<Instant>,
    /// Whether another wanted to start meanwhile.
    held_up: bool,
    /// Until when it is the turn of the others.
    others_until: Option<Instant>,
}

impl State {
    /// The turn of the suspects is over. Who has kept nobody waiting owes nothing.
    fn end_turn(&mut self, now: Instant) {
        let took = self.turn_since.take().map(|since| now.saturating_duration_since(since));
        (self.waits_since, self.still_until) = (None, None);
        if std::mem::take(&mut self.held_up) {
            self.others_until = Some(now + took.unwrap_or_default().max(LONGEST_WAIT));
        }
    }
}

/// The one that may start now, until it has ended.
#[derive(Debug)]
pub(crate) struct Alone {
    suspects: Arc<Suspects>,
    _permit: OwnedSemaphorePermit,
    /// Tells Redis when others start beside it.
    tells: Option<AbortOnDropHandle<()>>,
}

impl Default for Suspects {
    fn default() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            begun: Instant::now(),
            started_ms: AtomicU64::new(0),
            still: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }
}

impl Suspects {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state: MutexGuard<'_, State> = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut state);
        let still = state.waits_since.is_some() || state.still_until.is_some();
        match still {
            true => _ = state.still_since.get_or_insert_with(Instant::now),
            false => state.still_since = None,
        }
        self.still.store(still, Ordering::SeqCst);
        answer
    }

    /// Whether one runs for so long that others go on beside it: those that wait here had better run elsewhere.
    pub(crate) fn is_occupied(&self, now: Instant) -> bool {
        let is_alone =
            |state: &mut State| state.waits_since.is_some() || state.still_until.is_some_and(|until| now < until);
        self.permit.available_permits() == 0 && !(self.still.load(Ordering::SeqCst) && self.change(is_alone))
    }

    /// A suspect wants to start. From its first try on, when it is the suspects' turn, the others hold still, and it may when
    /// nothing has started for a moment.
    pub(crate) fn try_start(self: &Arc<Self>, now: Instant) -> Option<Alone> {
        let permit = Arc::clone(&self.permit).try_acquire_owned().ok()?;
        self.change(|state| {
            state.others_until.take_if(|until| now >= *until);
            if state.others_until.is_some() {
                return None;
            }
            state.waits_since.get_or_insert(now);
            state.still_until = None;
            let all_know = state.still_since.is_some_and(|since| now >= since + LOOK_AGAIN);
            (all_know && self.is_calm(now)).then_some(())
        })?;
        Some(Alone {
            suspects: Arc::clone(self),
            _permit: permit,
            tells: None,
        })
    }

    /// Whether nothing else has started of late.
    fn is_calm(&self, now: Instant) -> bool {
        let last = self.started_ms.load(Ordering::SeqCst).checked_sub(1);
        let since = now.saturating_duration_since(self.begun);
        last.is_none_or(|ms| since >= Duration::from_millis(ms) + CALM_BEFORE)
    }

    /// Whether a task may start that is no suspect.
    pub(crate) fn lets_start(&self) -> bool {
        !self.still.load(Ordering::SeqCst) || self.others_may(Instant::now())
    }

    /// A task starts that is no suspect.
    pub(crate) fn started(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.begun).as_millis();
        self.started_ms
            .store(u64::try_from(ms).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    fn others_may(&self, now: Instant) -> bool {
        self.change(|state| {
            let waits = state.waits_since.is_some_and(|since| now < since + LONGEST_WAIT);
            let runs = state.still_until.is_some_and(|until| now < until);
            state.held_up = true;
            if !waits && !runs {
                state.end_turn(now);
            }
            !waits && !runs
        })
    }
}

impl Alone {
    /// It starts, unless something else has meanwhile. `survived`: deaths, as a suspect, beside others.
    pub(crate) fn starts(&self, now: Instant, survived: u32) -> bool {
        let suspects = &self.suspects;
        suspects.is_calm(now)
            && suspects.change(|state| {
                (state.waits_since, state.still_until) = (None, Some(now + alone_for(survived)));
                state.turn_since.get_or_insert(now);
                true
            })
    }

    /// `tell` tells Redis that others start beside it, when they are about to and it still runs.
    pub(crate) fn when_beside(&mut self, survived: u32, tell: impl Future<Output = ()> + Send + 'static) {
        let pause = alone_for(survived).saturating_sub(TELLS_BEFORE);
        self.tells = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            tell.await;
        })));
    }
}

fn alone_for(survived: u32) -> Duration {
    ALONE * (1 << survived.min(DOUBLES))
}

impl Drop for Alone {
    fn drop(&mut self) {
        let now = Instant::now();
        self.suspects
            .change(|state| match (state.turn_since, state.still_until) {
                // The next may be there already.
                (Some(since), Some(_)) if now < since + TURN => state.still_until = Some(now + BETWEEN),
                (Some(_), _) => state.end_turn(now),
                // It did not come to start, and nobody holds still for it any more; or it has long been beside others.
                (None, _) => state.waits_since = None,
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others_wait(suspects: &Suspects, at: Instant) -> bool {
        suspects.still.load(Ordering::SeqCst) && !suspects.others_may(at)
    }

    #[test]
    fn a_suspect_starts_when_nothing_has_for_a_moment_and_nothing_does_for_its_first_second() {
        let (suspects, now) = (Arc::new(Suspects::default()), Instant::now());
        suspects.started(now);
        assert!(suspects.try_start(now).is_none(), "that one may kill");
        assert!(others_wait(&suspects, now), "it goes first");
        let later = Instant::now() + CALM_BEFORE;
        let alone = suspects.try_start(later).unwrap();
        assert!(suspects.try_start(later).is_none(), "one at a time, of all queues");
        assert!(others_wait(&suspects, later), "Redis is told of it");
        assert!(alone.starts(later, 0));
        assert!(
            !suspects.is_occupied(later + ALONE / 2) && suspects.is_occupied(later + ALONE),
            "it runs on beside others"
        );
        assert!(others_wait(&suspects, later + ALONE / 2) && !others_wait(&suspects, later + ALONE));
        assert!(suspects.is_occupied(later + ALONE));
        drop(alone);
        assert!(!suspects.is_occupied(later + ALONE) && !others_wait(&suspects, later));
    }

    #[test]
    fn suspects_follow_each_other_for_a_second_and_then_the_others_have_as_long() {
        let suspects = Arc::new(Suspects::default());
        assert!(
            suspects.try_start(Instant::now()).is_none(),
            "one may have been let start just now"
        );
        let first = suspects.try_start(Instant::now() + LOOK_AGAIN).unwrap();
        assert!(first.starts(Instant::now(), 0));
        assert!(others_wait(&suspects, Instant::now()));
        drop(first);
        let now = Instant::now() + LOOK_AGAIN;
        assert!(others_wait(&suspects, now), "for the next");
        let second = suspects.try_start(now).unwrap();
        assert!(second.starts(now, 0));
        // As if it had taken so long.
        suspects.change(|state| state.turn_since = Some(now.checked_sub(TURN * 2).unwrap()));
        drop(second);
        assert!(!others_wait(&suspects, now));
        assert!(suspects.try_start(now).is_none(), "it is their turn");
        assert!(!others_wait(&suspects, now), "and nobody holds still for the next one");
        let late = now + TURN * 3;
        assert!(suspects.try_start(late).is_none() && suspects.try_start(late + LOOK_AGAIN).is_some());
    }

    #[test]
    fn suspects_alone_follow_each_other_without_a_pause() {
        let suspects = Arc::new(Suspects::default());
        for _ in 0..3 {
            assert!(suspects.try_start(Instant::now()).is_none());
            let alone = suspects.try_start(Instant::now() + LOOK_AGAIN).unwrap();
            assert!(alone.starts(Instant::now(), 0));
            let now = Instant::now();
            suspects.change(|state| state.turn_since = Some(now.checked_sub(TURN * 2).unwrap()));
        }
        assert!(suspects.change(|state| state.others_until).is_none());
    }

    #[test]
    fn one_that_does_not_come_to_start_keeps_nobody_waiting_for_long() {
        let (suspects, now) = (Arc::new(Suspects::default()), Instant::now());
        suspects.started(now);
        assert!(suspects.try_start(now).is_none());
        assert!(others_wait(&suspects, now + LONGEST_WAIT / 2) && !others_wait(&suspects, now + LONGEST_WAIT));
        assert!(!others_wait(&suspects, now + LONGEST_WAIT), "nor does the next try");
        let late = now + LONGEST_WAIT * 3;
        assert!(suspects.try_start(late).is_none());
        let alone = suspects.try_start(late + LOOK_AGAIN).unwrap();
        suspects.started(late);
        assert!(
            !alone.starts(late, 0),
            "Redis took so long to answer that another has started"
        );
        assert!(others_wait(&suspects, late));
        drop(alone);
        assert!(suspects.lets_start(), "it went elsewhere");
        assert!(suspects.try_start(late).is_none() && !others_wait(&suspects, late + LONGEST_WAIT));
    }
}
