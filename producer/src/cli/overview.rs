//! `queues`, `stats`, `rejected`, `install`: what there is.
//!
//! Invariant: numbers are shown as Redis counts them. Without `--queue` all known queues are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use workyard_producer::{MinuteCounts, QueueName, QueueStats, Signals};
use workyard_shared::broker::COUNTERS;
use workyard_shared::{duration, functions};

use super::args::{RejectedArgs, StatsArgs};
use super::exit::{CliError, Exit};
use super::output::{Out, clean};
use super::session::Session;
use super::shell;
use super::side_by_side::side_by_side;
use super::table::Grid;
use super::why;

/// Counters that are kept per kind.
const PER_KIND: [&str; 6] = ["submitted", "completed", "failed", "retried", "cancelled", "expired"];

/// Runs `install`.
/// `install --print`: for who has only redis-cli where the functions may be loaded.
pub(crate) fn print_library() -> Result<Exit, CliError> {
    shell::write_out(functions::library().as_bytes())
}

pub(crate) async fn install(session: &mut Session) -> Result<Exit, CliError> {
    session.client.install().await?;
    let (library, protocol, version) = (
        functions::LIBRARY,
        functions::PROTOCOL_VERSION,
        env!("CARGO_PKG_VERSION"),
    );
    if session.out.json {
        session
            .out
            .document(&json!({ "library": library, "protocol": protocol, "version": version }))?;
    } else {
        session.out.line(&format!(
            "functions {library} are loaded (protocol {protocol}, workyard {version})"
        ))?;
    }
    Ok(Exit::Done)
}

/// A queue, and what its numbers mean for who scales its consumers.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    stats: QueueStats,
    #[serde(flatten)]
    signals: Signals,
    /// Kinds that fail everywhere; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broken_kinds: Vec<String>,
}

/// What is to be known of kinds that fail everywhere: their tasks are scheduled, and no number above says why.
fn tell_broken(all: &[Row], out: &mut Out) -> Result<(), CliError> {
    for Row {
        stats, broken_kinds, ..
    } in all
    {
        for kind in broken_kinds {
            out.line(&format!("queue {}: {}", stats.queue, why::breaker(kind)))?;
        }
    }
    Ok(())
}

async fn all_stats(session: &Session) -> Result<Vec<Row>, CliError> {
    let row = async |queue: QueueName| {
        let stats = session.client.stats(&queue).await?;
        let signals = session.client.signals(&queue, &stats).await?;
        let broken_kinds = session.client.broken_kinds(&queue).await?;
        Ok(Row {
            stats,
            signals,
            broken_kinds,
        })
    };
    side_by_side(session.queues().await?, row).await
}

/// Runs `queues`.
pub(crate) async fn queues(session: &mut Session) -> Result<Exit, CliError> {
    let all = all_stats(session).await?;
    if session.out.json {
        session.out.document(&all)?;
        return Ok(Exit::Done);
    }
    session.out.line(&depths(&all, session.out.terminal))?;
    tell_broken(&all, &mut session.out)?;
    Ok(Exit::Done)
}

fn depths(all: &[Row], terminal: bool) -> String {
    let heads = [
        "queue",
        ">pending",
        ">scheduled",
        ">running",
        ">failed",
        ">results",
        ">inbox",
        ">consumers",
        "paused",
    ];
    let mut grid = Grid::new(terminal, &heads);
    for Row { stats: queue, .. } in all {
        let numbers = [
            queue.pending,
            queue.scheduled,
            queue.running,
            queue.failed,
            queue.results,
            queue.inbox,
            queue.consumers,
        ];
        let mut row = vec![queue.queue.clone()];
        row.extend(numbers.map(|n| n.to_string()));
        row.push(if queue.paused { "yes" } else { "no" }.to_owned());
        grid.row(row);
    }
    grid.text()
}

fn paces(all: &[Row], terminal: bool) -> String {
    let heads = [
        "queue",
        ">backlog",
        ">oldest",
        ">arriving/s",
        ">draining/s",
        ">drained in",
        ">slots",
        ">wanted",
    ];
    let mut grid = Grid::new(terminal, &heads);
    for Row { stats, signals, .. } in all {
        // Nobody reads milliseconds of what lies minutes back or ahead.
        let span =
            |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| duration::format(Duration::from_secs(ms / 1000)));
        let wanted = signals.wanted_consumers;
        grid.row([
            stats.queue.clone(),
            signals.backlog.to_string(),
            span(signals.oldest_pending_ms),
            format!("{:.1}", signals.arrival_per_second),
            format!("{:.1}", signals.drain_per_second),
            span(signals.time_to_drain_ms),
            signals.slots.to_string(),
            wanted.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        ]);
    }
    grid.text()
}

#[derive(Serialize)]
struct Minutes {
    queue: String,
    minutes: Vec<MinuteCounts>,
}

