//! Families of queues and of Redis, from what Redis holds: shown by a daemon for its queues, by `workyard metrics` for all.
//!
//! Invariant: a number is what the functions keep, exact. How many series a queue has is bounded, whatever kinds
//! people invent; which kinds are shown by name does not depend on how often they run, so that no counter goes back.

use std::collections::BTreeMap;

use super::{Exposition, Family, OTHER};
use crate::balance::Circuit;
use crate::broker::{Broker, COUNTERS, CircuitCount, QueueFigures, ServerFigures};
use crate::error::Error;
use crate::job::JobState;
use crate::name::QueueName;

/// Kinds shown by name, in all queues together.
const KINDS: usize = 500;
/// Most and least kinds of one queue shown by name.
const KINDS_OF_A_QUEUE: std::ops::RangeInclusive<usize> = 3..=50;
/// States of a queue's tasks.
const STATES: [&str; 5] = ["pending", "scheduled", "running", "failed", "inbox"];

/// Reads and adds what Redis holds of these queues, and of itself.
///
/// # Errors
/// As [`Error`] sorts them; nothing was added then.
pub async fn read(out: &mut Exposition, broker: &Broker, queues: &[QueueName]) -> Result<(), Error> {
    let (figures, server) = tokio::try_join!(broker.figures(queues), broker.server_figures())?;
    add_server(out, &server);
    let most = (KINDS / figures.len().max(1)).clamp(*KINDS_OF_A_QUEUE.start(), *KINDS_OF_A_QUEUE.end());
    for queue in &figures {
        add_queue(out, queue);
        add_kinds(out, queue, most);
    }
    Ok(())
}

/// Reads and adds how the consumers of these queues are.
///
/// # Errors
/// As [`Error`] sorts them.
pub async fn read_circuits(out: &mut Exposition, broker: &Broker, queues: &[QueueName]) -> Result<(), Error> {
    for (
        queue,
        CircuitCount {
            circuits,
            lowest_health,
            ..
        },
    ) in broker.circuits(queues).await?
    {
        // A report may name what this scrape did not ask for.
        if !queues.iter().any(|name| name.as_str() == queue) {
            continue;
        }
        for (circuit, n) in named(circuits) {
            out.gauge(Family::QUEUE_CIRCUITS, &[&queue, circuit], n);
        }
        if let Some(score) = lowest_health {
            out.level(Family::QUEUE_HEALTH, &[&queue], score.clamp(0.0, 1.0));
        }
    }
    Ok(())
}

/// Reports are written by whoever may write their keys: what is no state is `other`, or any text would be a series.
fn named(circuits: BTreeMap<String, u64>) -> BTreeMap<&'static str, u64> {
    let mut named = BTreeMap::new();
    for (circuit, n) in circuits {
        let name = Circuit::NAMES.iter().find(|name| **name == circuit);
        *named.entry(name.copied().unwrap_or(OTHER)).or_default() += n;
    }
    named
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has nothing but doubles")]
fn add_server(out: &mut Exposition, server: &ServerFigures) {
    out.gauge(Family::REDIS_UP, &[], 1);
    for (family, value) in [
        (Family::REDIS_MEMORY, server.memory_used),
        (Family::REDIS_MEMORY_MAX, server.memory_max),
        (Family::REDIS_PERSISTENCE, server.persistence_ok.map(u64::from)),
    ] {
        if let Some(value) = value {
            out.gauge(family, &[], value);
        }
    }
    if let (Some(calls), Some(us)) = (server.script_calls, server.script_us) {
        out.count(Family::REDIS_SCRIPT_CALLS, &[], calls);
        out.amount(Family::REDIS_SCRIPT_SECONDS, &[], us as f64 / 1e6);
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds below 2^53")]
fn add_queue(out: &mut Exposition, figures: &QueueFigures) {
    let (name, seen) = (figures.queue.as_str(), &figures.overview);
    for counter in COUNTERS {
        let value = seen.totals.get(counter).copied().unwrap_or_default();
        out.count(Family::QUEUE_EVENTS, &[name, counter], value);
    }
    let depths = [seen.pending, seen.scheduled, seen.running, seen.failed, figures.inbox];
    for (state, depth) in STATES.into_iter().zip(depths) {
        out.gauge(Family::QUEUE_TASKS, &[name, state], depth);
    }
    let age_ms = seen.oldest_ms.map_or(0, |at| seen.now_ms.saturating_sub(at));
    out.level(Family::QUEUE_OLDEST, &[name], age_ms as f64 / 1000.0);
    for (family, value) in [
        (Family::QUEUE_RESULTS, seen.results),
        (Family::QUEUE_CONSUMERS, seen.consumers),
        (Family::QUEUE_PARKED, seen.parked),
        (Family::QUEUE_PAUSED, u64::from(seen.paused)),
        (Family::QUEUE_LIMIT, figures.settings.max_pending),
    ] {
        out.gauge(family, &[name], value);
    }
    // A state without a job is shown too: a series that begins with 1 looks like one that did not change.
    for state in JobState::ALL.map(JobState::as_str) {
        let n = figures.jobs.get(state).copied().unwrap_or_default();
        out.gauge(Family::QUEUE_JOBS, &[name, state], n);
    }
}

fn add_kinds(out: &mut Exposition, figures: &QueueFigures, most: usize) {
    let mut rest: BTreeMap<&str, u64> = BTreeMap::new();
    let name = figures.queue.as_str();
    for (at, (kind, counters)) in figures.overview.kinds.iter().enumerate() {
        let is_named = at < most && kind != "*" && kind != OTHER;
        for (counter, value) in counters {
            if is_named {
                out.count(Family::KIND_EVENTS, &[name, kind, counter], *value);
            } else {
                *rest.entry(counter).or_default() += value;
            }
        }
    }
    for (counter, value) in rest {
        out.count(Family::KIND_EVENTS, &[name, OTHER, counter], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Overview;

    #[test]
    fn what_is_no_state_of_a_circuit_is_other() {
        let told = [("open", 2), ("closed", 1), ("\u{1b}[2J", 3), ("any", 4)];
        let told = told.map(|(name, n)| (name.to_owned(), n)).into();
        assert_eq!(named(told), [("open", 2), ("closed", 1), (OTHER, 7)].into());
    }

    #[test]
    fn kinds_beyond_the_limit_are_summed_as_other() {
        let kinds = (0..60).map(|i| (format!("k{i:02}"), BTreeMap::from([("completed".to_owned(), 1)])));
        let overview = Overview {
            kinds: kinds.collect(),
            ..Overview::default()
        };
        let figures = QueueFigures::of(QueueName::new("q").unwrap(), overview);
        let mut out = Exposition::default();
        add_kinds(&mut out, &figures, 50);
        let text = out.encode(false).unwrap();
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("workyard_kind_events_total{"))
                .count(),
            51
        );
        let other = r#"workyard_kind_events_total{queue="q",kind="other",event="completed"} 10"#;
        assert!(text.contains(other), "{text}");
    }
}
