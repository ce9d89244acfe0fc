//! Waiting for room in a full queue, when the policy of the queue asks for it.
//!
//! Invariant: tasks go in their order; a piece goes in whole or not at all. A queue that rejects is never waited
//! for. Nobody wakes us: room is asked for again with growing pauses, so that a hundred waiting producers do not
//! keep Redis from the work that makes room.

use std::ops::Range;
use std::time::{Duration, Instant};

use workyard_shared::Error as CallError;
use workyard_shared::outage::Patience;
use workyard_shared::overload::Overload;

use crate::error::Error;

/// Most tasks that shed others in one call: what `lua/overload.lua` permits.
const SHED_PIECE: usize = 50;

/// What ended the sending before all tasks were in.
#[derive(Debug)]
pub(crate) struct Stopped<T> {
    pub(crate) error: Error,
    /// What the pieces before it brought.
    pub(crate) received: Vec<T>,
}

/// Of a single task there is nothing else to say.
impl<T> From<Stopped<T>> for Error {
    fn from(stopped: Stopped<T>) -> Self {
        stopped.error
    }
}

/// Sends the tasks `0..total`, all at once or, where the queue has no room for all, in pieces that fit. Waits for room
/// at most `block` since the last piece went in.
///
/// # Errors
/// Those of `send`; [`CallError::Full`] when there is no room in time. What went in before stays.
pub(crate) async fn until_room<T, F>(
    block: Duration,
    total: usize,
    mut send: impl FnMut(Range<usize>) -> F,
) -> Result<Vec<T>, Stopped<T>>
where
    F: Future<Output = Result<Vec<T>, Error>>,
{
    let mut received = Vec::with_capacity(total);
    // Most in one piece, ever and next.
    let (mut done, mut cap, mut most) = (0, total, total);
    let (mut patience, mut give_up) = (Patience::default(), None);
    while done < total {
        let piece = done..total.min(done + most);
        let error = match send(piece.clone()).await {
            Ok(part) => {
                received.extend(part);
                (done, most) = (piece.end, cap);
                (patience, give_up) = (Patience::default(), None);
                continue;
            }
            Err(error) => error,
        };
        let Error::Call(CallError::Full {
            depth, limit, policy, ..
        }) = &error
        else {
            return Err(Stopped { error, received });
        };
        let room = usize::try_from(limit.saturating_sub(*depth)).unwrap_or(usize::MAX);
        match policy {
            Overload::Shed if piece.len() > SHED_PIECE => (cap, most) = (SHED_PIECE, SHED_PIECE),
            Overload::Block if room > 0 && room < piece.len() && give_up.is_none() => most = room,
            Overload::Block => {
                // Counted from when the answer was read: a call of a bulk may have lain there unread.
                let until = *give_up.get_or_insert_with(|| Instant::now().checked_add(block));
                let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(Stopped { error, received });
                }
                tokio::time::sleep(patience.next_delay(fastrand::f64()).min(left)).await;
                most = room.clamp(1, piece.len());
            }
            Overload::Reject | Overload::Shed => return Err(Stopped { error, received }),
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of the policy: each send sees the next room, and takes a piece that is no larger.
    async fn run(policy: Overload, rooms: &[u64], total: usize, block: Duration) -> (Vec<(usize, usize)>, bool) {
        let (mut rooms, mut sent) = (rooms.iter().copied(), Vec::new());
        let result = until_room(block, total, |piece| {
            let room = rooms.next().unwrap_or(0);
            let fits = piece.len() as u64 <= room;
            if fits {
                sent.push((piece.start, piece.end));
            }
            let full = CallError::Full {
                depth: 1000 - room,
                limit: 1000,
                estimated_wait: None,
                bytes: None,
                policy,
            };
            async move {
                if fits {
                    Ok(vec![(); piece.len()])
                } else {
                    Err(full.into())
                }
            }
        })
        .await;
        let received = match &result {
            Ok(all) => all.len(),
            Err(stopped) => stopped.received.len(),
        };
        assert_eq!(received, sent.iter().map(|(from, to)| to - from).sum::<usize>());
        (sent, result.is_ok_and(|all| all.len() == total))
    }

    #[tokio::test]
    async fn a_queue_that_blocks_gets_pieces_that_fit_and_is_waited_for() {
        let second = Duration::from_secs(1);
        assert_eq!(run(Overload::Block, &[9], 9, second).await, (vec![(0, 9)], true));
        let (sent, all) = run(Overload::Block, &[0, 4, 4, 0, 1, 1, 9, 9, 9, 9], 9, second).await;
        assert!(all, "{sent:?}");
        assert!(sent.windows(2).all(|pair| pair[0].1 == pair[1].0), "{sent:?}");
        let (sent, all) = run(Overload::Block, &[3, 3], 9, Duration::from_millis(20)).await;
        assert_eq!(
            (sent, all),
            (vec![(0, 3)], false),
            "the time counts from the last piece"
        );
    }

    #[tokio::test]
    async fn a_queue_that_rejects_or_sheds_is_not_waited_for() {
        let hour = Duration::from_secs(3600);
        assert_eq!(run(Overload::Reject, &[3], 9, hour).await, (vec![], false));
        assert_eq!(run(Overload::Shed, &[3], 9, hour).await, (vec![], false));
        let pieces = vec![(0, 50), (50, 100), (100, 120)];
        assert_eq!(run(Overload::Shed, &[50; 4], 120, hour).await, (pieces, true));
    }
}
