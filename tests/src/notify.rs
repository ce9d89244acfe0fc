//! A stand-in for systemd's notify socket: it writes down what it is told, and when.

#![expect(clippy::expect_used, reason = "its only callers are tests")]

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::wait_until;

type Heard = Arc<Mutex<Vec<(Instant, String)>>>;

/// The socket; what it hears is kept until it is dropped.
#[derive(Debug)]
pub struct NotifySocket {
    dir: TempDir,
    heard: Heard,
}

impl NotifySocket {
    /// Listens in a folder of its own.
    #[must_use]
    pub fn bind() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        let heard = Heard::default();
        let kept = Arc::downgrade(&heard);
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while let Some(kept) = kept.upgrade() {
                if let Ok(n) = socket.recv(&mut message) {
                    let text = String::from_utf8_lossy(&message[..n]).into_owned();
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((Instant::now(), text));
                }
            }
        });
        Self { dir, heard }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// What systemd sets in the environment of a service with `WatchdogSec=`.
    pub fn announce(&self, command: &mut Command, watchdog: Duration) {
        command
            .env("NOTIFY_SOCKET", self.path())
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string())
            .env_remove("WATCHDOG_PID");
    }

    /// All messages so far.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        self.with(|heard| heard.iter().map(|(_, text)| text.clone()).collect())
    }

    /// How often a line was said.
    #[must_use]
    pub fn count(&self, line: &str) -> usize {
        let is_said = |text: &String| text.lines().any(|said| said == line);
        self.messages().iter().filter(|text| is_said(text)).count()
    }

    /// How long ago a line was said last.
    #[must_use]
    pub fn silence(&self, line: &str) -> Option<Duration> {
        self.with(|heard| {
            let mut newest = heard.iter().rev();
            let found = newest.find(|(_, text)| text.lines().any(|said| said == line));
            found.map(|(at, _)| at.elapsed())
        })
    }

    /// Waits until a line was said so often.
    pub async fn hears(&self, line: &str, times: usize, limit: Duration) {
        let took = wait_until(limit, || async { self.count(line) >= times }).await;
        println!("{line} came {times} times within {took:?}");
    }

    fn with<T>(&self, look: impl FnOnce(&[(Instant, String)]) -> T) -> T {
        look(&self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
