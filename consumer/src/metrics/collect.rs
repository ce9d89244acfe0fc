//! One scrape of a daemon: what it counted of itself, as families.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use workyard_shared::balance::Circuit;
use workyard_shared::metrics::{Exposition, Family, OTHER};

use super::meter::{Call, Outcome, QueueMeter};
use crate::fleet::Fleet;
use crate::health::Desk;

/// Microseconds in a second.
const US: f64 = 1e6;

/// Adds everything that a daemon counts of itself.
pub(crate) fn collect(out: &mut Exposition, fleet: &Fleet, started: Instant) {
    out.info(Family::BUILD, &[env!("CARGO_PKG_VERSION")]);
    out.level(Family::UPTIME, &[], started.elapsed().as_secs_f64());
    out.gauge(Family::SLOTS, &[], fleet.slots.total() as u64);
    out.gauge(Family::RUNNING, &[], fleet.slots.running() as u64);
    out.gauge(Family::DRAINING, &[], u64::from(fleet.drain.is_cancelled()));
    out.level(Family::LAG, &[], fleet.host.lag_seconds());
    for (call, name) in Call::ALL {
        if let Some(spread) = fleet.meters.calls[call as usize].read(US) {
            out.histogram(Family::CALL, &[name], spread);
        }
    }
    for (error, n) in fleet.watch.errors() {
        out.count(Family::ERRORS, &[error], n);
    }
    for (outcome, n) in ["applied", "refused"].into_iter().zip(&fleet.meters.reloads) {
        out.count(Family::RELOADS, &[outcome], n.load(Ordering::Relaxed));
    }
    for queue in fleet.queues.all().iter() {
        add_desk(out, &queue.desk);
        add_queue(out, queue.name.as_str(), &queue.meter, &queue.desk.running());
    }
}

fn add_desk(out: &mut Exposition, desk: &Desk) {
    let (queue, standings) = (desk.queue(), desk.standings());
    out.level(Family::HEALTH, &[queue], standings.health);
    out.level(Family::LOAD, &[queue], standings.load);
    for state in Circuit::NAMES {
        out.gauge(Family::CIRCUIT, &[queue, state], u64::from(standings.circuit == state));
    }
    for kind in desk.broken_kinds() {
        out.gauge(Family::BREAKER, &[queue, &kind], 1);
    }
}

fn add_queue(out: &mut Exposition, queue: &str, meter: &QueueMeter, running: &HashMap<String, u32>) {
    out.count(Family::LEASES_LOST, &[queue], meter.leases_lost.load(Ordering::Relaxed));
    out.count(Family::STALE, &[queue], meter.stale.load(Ordering::Relaxed));
    out.count(Family::REFUSED, &[queue], meter.refused.load(Ordering::Relaxed));
    out.count(Family::PROMOTED, &[queue], meter.promoted.load(Ordering::Relaxed));
    out.count(Family::INGESTED, &[queue], meter.ingested.load(Ordering::Relaxed));
    for (family, spread) in [(Family::CLAIM, &meter.claimed), (Family::SETTLE, &meter.settled)] {
        if let Some(spread) = spread.read(1.0) {
            out.histogram(family, &[queue], spread);
        }
    }
    let kinds = meter.kinds.lock().unwrap_or_else(PoisonError::into_inner);
    let unnamed = running.iter().filter(|(kind, _)| !kinds.contains_key(*kind));
    let unnamed: u64 = unnamed.map(|(_, n)| u64::from(*n)).sum();
    for (kind, meter) in kinds.iter() {
        let own = running.get(kind).copied().unwrap_or_default();
        let others = if kind == OTHER { unnamed } else { 0 };
        out.gauge(Family::KIND_RUNNING, &[queue, kind], u64::from(own) + others);
        out.count(Family::CLAIMED, &[queue, kind], meter.claimed.load(Ordering::Relaxed));
        for (outcome, name) in Outcome::ALL {
            let n = meter.runs[outcome as usize].load(Ordering::Relaxed);
            out.count(Family::RUNS, &[queue, kind, name], n);
        }
        for (family, spread) in [(Family::RUN, &meter.run), (Family::WAIT, &meter.wait)] {
            if let Some(spread) = spread.read(US) {
                out.histogram(family, &[queue, kind], spread);
            }
        }
    }
}
