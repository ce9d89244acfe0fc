//! Before the loops: waits for Redis, checks it, loads the functions, makes the queues known.
//!
//! Invariant: what a wait can mend is waited out; only what it cannot ends the worker.

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use workyard_shared::Error;
use workyard_shared::broker::Broker;
use workyard_shared::check::{self, Finding};
use workyard_shared::outage::{Patience, Watch};

use crate::ops::Notifier;
use crate::worker_config::WorkerConfig;

/// Waits for Redis and checks it; false if stopped meanwhile.
pub(crate) async fn prepare(
    broker: &Broker,
    config: &WorkerConfig,
    watch: &Watch,
    notifier: &Notifier,
    stop: &CancellationToken,
) -> Result<bool, Error> {
    let mut patience = Patience::default();
    loop {
        match try_prepare(broker, config).await {
            Ok(()) => {
                watch.succeeded();
                return Ok(true);
            }
            Err(error) if error.is_temporary() => {
                watch.failed(&error);
                // An outage at the start is no failed start: a restart would mend nothing.
                notifier.ready("waiting for Redis");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = patience.wait() => {}
        }
    }
}

async fn try_prepare(broker: &Broker, config: &WorkerConfig) -> Result<(), Error> {
    for finding in check::server(broker.link()).await? {
        match finding {
            Finding::Warning(text) => warn!("{text}"),
            Finding::Unsafe(text) if config.allow_eviction => error!("unsafe, but allowed: {text}"),
            Finding::Unsafe(text) => return Err(Error::Invalid(text)),
        }
    }
    broker.link().ensure_library().await?;
    for (queue, _) in &config.queues {
        broker.announce(queue).await?;
    }
    Ok(())
}
