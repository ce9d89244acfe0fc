//! `audit`: what operators did, and with `--follow` what they do.
//!
//! Invariant: an act is shown once, in the order of its queue; text of others never drives the terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use workyard_producer::{AuditEntry, Error, Moment, QueueName};

use super::args::AuditArgs;
use super::exit::{CliError, Exit};
use super::interrupt;
use super::output::clean;
use super::session::Session;
use super::table::Grid;
use super::time::Clock;
use super::watch::Told;

/// Pause between two looks of `--follow`.
const EVERY: Duration = Duration::from_secs(1);

/// An act, as it is shown.
#[derive(Debug, Serialize)]
struct Act<'a> {
    at: Moment,
    queue: &'a str,
    user: &'a str,
    name: &'a str,
    action: &'a str,
    count: u64,
    detail: &'a str,
}

fn act<'a>(queue: &'a QueueName, entry: &'a AuditEntry) -> Act<'a> {
    Act {
        at: Moment::from_ms(entry.at_ms),
        queue: queue.as_str(),
        user: &entry.user,
        name: &entry.name,
        action: &entry.action,
        count: entry.count,
        detail: &entry.detail,
    }
}

/// The queues to look at: one that was deleted has nothing but its audit.
async fn queues(session: &Session) -> Result<Vec<QueueName>, CliError> {
    match session.queues().await {
        // No such queue is known: only that is bad use here.
        Err(error) if error.exit() == Exit::BadUse => match session.client.audit(&session.queue, 1).await?.is_empty() {
            true => Err(error),
            false => Ok(vec![session.queue.clone()]),
        },
        other => other,
    }
}

/// Runs the command.
pub(crate) async fn run(args: &AuditArgs, session: &mut Session) -> Result<Exit, CliError> {
    let mut found = Vec::new();
    let mut last = BTreeMap::new();
    for queue in queues(session).await? {
        let entries = session.client.audit(&queue, args.limit).await?;
        let newest = entries.first().map_or_else(|| "0".to_owned(), |entry| entry.id.clone());
        last.insert(queue.clone(), newest);
        found.extend(entries.into_iter().map(|entry| (queue.clone(), entry)));
    }
    found.sort_by_key(|(_, entry)| entry.at_ms);
    if !args.follow {
        return all(&found, session).await;
    }
    lines(&found, session)?;
    follow(last, session).await
}

async fn all(found: &[(QueueName, AuditEntry)], session: &mut Session) -> Result<Exit, CliError> {
    if session.out.json {
        let acts: Vec<_> = found.iter().map(|(queue, entry)| act(queue, entry)).collect();
        session.out.document(&acts)?;
        return Ok(Exit::Done);
    }
    let clock = session.clock().await?;
    let heads = ["when", "queue", "user", "name", "action", ">count", "detail"];
    let mut grid = Grid::new(session.out.terminal, &heads);
    for (queue, entry) in found {
        grid.row(cells(queue, entry, clock));
    }
    session.out.line(&grid.text())?;
    Ok(Exit::Done)
}

fn cells(queue: &QueueName, entry: &AuditEntry, clock: Clock) -> [String; 7] {
    [
        clock.cell(Moment::known(entry.at_ms)),
        queue.to_string(),
        clean(&entry.user, 40),
        clean(&entry.name, 40),
        clean(&entry.action, 20),
        entry.count.to_string(),
        clean(&entry.detail, 100),
    ]
}

fn lines(found: &[(QueueName, AuditEntry)], session: &mut Session) -> Result<(), CliError> {
    for (queue, entry) in found {
        let act = act(queue, entry);
        if session.out.json {
            session.out.json_line(&act)?;
        } else {
            let [who, name, detail] = [act.user, act.name, act.detail].map(|text| clean(text, 200));
            let (at, action) = (act.at, clean(act.action, 20));
            session.out.line(&format!(
                "{at}  {queue}  {who}  {name}  {action}  {}  {detail}",
                act.count
            ))?;
        }
    }
    session.out.flush()
}

/// Looks again and again; an outage is told and waited out.
async fn follow(mut last: BTreeMap<QueueName, String>, session: &mut Session) -> Result<Exit, CliError> {
    let mut interrupted = interrupt::listen(Exit::Done);
    let mut outage = Told::default();
    loop {
        let looked = tokio::select! {
            _ = &mut interrupted => return Ok(Exit::Done),
            // Dropped at Ctrl-C, also while it waits for Redis.
            looked = async {
                tokio::time::sleep(EVERY).await;
                news(&mut last, session).await
            } => looked,
        };
        match looked {
            Ok(found) => {
                outage.answered(&session.out);
                lines(&found, session)?;
            }
            Err(error) => outage.failed(
                error,
                "still following, and what is done meanwhile is shown then",
                &session.out,
            )?,
        }
    }
}

/// What is new in the queues, those that came meanwhile included. A look that fails in the middle has shown nothing: the
/// next finds it again.
async fn news(
    last: &mut BTreeMap<QueueName, String>,
    session: &Session,
) -> Result<Vec<(QueueName, AuditEntry)>, Error> {
    let mut reached = last.clone();
    if !session.named {
        for queue in session.client.queues().await? {
            reached.entry(queue).or_insert_with(|| "0".to_owned());
        }
    }
    let mut found = Vec::new();
    for (queue, seen) in &mut reached {
        for entry in session.client.audit_after(queue, seen).await? {
            seen.clone_from(&entry.id);
            found.push((queue.clone(), entry));
        }
    }
    found.sort_by_key(|(_, entry)| entry.at_ms);
    *last = reached;
    Ok(found)
}
