//! Moves the limits of adaptive kinds once a second, by measured latency and the host's pressure.
//!
//! Invariant: it goes on while Redis is away; a worker without adaptive kinds pays a look a second. The rule
//! is pure and lives in `workyard_shared::balance::Limit`; what may run at once is counted by `kind_slots`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::fleet::Fleet;

/// Pause between two moves: a beat, whatever the length of the lease.
const EVERY: Duration = Duration::from_secs(1);

/// The loop of one worker.
pub(crate) struct Tuner {
    pub(crate) fleet: Arc<Fleet>,
}

impl Tuner {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.beat(),
            }
        }
    }

    fn beat(&self) {
        let pressure = self.fleet.host.pressure();
        let mut moved = false;
        let registry = self.fleet.registry();
        for (kind, slots) in registry.limited() {
            if slots.beat(pressure) {
                moved = true;
                debug!(kind, pressure, slots = ?slots.now(), "the slots of kind {kind} moved");
            }
        }
        if moved {
            let usable = registry.usable(self.fleet.slots.total());
            self.fleet.slots.set_usable(usable);
            // Tasks that wait here for a slot of their kind, and lanes that had no room to claim.
            self.fleet.slots.freed.notify_waiters();
        }
    }
}
