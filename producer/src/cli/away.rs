//! Telling of an outage while a command waits for an end: once when it lasts, once when it is over.
//!
//! Invariant: it writes to stderr only, also with JSON, and never through a drawn bar. It tells what the waits of the
//! client see, and ends nothing.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::MultiProgress;
use workyard_producer::{Away, Client};
use workyard_shared::duration;

use super::QUIET;

/// Where notes go: to stderr, above the bars that are drawn there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Option<MultiProgress>>>);

impl Notes {
    /// From now on these bars are drawn, or none.
    pub(crate) fn draw(&self, bars: Option<MultiProgress>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bars;
    }

    /// Writes a line.
    pub(crate) fn write(&self, text: &str) {
        // A note that nobody can read is no reason to stop.
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bars) => bars.println(text).ok(),
            None => writeln!(io::stderr(), "{text}").ok(),
        };
    }
}

/// Tells of each outage that those who wait with this client see, until it is dropped. `limit`: how long they may see it.
pub(crate) async fn tell(client: Client, notes: Notes, limit: Option<Duration>) {
    let mut outage = client.outage();
    while outage.wait_for(Option::is_some).await.is_ok() {
        if tokio::time::timeout(QUIET, outage.wait_for(Option::is_none))
            .await
            .is_ok()
            || !client.is_waiting()
        {
            continue;
        }
        let away = outage.borrow().clone();
        if let Some(away) = away {
            notes.write(&words(&away, limit));
            if outage.wait_for(Option::is_none).await.is_ok() {
                notes.write("note: Redis serves again; the wait goes on");
            }
        }
    }
}

fn words(away: &Away, limit: Option<Duration>) -> String {
    let then = match limit {
        None => "the wait goes on when it is back".to_owned(),
        Some(limit) => format!("waiting up to {} for it (--patience)", duration::format(limit)),
    };
    format!("note: Redis {away}; {then}")
}

/// What the error of a wait whose time is over says of an outage.
pub(crate) fn reason(client: &Client) -> Option<String> {
    let outage = client.outage();
    let away = outage.borrow();
    let away = away.as_ref()?;
    // Nobody reads milliseconds of it.
    let since = Duration::from_secs(away.since.elapsed().as_secs().max(1));
    Some(format!("Redis {away}, for {} by then", duration::format(since)))
}
