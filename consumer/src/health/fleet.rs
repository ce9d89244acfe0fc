//! The maintainer's part: from all reports of a queue to what everybody hears with the next beat.
//!
//! Invariant: advice only, and bounded: one read of the reports, one write if something changed. While nothing runs it
//! looks four times a minute, or when somebody says that it is urgent, so that an idle fleet costs next to nothing.

use std::time::Duration;

use workyard_shared::Error;
use workyard_shared::balance::{Bulletin, Policy, Vitals};
use workyard_shared::broker::Queue;

/// Pause between looks while tasks run ...
const BUSY: Duration = Duration::from_millis(500);
/// ... while none do, but a breaker is not closed, at the latest ...
const WAITING: Duration = Duration::from_secs(2);
/// ... and while there is nothing to look for.
const IDLE: Duration = Duration::from_secs(15);
/// An unchanged bulletin is said again after this: it would expire.
const RENEW_MS: u64 = 20_000;

/// What the maintainer remembers between two looks.
pub(crate) struct FleetWatch {
    queue: Queue,
    said: Bulletin,
}

impl FleetWatch {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            said: Bulletin::default(),
        }
    }

    /// A new maintainer goes on from what the last one said.
    ///
    /// # Errors
    /// Those of Redis.
    pub(crate) async fn take_over(&mut self) -> Result<(), Error> {
        if let Some(json) = self.queue.fleet().await? {
            // One of another release, or damaged: begin anew.
            self.said = serde_json::from_str(&json).unwrap_or_default();
        }
        Ok(())
    }

    /// One look. When the next should be.
    ///
    /// # Errors
    /// Those of Redis.
    pub(crate) async fn look(&mut self) -> Result<Duration, Error> {
        let survey = self.queue.survey().await?;
        let reports = survey.reports.iter().map(|(_, json)| json);
        let vitals: Vec<Vitals> = reports.filter_map(|json| serde_json::from_str(json).ok()).collect();
        let (policy, now_ms) = (survey.balance, survey.now_ms);
        let fleet = self.said.fleet.next(&vitals, Duration::from_millis(now_ms));
        let rest = fleet.rests(Duration::from_millis(now_ms));
        let runs = vitals.iter().any(|v| v.running > 0 || !v.kinds.is_empty());
        let busy = runs || rest.is_some();
        let bulletin = Bulletin { policy, now_ms, fleet };
        let news = bulletin.policy != self.said.policy || bulletin.fleet != self.said.fleet;
        if news || !survey.gone.is_empty() || ((busy || policy != Policy::Pull) && now_ms > self.said.now_ms + RENEW_MS)
        {
            let gone = &survey.gone[..survey.gone.len().min(1000)];
            let json = serde_json::to_string(&bulletin).unwrap_or_default();
            self.queue.set_fleet(&json, gone).await?;
            self.said = bulletin;
        }
        // Whoever runs a probe says its result at once, so only time has to be looked at.
        Ok(if runs {
            BUSY
        } else {
            rest.map_or(IDLE, |rest| rest.clamp(BUSY, WAITING))
        })
    }
}
