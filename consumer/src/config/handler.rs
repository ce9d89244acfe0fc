//! `[handlers.KIND]`: what runs the tasks of one kind.
//!
//! Invariant: the fields of one type never slip into another; each type denies what it does not
//! know, after the four fields that all share were taken out.

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use workyard_shared::name::Kind;

use crate::kind_slots::Concurrency;

use super::checks::{self, HumanDuration};
use super::concurrency::RawConcurrency;
use super::problem::Problem;
use super::{BuiltinConfig, CommandConfig, HttpConfig, WorkerConfig};
use super::{builtin, command, http, worker};

const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// One handler, as configured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HandlerConfig {
    /// The kind of task it runs.
    pub kind: String,
    /// How many of its tasks may run at once in this daemon: a number, or `{ min = 2, max = 32 }` between which it
    /// moves; only the daemon's own limit without one.
    pub concurrency: Option<Concurrency>,
    /// Longest one attempt may take, on top of the task's own timeout; the earlier one ends it.
    pub timeout: Option<Duration>,
    /// Whether it takes signed tasks only; it is no function of map-reduce jobs then.
    pub signed: bool,
    /// What it does.
    pub action: Action,
}

/// The four types of handler.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// One process per task.
    Command(CommandConfig),
    /// A pool of long-lived processes.
    Worker(WorkerConfig),
    /// One POST per task.
    Http(HttpConfig),
    /// A function inside the daemon.
    Builtin(BuiltinConfig),
}

/// Checks the table of the handler for `kind`.
pub(crate) fn parse(kind: &str, value: Spanned<DeValue<'_>>, base: &Path) -> Result<HandlerConfig, Problem> {
    Kind::new(kind).map_err(|error| Problem::new(kind, checks::reason(&error)))?;
    fields(kind, value, base).map_err(|problem| problem.under(kind))
}

fn fields(kind: &str, value: Spanned<DeValue<'_>>, base: &Path) -> Result<HandlerConfig, Problem> {
    let span = value.span();
    let DeValue::Table(mut table) = value.into_inner() else {
        return Err(Problem::whole("must be a table with at least a `type`"));
    };
    let choices = "\"command\", \"worker\", \"http\" or \"builtin\"";
    let Some(kind_of) = take::<String>(&mut table, "type")? else {
        return Err(match below(&table) {
            Some(rest) => Problem::whole(format!(
                "has no type, but a table below it has: a kind with a dot stands in quotes, [handlers.\"{kind}.{rest}\"]"
            )),
            None => Problem::new("type", format!("is missing; give {choices}")),
        });
    };
    let concurrency: Option<RawConcurrency> = take(&mut table, "concurrency")?;
    let timeout: Option<HumanDuration> = take(&mut table, "timeout")?;
    let signed: Option<bool> = take(&mut table, "signed")?;
    let concurrency = concurrency
        .map(|raw| raw.0.check().map_err(|text| Problem::new("concurrency", text)))
        .transpose()?;
    let rest = ValueDeserializer::from(Spanned::new(span, DeValue::Table(table)));
    let action = match kind_of.as_str() {
        "command" => command::parse(rest, base).map(Action::Command),
        "worker" => worker::parse(rest, base).map(Action::Worker),
        "http" => http::parse(rest, base).map(Action::Http),
        "builtin" => builtin::parse(rest, base).map(Action::Builtin),
        other => {
            return Err(Problem::new("type", format!("{other:?} is no type; give {choices}")));
        }
    }
    // The fields that were taken out before are good ones too.
    .map_err(|problem| problem.with_fields("`type`, `timeout`, `concurrency`, `signed`"))?;
    Ok(HandlerConfig {
        kind: kind.to_owned(),
        concurrency: match &action {
            Action::Worker(pool) => Some(within(pool.processes, concurrency)?),
            _ => concurrency,
        },
        timeout: timeout
            .map(|t| checks::duration("timeout", t, Duration::from_millis(1)..=MAX_TIMEOUT))
            .transpose()?,
        signed: signed.unwrap_or(false),
        action,
    })
}

/// What the name of a kind goes on with that TOML has cut at its dots: the way down to a table that is a handler.
fn below(table: &DeTable<'_>) -> Option<String> {
    let tables = table.iter().filter_map(|(key, value)| match value.get_ref() {
        // What a handler itself has as tables; nothing in them is one.
        DeValue::Table(inner) if !["env", "headers"].contains(&key.get_ref().as_ref()) => Some((key.get_ref(), inner)),
        _ => None,
    });
    tables
        .map(|(key, inner)| match inner.contains_key("type") {
            true => Some(key.to_string()),
            false => below(inner).map(|rest| format!("{key}.{rest}")),
        })
        .find_map(|found| found)
}

/// The concurrency of a pool of workers: its processes. A task that is claimed for more of them waits here for a process,
/// out of its turn, while others could have it.
fn within(processes: usize, asked: Option<Concurrency>) -> Result<Concurrency, Problem> {
    let asked = asked.unwrap_or(Concurrency::Fixed(processes));
    let (Concurrency::Fixed(most) | Concurrency::Adaptive { max: most, .. }) = asked;
    if most > processes {
        return Err(Problem::new(
            "concurrency",
            format!(
                "{most} is above processes = {processes}, and each process runs one task at a time; give processes = {most}, or leave concurrency out"
            ),
        ));
    }
    Ok(asked)
}

/// Takes a field that every type has out of the table.
fn take<T: DeserializeOwned>(table: &mut DeTable<'_>, name: &str) -> Result<Option<T>, Problem> {
    table
        .remove(name)
        .map(|value| T::deserialize(ValueDeserializer::from(value)))
        .transpose()
        .map_err(Problem::from)
}
