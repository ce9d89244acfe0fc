//! Every end of a task that Redis tells of, written down: what ended twice was told twice.
//!
//! It is on a connection of its own, which no fault proxy stands before. It may miss ends (a lost connection is a gap), so it
//! proves nothing about what it did not see.

use std::collections::HashMap;
use std::time::Duration;

use redis::{PushKind, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workyard_shared::broker::Broker;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::Prefix;
use workyard_tests::{monotonic_ms, queue_name};

/// How often it makes sure that it is told.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long Redis tells without being asked again.
const ASK_FOR: Duration = Duration::from_secs(60);

/// When each task was told to have ended (ms), and how.
pub(crate) type Ends = HashMap<String, Vec<(u64, String)>>;

/// Starts watching; the handle gives what was seen when `stop` is cancelled.
pub(crate) fn start(url: &str, stop: CancellationToken) -> anyhow::Result<JoinHandle<Ends>> {
    let (push_in, mut pushes) = mpsc::unbounded_channel();
    let link = Link::new(LinkConfig::from_url(url)?, Some(push_in))?;
    let queue = Broker::new(link, Prefix::default()).queue(&queue_name("q"));
    Ok(tokio::spawn(async move {
        let channel = queue.keys().named("finished");
        let asking = async {
            loop {
                // Redis may be away: the next time, then.
                queue.link().subscribe(&channel).await.ok();
                queue.follow(ASK_FOR).await.ok();
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let mut ends = Ends::new();
        let hearing = async {
            while let Some(push) = pushes.recv().await {
                if let (PushKind::SMessage, [_, Value::BulkString(text)]) = (push.kind, &push.data[..]) {
                    hear(&mut ends, &String::from_utf8_lossy(text));
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = hearing => {}
            () = stop.cancelled() => {}
        }
        ends
    }))
}

fn hear(ends: &mut Ends, text: &str) {
    let now = monotonic_ms();
    for (id, state) in text.lines().filter_map(|line| line.split_once(' ')) {
        ends.entry(id.to_owned()).or_default().push((now, state.to_owned()));
    }
}
