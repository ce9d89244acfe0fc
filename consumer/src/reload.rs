//! SIGHUP: other concurrency, queues, log level, handlers and keys, without letting go of a task.
//!
//! Invariant: all of a new configuration holds, or none of it. Tasks that run go on with the handlers that they began
//! with; a handler that is gone is closed when its last task has ended, and so is a queue. What would change who this consumer
//! is (Redis, prefix, lease, places) is not applied: whoever reads the file refuses it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::{error, info};
use workyard_shared::Error;
use workyard_shared::name::QueueName;

use crate::Registry;
use crate::crew::Crew;
use crate::fleet::Fleet;
use crate::ops::Notifier;
use crate::protection::Protection;
use crate::registry::Retired;

/// How often it is looked whether a handler that is gone still runs.
const RETIRE_CHECK: Duration = Duration::from_millis(250);

/// What can change while a worker runs.
pub(crate) struct Fresh {
    pub(crate) registry: Registry,
    pub(crate) protection: Protection,
    pub(crate) concurrency: usize,
    /// In their order, with their weights.
    pub(crate) queues: Vec<(QueueName, usize)>,
    /// Called when it holds.
    pub(crate) holds: Box<dyn FnOnce() + Send>,
}

/// Reads the settings anew; the error says why they cannot be used, or not without a restart.
pub(crate) type Reloads = Arc<dyn Fn() -> Result<Fresh, String> + Send + Sync>;

/// Listens for SIGHUP, if there is something to reload. Without, the signal ends the process as ever.
pub(crate) fn hangups(reloads: Option<&Reloads>) -> Result<Option<Signal>, Error> {
    let listen = |_| signal(SignalKind::hangup()).map_err(|e| Error::Invalid(format!("SIGHUP cannot be heard: {e}")));
    reloads.map(listen).transpose()
}

/// Reloads at every signal, until aborted.
pub(crate) fn start(
    fleet: &Arc<Fleet>,
    crew: &Arc<Crew>,
    reloads: Option<Reloads>,
    notifier: &Arc<Notifier>,
    hangups: Option<Signal>,
) -> JoinHandle<()> {
    let (fleet, crew, notifier) = (Arc::clone(fleet), Arc::clone(crew), Arc::clone(notifier));
    tokio::spawn(async move {
        let (Some(reloads), Some(mut hangups)) = (reloads, hangups) else {
            return;
        };
        while hangups.recv().await.is_some() {
            notifier.reloading();
            let status = reload(&fleet, &crew, Arc::clone(&reloads)).await;
            notifier.ready(&status);
        }
    })
}

/// Reloads once; the status says what came of it.
async fn reload(fleet: &Arc<Fleet>, crew: &Arc<Crew>, reloads: Reloads) -> String {
    // Files and programs are looked at: not on a thread of the loops.
    let fresh = tokio::task::spawn_blocking(move || reloads()).await;
    let mut fresh = fresh.unwrap_or_else(|broken| Err(format!("it could not be read: {broken}")));
    if let Ok(Fresh { queues, .. }) = &fresh
        && let Err(error) = crew.may_serve(queues).await
    {
        fresh = Err(error.to_string());
    }
    let refused = fresh.is_err();
    fleet.meters.reloads[usize::from(refused)].fetch_add(1, Ordering::Relaxed);
    match fresh {
        Ok(fresh) => {
            apply(fleet, crew, fresh);
            info!("reloaded: the new configuration holds");
            "reloaded".to_owned()
        }
        Err(reason) => {
            error!(%reason, "the new configuration is refused whole, the old one holds");
            format!("reload refused: {reason}")
        }
    }
}

fn apply(fleet: &Arc<Fleet>, crew: &Arc<Crew>, fresh: Fresh) {
    (fresh.holds)();
    let mut registry = fresh.registry;
    registry.keep_from_jobs(&fresh.protection.signed_kinds);
    let registry = Arc::new(registry);
    fleet.stages.replace(registry.registered_stages());
    // Before the handlers: a kind that comes must not run a moment without what it asks for.
    *fleet.protection.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh.protection);
    let mut handlers = fleet.handlers.write().unwrap_or_else(PoisonError::into_inner);
    let before = std::mem::replace(&mut *handlers, Arc::clone(&registry));
    drop(handlers);
    for gone in before.without(&registry) {
        fleet.retiring.spawn(retire(gone));
    }
    // Last: it wakes the lanes, which then find all of the new.
    let usable = registry.usable(fresh.concurrency);
    fleet.slots.resize(fresh.concurrency, usable);
    let new = crew.serve(&fresh.queues);
    crew.announce(new);
}

/// Closes a handler when nobody has it any more: its tasks hold it while they run.
async fn retire(gone: Retired) {
    let Retired { handler, stage } = gone;
    let is_used = || Arc::strong_count(&handler) > 1 || stage.as_ref().is_some_and(|s| Arc::strong_count(s) > 1);
    while is_used() {
        tokio::time::sleep(RETIRE_CHECK).await;
    }
    handler.close().await;
}
