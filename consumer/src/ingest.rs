//! The ingester: raw JSON that any Redis client pushed into the inbox becomes tasks.
//!
//! It waits with `BLMOVE inbox -> inbox:ingesting` on a connection of its own. Invariant: an item is
//! in exactly one of inbox, ingesting, tasks and rejected. A reply of BLMOVE that is lost leaves the
//! item in ingesting, which is always emptied first; ingest itself moves only what it saw, byte for
//! byte. If we die anywhere here, the next ingester goes on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use workyard_shared::broker::{InboxItem, Ingested, Queue, Verdict};
use workyard_shared::crypto::needs_id;
use workyard_shared::envelope::NewTask;
use workyard_shared::limits::{MAX_EXTRA_BYTES, MAX_PAYLOAD_BYTES};
use workyard_shared::name::QueueName;
use workyard_shared::outage::{Patience, Watch};
use workyard_shared::{Error, Outage};

use crate::metrics::QueueMeter;

/// Items looked at in one step.
const STEP_ITEMS: usize = 100;
/// Bytes looked at in one step; a single larger item is refused unseen.
const STEP_BYTES: usize = MAX_PAYLOAD_BYTES + 2 * MAX_EXTRA_BYTES;
/// Bytes of a refused item that its entry shows.
const SHOWN_BYTES: usize = 64 << 10;

/// How long after it was asked a Redis without memory has said so.
const REFUSED: Duration = Duration::from_millis(500);

/// Runs until `stop`; no error ends it.
pub(crate) async fn run(queue: Queue, meter: Arc<QueueMeter>, stop: CancellationToken) {
    // Its own: out of memory refuses new tasks while everything else goes on.
    let watch = Watch::default();
    let (mut patience, mut told) = (Patience::default(), false);
    tokio::select! {
        () = stop.cancelled() => {}
        () = async {
            loop {
                if let Err(error) = serve(&watch, &queue, &meter, &mut patience).await {
                    // What the other loops meet too, they report.
                    if matches!(error, Error::Unavailable { outage: Outage::OutOfMemory, .. }) {
                        watch.failed(&error);
                    } else if matches!(error, Error::Protocol(_)) && !std::mem::replace(&mut told, true) {
                        // Somebody wrote something else there: only the inbox is concerned, and nobody else would say so.
                        warn!(%error, queue = %queue.name(), "the inbox of queue {} cannot be served until it is mended: {error}", queue.name());
                    } else {
                        debug!(%error, queue = %queue.name(), "the inbox cannot be served");
                    }
                    patience.wait().await;
                }
            }
        } => {}
    }
}

/// Shortest and longest pause before the first look for room in a queue that is at its limit.
const FOR_ROOM: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];
/// No later is room noticed that came after all.
const LATEST: Duration = Duration::from_secs(1);

/// The pauses of a queue that is full. Nobody tells of room: it is looked for, and seldom where none comes.
#[derive(Debug, Default)]
struct ForRoom {
    /// Looks since there was some.
    in_vain: u32,
}

impl ForRoom {
    /// A quarter of the time in which the queue would run dry, so that consumers never wait for what lies in the inbox; twice
    /// as long after each look in vain, as the pace is that of the last minutes and may be none by now.
    fn pause(&mut self, estimated_wait: Option<Duration>) -> Duration {
        let [shortest, longest] = FOR_ROOM;
        let first = estimated_wait.map_or(longest, |dry| (dry / 4).clamp(shortest, longest));
        let pause = first.saturating_mul(2_u32.saturating_pow(self.in_vain)).min(LATEST);
        self.in_vain = self.in_vain.saturating_add(1);
        pause
    }
}

/// Serves until an error.
async fn serve(watch: &Watch, queue: &Queue, meter: &QueueMeter, patience: &mut Patience) -> Result<(), Error> {
    let mut wait = queue.inbox_wait().await?;
    let (inbox, ingesting) = (queue.keys().inbox(), queue.keys().ingesting());
    loop {
        for source in [&ingesting, &inbox] {
            take_in(queue, meter, source).await?;
        }
        // Reading is served where writing is not (a replica, no memory left): only BLMOVE shows it.
        loop {
            let mut waiting = pin!(wait.wait());
            let came = tokio::select! {
                came = &mut waiting => came?,
                // It refuses at once, or waits for an item: seconds, in which nobody should believe it out of memory still.
                () = tokio::time::sleep(REFUSED), if watch.is_away() => {
                    watch.succeeded();
                    waiting.await?
                }
            };
            patience.reset();
            watch.succeeded();
            if came {
                break;
            }
        }
    }
}

