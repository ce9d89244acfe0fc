//! Waiting for something to become true, with a limit, instead of sleeping and hoping.
//!
//! Invariant: a wait ends at its limit, even when the condition itself hangs (a stopped server does that), and its
//! panic names the line that waited.
//!
//! It does not decide how fast something should be: the caller gets the time that passed and may assert on it.

use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// Short against what tests measure (tens of milliseconds), long against the cost of one check.
const PAUSE: Duration = Duration::from_millis(10);

/// Polls `condition` until it is true and returns the time that took.
///
/// # Panics
/// When it is not true within `limit`.
#[track_caller]
pub fn wait_until<F, C>(limit: Duration, mut condition: F) -> impl Future<Output = Duration>
where
    F: FnMut() -> C,
    C: Future<Output = bool>,
{
    let begun = Instant::now();
    let found = poll(Location::caller(), limit, move || {
        let check = condition();
        async move { check.await.then_some(()) }
    });
    async move {
        found.await;
        begun.elapsed()
    }
}

/// Polls `look` until it finds something and returns that.
///
/// # Panics
/// When it found nothing within `limit`.
#[track_caller]
pub fn wait_for<T, F, C>(limit: Duration, look: F) -> impl Future<Output = T>
where
    F: FnMut() -> C,
    C: Future<Output = Option<T>>,
{
    poll(Location::caller(), limit, look)
}

/// The caller's place is taken outside of the future: inside, it would be the executor's.
async fn poll<T, F, C>(place: &'static Location<'static>, limit: Duration, mut look: F) -> T
where
    F: FnMut() -> C,
    C: Future<Output = Option<T>>,
{
    let mut checks = 0_u64;
    let search = async {
        loop {
            checks += 1;
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(limit, search).await {
        return found;
    }
    panic!("{place}: what this line waits for did not happen within {limit:?} ({checks} checks)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn returns_as_soon_as_the_condition_holds() {
        let calls = Cell::new(0);
        let took = wait_until(Duration::from_secs(5), || async {
            calls.set(calls.get() + 1);
            calls.get() == 3
        })
        .await;
        assert_eq!(calls.get(), 3);
        assert!(took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test]
    async fn returns_what_was_found() {
        let found = wait_for(Duration::from_secs(5), || async { Some(7) }).await;
        assert_eq!(found, 7);
    }

    #[tokio::test]
    #[should_panic(expected = "wait.rs")]
    async fn names_the_waiting_line_when_the_limit_passes() {
        wait_until(Duration::from_millis(30), || async { false }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "did not happen within")]
    async fn a_condition_that_hangs_ends_at_the_limit_too() {
        wait_until(Duration::from_millis(30), std::future::pending).await;
    }
}
