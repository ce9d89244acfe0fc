//! When what is known about servers has to be asked for anew: after trouble, and then not by everybody at once.
//!
//! Invariant: one caller asks at a time, and not more often than [`AT_MOST_EVERY`]; nothing is asked while all is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::{PushInfo, PushKind};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex, MutexGuard};

use crate::error::{Error, Outage};

/// Shortest time between two questions of one link.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// Where the pushes of connections go.
pub(super) type Pushes = Option<UnboundedSender<PushInfo>>;

#[derive(Debug, Default)]
pub(super) struct Freshness {
    stale: Arc<AtomicBool>,
    asked: Mutex<Option<Instant>>,
}

/// The right to ask, for one caller.
pub(super) type Turn<'a> = MutexGuard<'a, Option<Instant>>;

impl Freshness {
    /// Something went wrong that another server may answer for.
    pub(super) fn doubt(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Waits for the right to ask.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.asked.lock().await
    }

    /// The right to ask, unless somebody has it or had it just now.
    pub(super) fn turn_now(&self) -> Option<Turn<'_>> {
        let turn = self.asked.try_lock().ok()?;
        let again = turn.is_none_or(|at| at.elapsed() >= AT_MOST_EVERY);
        (again && self.is_doubtful()).then_some(turn)
    }

    /// Before the question: what goes wrong from here on is not answered by it.
    pub(super) fn ask(&self, turn: &mut Turn<'_>) {
        **turn = Some(Instant::now());
        self.stale.store(false, Ordering::Relaxed);
    }

    /// What gets the pushes of a connection, and hears of its end.
    pub(super) fn feed(&self, pushes: Pushes) -> Feed {
        Feed {
            pushes,
            stale: Arc::clone(&self.stale),
        }
    }
}

/// Where the pushes of a connection go.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pushes: Pushes,
    stale: Arc<AtomicBool>,
}

impl Feed {
    /// A push, or the end of the connection.
    pub(super) fn push(&self, push: PushInfo) -> Result<(), ()> {
        // Whoever answers at this address when it is back need not be who takes writes; and a server that ends a
        // subscription by itself has given the slot away.
        if matches!(push.kind, PushKind::Disconnection | PushKind::SUnsubscribe) {
            self.stale.store(true, Ordering::Relaxed);
        }
        match &self.pushes {
            Some(pushes) => pushes.send(push).map_err(drop),
            None => Ok(()),
        }
    }

    /// Another server may be the right one.
    pub(super) fn doubt(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// The connection was given up, or goes to the wrong server.
    pub(super) fn lost(&self) {
        self.stale.store(true, Ordering::Relaxed);
        tell_of_change(&self.pushes);
    }
}

/// Whether another server may be the right one after such an answer.
pub(super) fn is_doubt(error: &Error) -> bool {
    match error {
        Error::Unknown(_) => true,
        Error::Unavailable { outage, detail } => match outage {
            // A slot on its way is where it is: only waiting helps.
            Outage::ClusterDown => !detail.starts_with("TRYAGAIN"),
            Outage::Away | Outage::ReadOnly | Outage::Loading => true,
            Outage::OutOfMemory | Outage::StorageFailing | Outage::Busy => false,
        },
        _ => false,
    }
}

/// Tells the owner of the pushes that subscriptions may be gone, as if a connection were.
pub(super) fn tell_of_change(pushes: &Pushes) {
    if let Some(pushes) = pushes {
        let news = PushInfo {
            kind: PushKind::Disconnection,
            data: Vec::new(),
        };
        // An owner that has ended needs no news.
        pushes.send(news).ok();
    }
}