/// Takes in all that is there. In a full queue that takes as long as room needs to come, and each look is a small one.
async fn take_in(queue: &Queue, meter: &QueueMeter, source: &str) -> Result<(), Error> {
    // Only who saw the first item stay behind asks for room: one that is delayed, or here already, needs none.
    let (mut wants_room, mut for_room) = (false, ForRoom::default());
    loop {
        let look = if wants_room {
            queue.peek_for_room(source, STEP_ITEMS, STEP_BYTES).await
        } else {
            queue.peek(source, STEP_ITEMS, STEP_BYTES).await
        };
        let stepped = match look {
            Ok(items) if items.is_empty() => return Ok(()),
            Ok(items) => {
                for_room = ForRoom::default();
                step(queue, meter, source, items).await
            }
            Err(error) => Err(error),
        };
        match stepped {
            Ok(all) => wants_room = !all,
            // No trouble: what is in the inbox waits there for room, and room comes as tasks end.
            Err(Error::Full { estimated_wait, .. }) => {
                wants_room = true;
                tokio::time::sleep(for_room.pause(estimated_wait)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Judges some items and moves them; true if none of them stayed behind.
async fn step(queue: &Queue, meter: &QueueMeter, source: &str, items: Vec<InboxItem>) -> Result<bool, Error> {
    let looked_at = items.len() as u64;
    let judged: Vec<(InboxItem, Verdict)> = items
        .into_iter()
        .map(|item| {
            let verdict = judge(queue.name(), &item);
            (item, verdict)
        })
        .collect();
    let done = match queue.ingest(source, &judged).await {
        // A rule of the function that `judge` does not know refuses the whole call: then one by one, or the inbox would
        // stand still for good.
        Err(Error::Invalid(_)) => singly(queue, source, judged).await?,
        other => other?,
    };
    meter.ingested(done.accepted);
    let name = queue.name();
    if done.rejected > 0 {
        warn!(queue = %name, items = done.rejected, "{} items of the inbox were refused; see `workyard rejected`", done.rejected);
    }
    if done.accepted > 0 {
        debug!(queue = %name, tasks = done.accepted, "ingested {} tasks from the inbox", done.accepted);
    }
    Ok(done.moved == looked_at)
}

/// As one call with all of them, but what the function refuses is rejected with its reason.
async fn singly(queue: &Queue, source: &str, judged: Vec<(InboxItem, Verdict)>) -> Result<Ingested, Error> {
    let mut sum = Ingested::default();
    for (item, verdict) in judged {
        let done = match queue.ingest(source, &[(item.clone(), verdict)]).await {
            Err(Error::Invalid(why)) => {
                let raw = match &item {
                    InboxItem::Raw(bytes) => &bytes[..],
                    InboxItem::Oversize(_) => &[],
                };
                let verdict = Verdict::Reject(entry(&why, raw));
                queue.ingest(source, &[(item, verdict)]).await?
            }
            other => other?,
        };
        if done.moved == 0 {
            // Somebody else took it, or there is no room: the next look goes on from there.
            break;
        }
        sum.moved += done.moved;
        sum.accepted += done.accepted;
        sum.rejected += done.rejected;
    }
    Ok(sum)
}

pub(crate) fn judge(queue: &QueueName, item: &InboxItem) -> Verdict {
    match item {
        InboxItem::Oversize(len) => {
            let reason = format!("the item has {len} bytes, at most {STEP_BYTES} are read");
            // The function adds the length and the beginning of the item.
            Verdict::Reject(json!({ "reason": reason }).to_string())
        }
        InboxItem::Raw(bytes) => match NewTask::from_json(bytes) {
            Ok((_, Some(other))) if other != *queue => Verdict::Reject(entry(
                &format!("its queue is \"{other}\", but it was pushed to the inbox of \"{queue}\""),
                bytes,
            )),
            Ok((task, _)) => match needs_id(&task) {
                Some(why) => Verdict::Reject(entry(why, bytes)),
                None => Verdict::Accept(Box::new(task)),
            },
            Err(Error::Invalid(reason)) => Verdict::Reject(entry(&reason, bytes)),
            Err(other) => Verdict::Reject(entry(&other.to_string(), bytes)),
        },
    }
}

fn entry(reason: &str, bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
    json!({ "reason": reason, "bytes": bytes.len(), "raw": shown }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_is_looked_at_again_before_the_queue_runs_dry_and_seldom_if_no_room_comes() {
        let ms = Duration::from_millis;
        for (dry, pauses) in [
            (None, [100, 200, 400, 800, 1000]),
            (Some(60_000), [100, 200, 400, 800, 1000]),
            (Some(200), [50, 100, 200, 400, 800]),
            (Some(1), [5, 10, 20, 40, 80]),
        ] {
            let mut for_room = ForRoom::default();
            assert_eq!(pauses.map(|_| for_room.pause(dry.map(ms))), pauses.map(ms), "{dry:?}");
        }
        let mut for_room = ForRoom { in_vain: u32::MAX };
        assert_eq!(for_room.pause(Some(ms(1))), LATEST);
    }
}
