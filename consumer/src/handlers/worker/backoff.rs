//! When the next process may start after one failed.
//!
//! Invariant: the first failure waits [`FIRST`], each further one twice as long, never more than
//! [`MOST`]; one answer resets it. A worker that cannot start must not become a fork storm.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(10);

/// The failures in a row of one pool.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    /// Counts a process that failed.
    pub(super) fn failed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        state.not_before = Some(Instant::now() + delay(state.failures));
    }

    /// Counts an answer: processes work.
    pub(super) fn succeeded(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// Waits until a process may start.
    pub(super) async fn wait(&self) {
        let not_before = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .not_before;
        if let Some(at) = not_before {
            tokio::time::sleep_until(at).await;
        }
    }
}

fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST * 2u32.pow(doublings)).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_a_tenth_of_a_second_to_ten() {
        let delays: Vec<u128> = [1, 2, 3, 7, 8, 100, u32::MAX]
            .map(|n| delay(n).as_millis())
            .into();
        assert_eq!(delays, [100, 200, 400, 6400, 10_000, 10_000, 10_000]);
    }

    #[tokio::test]
    async fn one_answer_resets_the_wait() {
        let backoff = Backoff::default();
        for _ in 0..20 {
            backoff.failed();
        }
        assert!(
            backoff
                .state
                .lock()
                .unwrap()
                .not_before
                .is_some_and(|at| at > Instant::now())
        );
        backoff.succeeded();
        assert!(backoff.state.lock().unwrap().not_before.is_none());
        backoff.failed();
        assert_eq!(backoff.state.lock().unwrap().failures, 1);
    }
}
