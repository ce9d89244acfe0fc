//! The result of a job on stdout: pairs as a table or lines, values as JSON lines.
//!
//! Invariant: memory stays flat where it can: pairs in the order of keys are written as they are read; only `--top` holds
//! its N and `--by-value` all. What others wrote cannot drive the terminal.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use serde::Serialize;
use serde_json::json;
use workyard_producer::{JobHandle, JobRecord, RawJson};
use workyard_shared::job::Form;

use super::args::ShowArgs;
use super::exit::CliError;
use super::output::clean;
use super::session::Session;
use super::table::Grid;

/// Rows of a table that nobody asked to be longer.
const SHOWN: usize = 1000;
/// Lost chunks that are named.
const LOST: usize = 100;

/// Writes the result of a completed job.
pub(crate) async fn print(
    job: &JobHandle,
    record: &JobRecord,
    show: &ShowArgs,
    session: &mut Session,
) -> Result<(), CliError> {
    let lost = match record.accepted {
        0 => Vec::new(),
        _ => job.failed_chunks(LOST).await?,
    };
    match record.spec.form {
        Form::Fold { .. } => values(job, &lost, session).await?,
        Form::Keyed { partitions } => {
            if show.parts {
                parts(job, partitions, session).await?;
            } else if show.top.is_some() || show.by_value {
                greatest(job, show.top, session).await?;
            } else {
                pairs(job, session).await?;
            }
            if !lost.is_empty() && session.out.json {
                session
                    .out
                    .json_line(&json!({ "job": job.id().as_str(), "lost": lost }))?;
            }
        }
    }
    session.out.flush()?;
    if !lost.is_empty() {
        let numbers: Vec<String> = lost.iter().map(u64::to_string).collect();
        let more = if record.accepted > LOST as u64 { " ..." } else { "" };
        session.out.note(&format!(
            "note: lost chunks ({}) are left out of the result: {}{more}",
            record.accepted,
            numbers.join(" ")
        ));
    }
    Ok(())
}

async fn values(job: &JobHandle, lost: &[u64], session: &mut Session) -> Result<(), CliError> {
    let values = job.part(0).await?;
    if !session.out.json {
        for value in &values {
            session.out.bytes(value.bytes())?;
            session.out.line("")?;
        }
        return Ok(());
    }
    #[derive(Serialize)]
    struct Document<'a> {
        job: &'a str,
        state: &'a str,
        /// The one value, or all.
        result: Value<'a>,
        #[serde(skip_serializing_if = "<[u64]>::is_empty")]
        lost: &'a [u64],
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Value<'a> {
        One(&'a RawJson),
        All(&'a [RawJson]),
    }
    session.out.document(&Document {
        job: job.id().as_str(),
        state: "completed",
        result: match &values[..] {
            [one] => Value::One(one),
            all => Value::All(all),
        },
        lost,
    })
}

#[derive(Serialize)]
struct Pair<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u32>,
    key: &'a RawJson,
    value: &'a RawJson,
}

/// In the order of keys.
async fn pairs(job: &JobHandle, session: &mut Session) -> Result<(), CliError> {
    let mut pairs = job.pairs::<RawJson, RawJson>().await?;
    let mut rows = Rows::new(&["key", ">value"], session);
    while let Some((key, value)) = pairs.next().await? {
        rows.add(None, &key, &value, session)?;
    }
    rows.end(session)
}

/// By value, the greatest first; equal ones by key.
async fn greatest(job: &JobHandle, top: Option<u64>, session: &mut Session) -> Result<(), CliError> {
    let most = top.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let mut pairs = job.pairs::<RawJson, RawJson>().await?;
    let mut kept: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
    let mut number = 0;
    while let Some((key, value)) = pairs.next().await? {
        kept.push(Reverse(Ranked {
            size: size(&value),
            number,
            key,
            value,
        }));
        number += 1;
        if kept.len() > most {
            kept.pop();
        }
    }
    let mut rows = Rows::new(&["key", ">value"], session);
    rows.most = usize::MAX;
    for Reverse(ranked) in kept.into_sorted_vec() {
        rows.add(None, &ranked.key, &ranked.value, session)?;
    }
    rows.end(session)
}

