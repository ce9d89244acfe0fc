//! SIGTERM and SIGINT: the first drains, the second exits now.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A token that the first signal cancels.
pub(crate) fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                Some(()) = term.recv() => 143,
                Some(()) = int.recv() => 130,
                else => return,
            };
            if token.is_cancelled() {
                warn!("a second signal: exiting now; unfinished tasks go to others when the lease ends");
                // Their tasks run again elsewhere: they must not go on beside that.
                crate::handlers::kill_all();
                std::process::exit(code);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
