//! systemd's notifications: READY, STATUS, WATCHDOG, RELOADING, STOPPING.
//!
//! Invariant: the watchdog is fed only while the daemon is alive as [`View::alive`] judges it, so a wedged runtime
//! or a dead connection of ours ends in a restart, and an outage of Redis does not. Without a notify socket nothing happens, and one
//! that nobody reads holds nothing up.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{debug, error, info, warn};

use super::outside::View;

/// How often the state is looked at without a watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The way to systemd, if there is one.
#[derive(Debug)]
pub(crate) struct Notifier {
    on: bool,
    watchdog: Option<Duration>,
    said: Mutex<String>,
    /// The last message did not get through, which the log has a line of.
    unheard: AtomicBool,
}

impl Notifier {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(crate) fn from_env() -> Self {
        let mut us = 0;
        let on = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watched = on && sd_notify::watchdog_enabled(false, &mut us);
        Self {
            on,
            watchdog: watched.then(|| Duration::from_micros(us)),
            said: Mutex::default(),
            unheard: AtomicBool::new(false),
        }
    }

    /// Says nothing to anybody: for a worker that is part of another program.
    pub(crate) fn off() -> Self {
        Self {
            on: false,
            watchdog: None,
            said: Mutex::default(),
            unheard: AtomicBool::new(false),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if !self.on {
            return;
        }
        match tell(states) {
            Ok(()) => self.unheard.store(false, Ordering::Relaxed),
            // Nobody reads now; what is said next tells more.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => debug!("systemd does not read what it is told"),
            Err(error) if self.unheard.swap(true, Ordering::Relaxed) => debug!(%error, "systemd could not be told"),
            Err(error) => warn!(%error, "systemd could not be told"),
        }
    }

    /// Started: it works, or waits for Redis, which it does for as long as it takes.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    pub(crate) fn reloading(&self) {
        // Without the clock's reading, newer systemd would take this for an error.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "no monotonic clock"),
        }
    }

    pub(crate) fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Says a status, if it is another than before.
    fn status(&self, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *said != text {
            text.clone_into(&mut said);
            drop(said);
            self.send(&[NotifyState::Status(text)]);
        }
    }

    /// Feeds the watchdog while the daemon is alive, for ever.
    pub(super) async fn feed(&self, view: &View) {
        if !self.on {
            return std::future::pending().await;
        }
        let every = self.watchdog.map_or(LOOK_EVERY, |span| (span / 4).min(LOOK_EVERY));
        let mut dead = false;
        loop {
            match view.alive() {
                Ok(()) => {
                    if dead {
                        info!("it makes progress again");
                    }
                    dead = false;
                    self.send(&[NotifyState::Watchdog]);
                    self.status(&status(view));
                }
                Err(reason) => {
                    if !dead {
                        error!(%reason, "wedged: systemd's watchdog is not fed any more: {reason}");
                    }
                    dead = true;
                    self.status(&format!("wedged: {reason}"));
                }
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// As `sd_notify::notify` does, which waits when the socket's queue is full: this never does. See sd_notify(3).
fn tell(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(message.as_bytes(), &address).map(drop);
    }
    socket.send_to(message.as_bytes(), Path::new(&address)).map(drop)
}

fn status(view: &View) -> String {
    let Some(fleet) = view.fleet.get() else {
        return "waiting for Redis".to_owned();
    };
    let running = fleet.slots.running();
    match (fleet.drain.is_cancelled(), fleet.watch.is_away(), view.refusal()) {
        (true, ..) => format!("draining: {running} tasks run"),
        (false, true, _) => format!("Redis cannot serve, waiting: {running} tasks run"),
        (false, false, Some(refusal)) => format!("{refusal}; {running} tasks run"),
        (false, false, None) => format!("working: {running} of {} slots in use", fleet.slots.total()),
    }
}