async fn parts(job: &JobHandle, partitions: u32, session: &mut Session) -> Result<(), CliError> {
    let mut rows = Rows::new(&["key", ">value", ">part"], session);
    for part in 0..partitions {
        for line in job.part(part).await? {
            let wrong = |_| workyard_shared::Error::Protocol("a line of a keyed result that is no pair".to_owned());
            let (key, value): (RawJson, RawJson) = line.parse().map_err(wrong)?;
            rows.add(Some(part), &key, &value, session)?;
        }
    }
    rows.end(session)
}

/// A pair by the size of its value; of two equal ones the first is the greater.
#[derive(Debug)]
struct Ranked {
    size: Option<f64>,
    number: u64,
    key: RawJson,
    value: RawJson,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        // What is no number is below all numbers.
        let size = |ranked: &Self| ranked.size.unwrap_or(f64::NEG_INFINITY);
        size(self)
            .total_cmp(&size(other))
            .then_with(|| other.number.cmp(&self.number))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

fn size(value: &RawJson) -> Option<f64> {
    value.parse().ok()
}

/// Where pairs go: JSON lines, a table at a terminal, or lines with a tab.
struct Rows {
    grid: Option<Grid>,
    added: usize,
    most: usize,
}

impl Rows {
    fn new(heads: &[&str], session: &Session) -> Self {
        let table = session.out.terminal && !session.out.json;
        Self {
            grid: table.then(|| Grid::new(true, heads)),
            added: 0,
            most: SHOWN,
        }
    }

    fn add(
        &mut self,
        part: Option<u32>,
        key: &RawJson,
        value: &RawJson,
        session: &mut Session,
    ) -> Result<(), CliError> {
        self.added += 1;
        if session.out.json {
            // Buffered, not sent one by one: a result is no stream of events.
            return session.out.document(&Pair { part, key, value });
        }
        let cells = [shown(key), shown(value)];
        if let Some(grid) = &mut self.grid {
            if self.added <= self.most {
                match part {
                    Some(part) => grid.row([cells[0].clone(), cells[1].clone(), part.to_string()]),
                    None => grid.row(cells),
                }
            }
            return Ok(());
        }
        let part = part.map(|part| format!("{part}\t")).unwrap_or_default();
        session.out.line(&format!("{part}{}\t{}", cells[0], cells[1]))
    }

    fn end(self, session: &mut Session) -> Result<(), CliError> {
        if let Some(grid) = &self.grid {
            session.out.line(&grid.text())?;
            if self.added > self.most {
                session.out.note(&format!(
                    "the first {} of {}; --top N shows the greatest, a pipe gets all",
                    self.most, self.added
                ));
            }
        }
        Ok(())
    }
}

/// The text of a string, the JSON of anything else.
fn shown(json: &RawJson) -> String {
    let text = json
        .parse::<String>()
        .unwrap_or_else(|_| String::from_utf8_lossy(json.bytes()).into_owned());
    clean(&text, usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_values_come_first_and_equal_ones_in_the_order_of_keys() {
        let mut ranked: Vec<Ranked> = ["3", "10", "\"x\"", "3", "-1e3"]
            .iter()
            .zip(0..)
            .map(|(text, number)| {
                let value = RawJson::new((*text).to_owned().into());
                Ranked {
                    size: size(&value),
                    number,
                    key: value.clone(),
                    value,
                }
            })
            .collect();
        ranked.sort_by_key(|r| r.number);
        ranked.sort_by(|a, b| b.cmp(a));
        assert_eq!(ranked.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 0, 3, 4, 2]);
    }

    #[test]
    fn strings_are_shown_as_text_and_harmless() {
        assert_eq!(shown(&RawJson::new("\"a\\tb\\u001b\"".into())), "a b\\u{1b}");
        assert_eq!(shown(&RawJson::new("[1,2]".into())), "[1,2]");
    }
}
