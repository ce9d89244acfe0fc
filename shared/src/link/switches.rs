//! Hears from sentinels that another server is the master now.
//!
//! A failover that was asked for leaves the former master alive: it takes writes from everybody who has no reason to look for
//! another, until the sentinels tell it, some ten seconds later, and then throws them away. Invariant: what is heard decides nothing,
//! it only makes the link ask. A sentinel that cannot be heard is tried again and missed by nobody: trouble makes a link ask, too.

use std::time::Duration;

use futures_util::StreamExt;
use redis::ConnectionInfo;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::config::client;
use super::freshness::Feed;
use crate::error::Error;

/// Where sentinels tell of it: the master's name comes first, or behind the word "master". The one that leads a failover says
/// so as soon as the replica is promoted; to the others, and to the former master, it may be news much later, where there are
/// more replicas that have to follow first.
const CHANNELS: [&str; 2] = ["+switch-master", "+failover-state-reconf-slaves"];
/// Pause before a sentinel that went away, or refused, is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Listens to all of them until the guard is dropped.
pub(super) fn watch(sentinels: &[ConnectionInfo], master: &str, feed: &Feed) -> DropGuard {
    let stop = CancellationToken::new();
    for sentinel in sentinels {
        let (sentinel, master, feed, stop) = (sentinel.clone(), master.to_owned(), feed.clone(), stop.clone());
        tokio::spawn(async move {
            let listening = async {
                loop {
                    // Why it ended is all the same: while all sentinels are away there is no failover either.
                    listen(&sentinel, &master, &feed).await.ok();
                    // What it told meanwhile was missed.
                    feed.doubt();
                    tokio::time::sleep(AGAIN).await;
                }
            };
            stop.run_until_cancelled(listening).await;
        });
    }
    stop.drop_guard()
}

async fn listen(sentinel: &ConnectionInfo, master: &str, feed: &Feed) -> Result<(), Error> {
    let mut pubsub = client(sentinel)?.get_async_pubsub().await?;
    pubsub.subscribe(&CHANNELS).await?;
    let mut news = pubsub.on_message();
    while let Some(message) = news.next().await {
        let text: String = message.get_payload()?;
        if text.split(' ').take(2).any(|word| word == master) {
            // Whoever waits for pushes is told, too, and comes to ask at once.
            feed.lost();
        }
    }
    Ok(())
}
