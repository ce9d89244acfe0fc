//! `consumers`: who works here, how well, and on what kind of machine.
//!
//! Invariant: figures are shown as the consumers report them; one that does not report is shown with dashes, never left
//! out. A consumer of several queues is shown by the queue in which it does worst.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use workyard_producer::{ConsumerView, Error, QueueName};
use workyard_shared::balance::{KindVitals, Vitals};
use workyard_shared::duration;

use super::args::ConsumersArgs;
use super::exit::{CliError, Exit};
use super::interrupt;
use super::output::clean;
use super::session::Session;
use super::side_by_side::side_by_side;
use super::table::Grid;
use super::time::Clock;
use super::watch::Screen;
use super::why;

/// Most characters of a host's name.
const HOST: usize = 60;

/// A health key, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    host: Option<String>,
    version: Option<String>,
    running: Option<u64>,
    capacity: Option<u64>,
    processed: Option<u64>,
    errors: Option<u64>,
    stale: Option<u64>,
    mean_run_ms: Option<f64>,
    up_ms: Option<u64>,
    draining: bool,
    concurrency: BTreeMap<String, Slots>,
    balance: Vec<Standing>,
}

/// The slots of a kind with a limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Slots {
    limit: u64,
    min: u64,
    max: u64,
    running: u64,
}

/// How it stands in one queue.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Standing {
    queue: String,
    health: Option<f64>,
    load: Option<f64>,
    circuit: Option<String>,
    #[serde(flatten)]
    vitals: Vitals,
}

/// Runs `consumers`.
pub(crate) async fn run(args: &ConsumersArgs, session: &mut Session) -> Result<Exit, CliError> {
    if let Some(every) = args.watch {
        return watch(every, session).await;
    }
    session.known_queue().await?;
    let seen = look(session).await?;
    if session.out.json {
        session.out.document(&seen.views)?;
    } else {
        session.out.line(&picture(&seen, session.out.terminal))?;
    }
    Ok(Exit::Done)
}

/// What one look sees.
struct Seen {
    views: Vec<ConsumerView>,
    /// Queue and kind that fails everywhere in it.
    broken: Vec<(QueueName, String)>,
    clock: Clock,
}

async fn look(session: &Session) -> Result<Seen, Error> {
    let queues = if session.named {
        vec![session.queue.clone()]
    } else {
        session.client.queues().await?
    };
    let views = session.client.consumers(&queues).await?;
    let of_queue = async |queue: QueueName| {
        let kinds = session.client.broken_kinds(&queue).await?;
        Ok::<_, Error>(kinds.into_iter().map(move |kind| (queue.clone(), kind)))
    };
    let broken = side_by_side(queues, of_queue).await?;
    let broken = broken.into_iter().flatten().collect();
    let now = session.client.now().await?;
    Ok(Seen {
        views,
        broken,
        clock: Clock { now },
    })
}

async fn watch(every: Duration, session: &mut Session) -> Result<Exit, CliError> {
    let mut interrupt = interrupt::listen(Exit::Done);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut screen = Screen::default();
    let mut known = false;
    loop {
        let seen = tokio::select! {
            Ok(()) = &mut interrupt => return Ok(Exit::Done),
            // Dropped at Ctrl-C, also while it waits for Redis.
            seen = async {
                ticks.tick().await;
                look(session).await
            } => seen,
        };
        match seen {
            Ok(_) if !known => {
                // An outage just now is told by the next look.
                if let Err(error) = session.known_queue().await
                    && error.exit() == Exit::BadUse
                {
                    return Err(error);
                }
                known = true;
                ticks.reset_immediately();
            }
            Ok(seen) if session.out.json => session.out.json_line(&seen.views)?,
            Ok(seen) => {
                let text = picture(&seen, session.out.terminal);
                screen.show(&text, &mut session.out)?;
            }
            Err(error) => screen.failed(error, &session.out)?,
        }
    }
}

/// All tables.
fn picture(seen: &Seen, terminal: bool) -> String {
    let clock = seen.clock;
    let reports: Vec<(&ConsumerView, Report)> = seen.views.iter().map(|view| (view, report(view))).collect();
    let mut text = consumers(&reports, clock, terminal);
    for more in [kinds(&reports, terminal), machines(&reports, terminal)]
        .into_iter()
        .flatten()
    {
        text = format!("{text}\n\n{more}");
    }
    for (at, (queue, kind)) in seen.broken.iter().enumerate() {
        let gap = if at == 0 { "\n\n" } else { "\n" };
        text = format!("{text}{gap}queue {queue}: {}", why::breaker(kind));
    }
    text
}

