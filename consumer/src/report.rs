//! The health key: what a consumer says of itself, as JSON that any Redis client can read.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use workyard_shared::name::{QueueName, SessionId};

use crate::fleet::Fleet;
use crate::health::Standings;
use crate::kind_slots::SlotsNow;

/// Makes the reports of one worker.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) consumer: SessionId,
    pub(crate) host: String,
    pub(crate) started: Instant,
}

#[derive(Serialize)]
struct Report<'a> {
    consumer: &'a str,
    host: &'a str,
    pid: u32,
    version: &'a str,
    queues: Vec<&'a str>,
    kinds: Vec<&'a str>,
    capacity: usize,
    running: usize,
    processed: u64,
    errors: u64,
    stale: u64,
    mean_run_ms: Option<f64>,
    started_ms: u64,
    beat_ms: u64,
    up_ms: u64,
    draining: bool,
    healthy: bool,
    /// Kinds with a limit of their own, and what it is now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    concurrency: BTreeMap<&'a str, SlotsNow>,
    /// Per queue: health, load, circuit and what they come from.
    balance: Vec<Standings>,
}

impl Reporter {
    pub(crate) fn json(&self, fleet: &Fleet) -> String {
        let registry = fleet.registry();
        // Of this host's clock: people look at it, and nothing is decided by it.
        let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let up_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (all, names) = (fleet.queues.all(), fleet.queues.names());
        let report = Report {
            consumer: self.consumer.as_str(),
            host: &self.host,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            queues: names.iter().map(QueueName::as_str).collect(),
            kinds: registry.kinds(),
            capacity: fleet.slots.usable(),
            running: fleet.slots.running(),
            processed: fleet.counters.processed.load(Ordering::Relaxed),
            errors: fleet.counters.errors.load(Ordering::Relaxed),
            stale: fleet.counters.stale.load(Ordering::Relaxed),
            mean_run_ms: fleet.counters.mean_run().map(|mean| mean.as_secs_f64() * 1000.0),
            started_ms: now_ms.saturating_sub(up_ms),
            beat_ms: now_ms,
            up_ms,
            draining: fleet.drain.is_cancelled(),
            healthy: all.iter().all(|queue| queue.desk.is_well()),
            concurrency: registry.limited().map(|(kind, slots)| (kind, slots.now())).collect(),
            balance: all.iter().map(|queue| queue.desk.standings()).collect(),
        };
        // Numbers, text and lists: this cannot fail.
        serde_json::to_string(&report).unwrap_or_default()
    }
}
