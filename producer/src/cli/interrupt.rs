//! Ctrl-C for a command that shows something until it is told to end.
//!
//! Invariant: it is heard in a task of its own: the thread that draws may be stuck in a write to a terminal that nobody
//! reads, and would neither hear it nor end.

use std::time::Duration;

use tokio::sync::oneshot;

use super::exit::Exit;

/// How long the command may take to end in good order after Ctrl-C.
const GRACE: Duration = Duration::from_millis(500);

/// Tells of the first Ctrl-C; a command that is stuck then ends with `exit` all the same.
pub(crate) fn listen(exit: Exit) -> oneshot::Receiver<()> {
    let (interrupt, interrupted) = oneshot::channel();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nothing can be heard; the channel stays open, as nobody has called.
            return std::future::pending().await;
        }
        if interrupt.send(()).is_err() {
            // The wait is over: Ctrl-C means what it always means.
            std::process::exit(130);
        }
        tokio::time::sleep(GRACE).await;
        std::process::exit(exit as i32);
    });
    interrupted
}