/// What it says of itself; one of another release may say it differently, and is shown with dashes.
fn report(view: &ConsumerView) -> Report {
    let said = view.health.as_ref().and_then(|json| json.parse().ok());
    said.unwrap_or_default()
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn millis(ms: Option<f64>) -> String {
    or_dash(ms.map(|ms| format!("{ms:.1}ms")))
}

fn percent(part: u64, whole: u64) -> String {
    or_dash((part * 100).checked_div(whole))
}

/// Heads of the columns of `top`.
pub(super) const TOP: [&str; 9] = [
    "consumer",
    ">holds",
    ">running",
    ">capacity",
    ">processed",
    ">errors",
    ">mean",
    ">health",
    "host",
];

/// A consumer as `top` shows it.
pub(super) fn top_cells(view: &ConsumerView) -> Vec<String> {
    let report = report(view);
    let health = report.balance.iter().filter_map(|standing| standing.health);
    vec![
        view.id.clone(),
        view.holds.to_string(),
        or_dash(report.running),
        or_dash(report.capacity),
        or_dash(report.processed),
        or_dash(report.errors),
        millis(report.mean_run_ms),
        or_dash(health.min_by(f64::total_cmp).map(|n| format!("{n:.2}"))),
        clean(&or_dash(report.host), HOST),
    ]
}

fn consumers(reports: &[(&ConsumerView, Report)], clock: Clock, terminal: bool) -> String {
    let heads = [
        "consumer",
        "alive",
        "queues",
        ">holds",
        ">running",
        ">capacity",
        ">processed",
        ">errors",
        ">mean",
        ">err %",
        ">health",
        ">load",
        "circuit",
        "host",
        "version",
        "lease ends",
    ];
    let mut grid = Grid::new(terminal, &heads);
    for (view, report) in reports {
        let score = |standing: &Standing| standing.health.unwrap_or(1.0);
        // A circuit that is open gets probes alone, so its score may be the best.
        let closed = |standing: &Standing| match standing.circuit.as_deref() {
            Some("open" | "probing") => 0,
            Some("suspect") => 1,
            _ => 2,
        };
        let order = |a: &&Standing, b: &&Standing| closed(a).cmp(&closed(b)).then(score(a).total_cmp(&score(b)));
        let worst = report.balance.iter().min_by(order);
        let recent = |count: fn(&KindVitals) -> u32| -> u64 {
            let kinds = worst.into_iter().flat_map(|worst| worst.vitals.kinds.values());
            kinds.map(|kind| u64::from(count(kind))).sum()
        };
        let score = |pick: fn(&Standing) -> Option<f64>| or_dash(worst.and_then(pick).map(|n| format!("{n:.2}")));
        let alive = match (view.alive, report.draining) {
            (false, _) => "no",
            (true, true) => "drains",
            (true, false) => "yes",
        };
        grid.row([
            view.id.clone(),
            alive.to_owned(),
            view.queues.join(","),
            view.holds.to_string(),
            or_dash(report.running),
            or_dash(report.capacity),
            or_dash(report.processed),
            or_dash(report.errors),
            millis(report.mean_run_ms),
            percent(recent(|kind| kind.errors), recent(|kind| kind.runs)),
            score(|standing| standing.health),
            score(|standing| standing.load),
            or_dash(worst.and_then(|worst| worst.circuit.clone())),
            or_dash(report.host.clone()),
            or_dash(report.version.clone()),
            clock.relative(view.lease_ends_at),
        ]);
    }
    grid.text()
}

/// The kinds that ran lately or have a limit; `None` if there are none.
fn kinds(reports: &[(&ConsumerView, Report)], terminal: bool) -> Option<String> {
    let heads = [
        "consumer", "queue", "kind", ">slots", ">runs", ">errors", ">err %", ">mean", ">last", ">fastest", ">median",
        ">slowest",
    ];
    let mut grid = Grid::new(terminal, &heads);
    let mut some = false;
    for (view, report) in reports {
        let mut shown = BTreeSet::new();
        for standing in &report.balance {
            for (kind, vitals) in &standing.vitals.kinds {
                shown.insert(kind);
                grid.row(kind_row(&view.id, &standing.queue, kind, report, vitals));
            }
        }
        for kind in report.concurrency.keys().filter(|kind| !shown.contains(kind)) {
            grid.row(kind_row(&view.id, "-", kind, report, &KindVitals::default()));
            some = true;
        }
        some |= !shown.is_empty();
    }
    some.then(|| grid.text())
}

fn kind_row(consumer: &str, queue: &str, kind: &str, report: &Report, vitals: &KindVitals) -> Vec<String> {
    let slots = report.concurrency.get(kind).map(|slots| {
        let Slots {
            running,
            limit,
            min,
            max,
        } = slots;
        if min == max {
            format!("{running}/{limit}")
        } else {
            format!("{running}/{limit} of {min}..{max}")
        }
    });
    let mut last = vitals.recent_ms.clone();
    last.sort_unstable_by(f64::total_cmp);
    vec![
        consumer.to_owned(),
        queue.to_owned(),
        kind.to_owned(),
        or_dash(slots),
        vitals.runs.to_string(),
        vitals.errors.to_string(),
        percent(u64::from(vitals.errors), u64::from(vitals.runs)),
        millis((vitals.mean_ms > 0.0).then_some(vitals.mean_ms)),
        last.len().to_string(),
        millis(last.first().copied()),
        millis(last.get(last.len() / 2).copied()),
        millis(last.last().copied()),
    ]
}

/// What presses the machines; `None` if nobody reports.
fn machines(reports: &[(&ConsumerView, Report)], terminal: bool) -> Option<String> {
    let heads = ["consumer", "up", ">cpu %", ">memory %", ">loop lag", ">redis", ">stale"];
    let mut grid = Grid::new(terminal, &heads);
    let mut some = false;
    for (view, report) in reports {
        // The same machine whatever the queue.
        let Some(Standing { vitals, .. }) = report.balance.first() else {
            continue;
        };
        some = true;
        let up = report.up_ms.map(|ms| duration::format(Duration::from_secs(ms / 1000)));
        grid.row([
            view.id.clone(),
            or_dash(up),
            format!("{:.0}", vitals.cpu * 100.0),
            format!("{:.0}", vitals.memory * 100.0),
            millis(Some(vitals.lag_ms)),
            millis(Some(vitals.rtt_ms)),
            or_dash(report.stale),
        ]);
    }
    some.then(|| grid.text())
}
