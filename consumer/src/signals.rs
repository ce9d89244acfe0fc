//! SIGTERM and SIGINT: the first drains, the second stops and hands back what still runs, and ends the process.
//!
//! Invariant: behind a second signal the process lives for [`LAST_MOMENT`] at most, whatever hangs, and no program of ours
//! outlives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long programs have to hear that they are stopped, before they are killed.
const HEARD: Duration = Duration::from_millis(50);
/// How long Redis has to take back what ran: else its consumer has died under it when the lease ends.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// The same on Linux, macOS and the BSDs.
const SIGXFSZ: i32 = 25;

/// What the signals say.
pub(crate) struct Signals {
    /// Drain.
    pub(crate) stop: CancellationToken,
    /// The time for that is over.
    pub(crate) now: CancellationToken,
    code: Arc<AtomicI32>,
}

impl Signals {
    /// Hears them from now on.
    pub(crate) fn hear() -> std::io::Result<Self> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // A file beyond the limit of this process (`ulimit -f`) must be an error of who writes it, not our end: heard, it is no
        // more than that, and stays so although nobody listens. Programs that we start have the default again.
        drop(signal(SignalKind::from_raw(SIGXFSZ))?);
        let (stop, now, code) = (CancellationToken::new(), CancellationToken::new(), Arc::default());
        let signals = Self { stop, now, code };
        let (stop, now, code) = (signals.stop.clone(), signals.now.clone(), Arc::clone(&signals.code));
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    Some(()) = term.recv() => 143,
                    Some(()) = int.recv() => 130,
                    else => return,
                };
                if !stop.is_cancelled() {
                    stop.cancel();
                    continue;
                }
                warn!("a second signal: what runs is stopped and handed back, and this ends at once");
                code.store(number, Ordering::Relaxed);
                now.cancel();
                tokio::time::sleep(HEARD).await;
                // Their tasks run again elsewhere: they must not go on beside that.
                crate::handlers::kill_all();
                tokio::time::sleep(LAST_MOMENT - HEARD).await;
                crate::handlers::kill_all();
                std::process::exit(number);
            }
        });
        Ok(signals)
    }

    /// Everything has ended: the process too, if it was told twice.
    pub(crate) fn end(&self) {
        if self.now.is_cancelled() {
            std::process::exit(self.code.load(Ordering::Relaxed));
        }
    }
}