/// Runs `stats`.
pub(crate) async fn stats(args: &StatsArgs, session: &mut Session) -> Result<Exit, CliError> {
    if args.minutes {
        return minutes(session).await;
    }
    let all = all_stats(session).await?;
    if session.out.json {
        session.out.document(&all)?;
        return Ok(Exit::Done);
    }
    session.out.line(&depths(&all, session.out.terminal))?;
    session.out.line(&format!("\n{}", paces(&all, session.out.terminal)))?;
    tell_broken(&all, &mut session.out)?;
    for Row { stats: queue, .. } in &all {
        let text = counters(queue, session.out.terminal);
        session.out.line(&format!("\nqueue {}\n{text}", queue.queue))?;
    }
    Ok(Exit::Done)
}

fn counters(queue: &QueueStats, terminal: bool) -> String {
    let number = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or_default();
    let mut grid = Grid::new(terminal, &["counter", ">total"]);
    for name in COUNTERS {
        grid.row([name.to_owned(), number(&queue.totals, name).to_string()]);
    }
    let mut kinds = Grid::new(
        terminal,
        &[
            "kind",
            ">submitted",
            ">completed",
            ">failed",
            ">retried",
            ">cancelled",
            ">expired",
        ],
    );
    for (kind, counts) in &queue.kinds {
        let mut row = vec![kind.clone()];
        row.extend(PER_KIND.map(|name| number(counts, name).to_string()));
        kinds.row(row);
    }
    if queue.kinds.is_empty() {
        grid.text()
    } else {
        format!("{}\n\n{}", grid.text(), kinds.text())
    }
}

async fn minutes(session: &mut Session) -> Result<Exit, CliError> {
    let mut all = Vec::new();
    for queue in session.queues().await? {
        let minutes = session.client.minutes(&queue).await?;
        all.push(Minutes {
            queue: queue.to_string(),
            minutes,
        });
    }
    if session.out.json {
        session.out.document(&all)?;
        return Ok(Exit::Done);
    }
    for queue in &all {
        // Columns of counters that never changed would only hide the others.
        let changed: Vec<&str> = COUNTERS
            .into_iter()
            .filter(|name| queue.minutes.iter().any(|minute| minute.counts.contains_key(name)))
            .collect();
        let heads: Vec<String> = std::iter::once("minute (UTC)".to_owned())
            .chain(changed.iter().map(|name| format!(">{name}")))
            .collect();
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let mut grid = Grid::new(session.out.terminal, &heads);
        for minute in &queue.minutes {
            let at = minute
                .minute
                .to_string()
                .get(..16)
                .unwrap_or_default()
                .replace('T', " ");
            let counts = changed
                .iter()
                .map(|name| minute.counts.get(name).copied().unwrap_or_default().to_string());
            grid.row(std::iter::once(at).chain(counts));
        }
        session.out.line(&format!("queue {}\n{}", queue.queue, grid.text()))?;
    }
    Ok(Exit::Done)
}

/// Runs `rejected`.
pub(crate) async fn rejected(args: &RejectedArgs, session: &mut Session) -> Result<Exit, CliError> {
    session.known_queue().await?;
    let items = session.client.rejected(&session.queue, args.limit).await?;
    if session.out.json {
        let items: Vec<_> = items
            .iter()
            .map(|item| reason_and_raw(item))
            .map(|(reason, raw)| json!({ "reason": reason, "raw": raw }))
            .collect();
        session.out.document(&items)?;
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(session.out.terminal, &["reason", "item"]);
    for item in &items {
        let (reason, raw) = reason_and_raw(item);
        grid.row([clean(&reason, 200), clean(&raw, 80)]);
    }
    session.out.line(&grid.text())?;
    Ok(Exit::Done)
}

/// An entry is a JSON object with the raw item in it; behind one for an item that was too long to be
/// read whole stands the item's beginning.
fn reason_and_raw(entry: &str) -> (String, String) {
    #[derive(serde::Deserialize)]
    struct Entry {
        reason: String,
        raw: Option<String>,
    }
    let mut stream = serde_json::Deserializer::from_str(entry).into_iter::<Box<RawValue>>();
    let object = stream.next().and_then(Result::ok);
    let rest = entry.get(stream.byte_offset()..).unwrap_or_default();
    match object.and_then(|raw| serde_json::from_str::<Entry>(raw.get()).ok()) {
        Some(entry) => (entry.reason, entry.raw.unwrap_or_else(|| rest.trim_start().to_owned())),
        None => ("no reason was kept".to_owned(), entry.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_rejected_entry_are_read() {
        let pair = |reason: &str, raw: &str| (reason.to_owned(), raw.to_owned());
        assert_eq!(
            reason_and_raw(r#"{"reason":"bad","bytes":1,"raw":"{"}"#),
            pair("bad", "{")
        );
        assert_eq!(
            reason_and_raw(r#"{"reason":"too long"} {"kind":"#),
            pair("too long", "{\"kind\":")
        );
        assert_eq!(reason_and_raw("junk"), pair("no reason was kept", "junk"));
    }
}
