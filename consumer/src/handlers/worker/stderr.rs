//! Standard error of a worker: logged line by line, its end kept for error messages.
//!
//! Invariant: a line longer than [`MAX_LOGGED_BYTES`] is logged in pieces, never held whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

use super::super::tail::Tail;

/// Longest piece of a line in the log.
pub(super) const MAX_LOGGED_BYTES: usize = 8 << 10;

/// The end of what a process said, shared between its reader and its keeper.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedTail(Arc<Mutex<Tail>>);

impl SharedTail {
    pub(super) fn text(&self) -> String {
        self.lock().text()
    }

    /// Forgets what was said about earlier tasks.
    pub(super) fn clear(&self) {
        *self.lock() = Tail::default();
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the pipe is closed.
pub(super) async fn follow(mut pipe: ChildStderr, handler: Arc<str>, tail: SharedTail) {
    let mut line = Vec::new();
    let mut chunk = vec![0; MAX_LOGGED_BYTES];
    // An error of the pipe is its end.
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        tail.lock().push(&chunk[..count]);
        for piece in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.len() >= MAX_LOGGED_BYTES {
                log(&handler, &line);
                line.clear();
            }
        }
    }
    log(&handler, &line);
}

fn log(handler: &str, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    if !text.is_empty() {
        tracing::info!(handler, "{text}");
    }
}
