//! The result of a job on stdout: pairs as a table or lines, values as JSON lines.
//!
//! Invariant: memory stays flat where it can: pairs in the order of keys are written as they are read; only `--top` holds
//! its N and `--by-value` all. What others wrote cannot drive the terminal, unless `--raw` asks for it as it is.

use serde::Serialize;
use serde_json::json;
use workyard_producer::{JobHandle, JobRecord, RawJson};
use workyard_shared::job::Form;

use super::args::ShowArgs;
use super::exit::CliError;
use super::output::clean;
use super::ranking::{Greatest, Ranked, ranking};
use super::session::Session;
use super::table::Grid;
use super::why;

/// Rows of a table that nobody asked to be longer.
const SHOWN: usize = 1000;
/// Lost chunks that are named.
const LOST: usize = 100;

/// Chunks that the result does without.
struct Lost {
    /// The first of them.
    named: Vec<u64>,
    all: u64,
}

impl Lost {
    async fn of(job: &JobHandle, record: &JobRecord) -> Result<Self, CliError> {
        let named = match record.accepted {
            0 => Vec::new(),
            _ => job.failed_chunks(LOST).await?,
        };
        Ok(Self {
            named,
            all: record.accepted,
        })
    }

    fn is_cut(&self) -> bool {
        self.all > self.named.len() as u64
    }

    /// Their number, if not all are named.
    fn total(&self) -> Option<u64> {
        self.is_cut().then_some(self.all)
    }
}

/// Refuses what cannot be shown together, before there is a result.
pub(crate) fn check(show: &ShowArgs, session: &Session) -> Result<(), CliError> {
    match show.raw && session.out.json {
        true => Err(CliError::usage(
            "--raw is not for --json",
            Some("leave one of them out"),
        )),
        false => Ok(()),
    }
}

/// A fold has one result.
pub(crate) fn parts_of_a_fold() -> CliError {
    CliError::usage("--parts needs --keyed", Some("a fold has one result and no parts"))
}

/// Writes the result of a completed job.
pub(crate) async fn print(
    job: &JobHandle,
    record: &JobRecord,
    show: &ShowArgs,
    session: &mut Session,
) -> Result<(), CliError> {
    let lost = Lost::of(job, record).await?;
    match record.spec.form {
        Form::Fold { .. } if show.parts => return Err(parts_of_a_fold()),
        Form::Fold { .. } if show.top.is_some() || show.by_value => {
            greatest_of_fold(job, record, &lost, show, session).await?;
        }
        Form::Fold { .. } => values(job, &lost, show.raw, session).await?,
        Form::Keyed { partitions } => {
            if show.parts {
                parts(job, partitions, show, session).await?;
            } else if show.top.is_some() || show.by_value {
                greatest(job, show, session).await?;
            } else {
                pairs(job, show, session).await?;
            }
            lost_line(job, &lost, session)?;
        }
    }
    session.out.flush()?;
    if !lost.named.is_empty() {
        let numbers: Vec<String> = lost.named.iter().map(u64::to_string).collect();
        let more = if lost.is_cut() { " ..." } else { "" };
        session.out.note(&format!(
            "note: lost chunks ({}) are left out of the result: {}{more}",
            lost.all,
            numbers.join(" ")
        ));
    }
    Ok(())
}

/// Behind JSON lines, which have no other place for it.
fn lost_line(job: &JobHandle, lost: &Lost, session: &mut Session) -> Result<(), CliError> {
    if lost.named.is_empty() || !session.out.json {
        return Ok(());
    }
    let mut line = json!({ "job": job.id().as_str(), "lost": lost.named });
    if let Some(all) = lost.total() {
        line["lost_total"] = all.into();
    }
    session.out.json_line(&line)
}

async fn values(job: &JobHandle, lost: &Lost, raw: bool, session: &mut Session) -> Result<(), CliError> {
    let values = job.part(0).await?;
    if session.out.json {
        return document(job, &values, lost, session);
    }
    for value in &values {
        match value.parse::<String>() {
            Ok(text) if raw => session.out.line(&text)?,
            _ => {
                session.out.bytes(value.bytes())?;
                session.out.line("")?;
            }
        }
    }
    Ok(())
}

fn document(job: &JobHandle, values: &[RawJson], lost: &Lost, session: &mut Session) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Document<'a> {
        job: &'a str,
        state: &'a str,
        /// The one value, or all.
        result: Value<'a>,
        #[serde(skip_serializing_if = "<[u64]>::is_empty")]
        lost: &'a [u64],
        #[serde(skip_serializing_if = "Option::is_none")]
        lost_total: Option<u64>,
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
        result: match values {
            [one] => Value::One(one),
            all => Value::All(all),
        },
        lost: &lost.named,
        lost_total: lost.total(),
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
async fn pairs(job: &JobHandle, show: &ShowArgs, session: &mut Session) -> Result<(), CliError> {
    let mut pairs = job.pairs::<RawJson, RawJson>().await?;
    let mut rows = Rows::new(&["key", ">value"], show, session);
    while let Some((key, value)) = pairs.next().await? {
        rows.add(None, &key, &value, session)?;
    }
    rows.end(session)
}

/// By value, the greatest first; equal ones by key.
async fn greatest(job: &JobHandle, show: &ShowArgs, session: &mut Session) -> Result<(), CliError> {
    let most = most(show);
    let mut pairs = job.pairs::<RawJson, RawJson>().await?;
    let mut greatest = Greatest::new(most);
    while let Some((key, value)) = pairs.next().await? {
        greatest.add(key, value);
    }
    let ranked = greatest.ranked();
    ranks(&ranked, show, session)
}

fn most(show: &ShowArgs) -> usize {
    let top = show.top.and_then(|n| usize::try_from(n).ok());
    top.unwrap_or(usize::MAX)
}

fn ranks(ranked: &[Ranked], show: &ShowArgs, session: &mut Session) -> Result<(), CliError> {
    let mut rows = Rows::new(&["key", ">value"], show, session);
    rows.most = usize::MAX;
    for one in ranked {
        rows.add(None, &one.key, &one.value, session)?;
    }
    rows.end(session)
}

/// The greatest numbers of a fold's one object, as pairs; or of its list.
async fn greatest_of_fold(
    job: &JobHandle,
    record: &JobRecord,
    lost: &Lost,
    show: &ShowArgs,
    session: &mut Session,
) -> Result<(), CliError> {
    // The result of no input is `null`.
    let values = if record.submitted == 0 {
        Vec::new()
    } else {
        job.part(0).await?
    };
    let Some((keyed, ranked)) = ranking(&values, most(show)) else {
        let reason = format!(
            "the result of job {} is neither one object of numbers nor numbers",
            job.id()
        );
        let hint = format!(
            "`workyard job result {}{}` without --top and --by-value shows it",
            job.id(),
            why::on(job.queue())
        );
        return Err(CliError::usage(reason, Some(&hint)));
    };
    if keyed {
        ranks(&ranked, show, session)?;
        return lost_line(job, lost, session);
    }
    let numbers: Vec<RawJson> = ranked.into_iter().map(|one| one.value).collect();
    if session.out.json {
        return document(job, &numbers, lost, session);
    }
    numbers.iter().try_for_each(|number| session.out.line(&shown(number)))
}

async fn parts(job: &JobHandle, partitions: u32, show: &ShowArgs, session: &mut Session) -> Result<(), CliError> {
    let mut rows = Rows::new(&["key", ">value", ">part"], show, session);
    for part in 0..partitions {
        for line in job.part(part).await? {
            let wrong = |_| workyard_shared::Error::Protocol("a line of a keyed result that is no pair".to_owned());
            let (key, value): (RawJson, RawJson) = line.parse().map_err(wrong)?;
            rows.add(Some(part), &key, &value, session)?;
        }
    }
    rows.end(session)
}

/// Where pairs go: JSON lines, a table at a terminal, or lines with a tab.
struct Rows {
    grid: Option<Grid>,
    added: usize,
    most: usize,
    raw: bool,
}

impl Rows {
    fn new(heads: &[&str], show: &ShowArgs, session: &Session) -> Self {
        let table = session.out.terminal && !session.out.json && !show.raw;
        Self {
            grid: table.then(|| Grid::new(true, heads)),
            added: 0,
            most: SHOWN,
            raw: show.raw,
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
        let text = if self.raw { text } else { shown };
        let cells = [text(key), text(value)];
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
pub(super) fn text(json: &RawJson) -> String {
    json.parse::<String>()
        .unwrap_or_else(|_| String::from_utf8_lossy(json.bytes()).into_owned())
}

/// The same, made safe.
fn shown(json: &RawJson) -> String {
    clean(&text(json), usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_shown_as_text_and_harmless() {
        assert_eq!(shown(&RawJson::new("\"a\\tb\\u001b\"".into())), "a b\\u{1b}");
        assert_eq!(shown(&RawJson::new("[1,2]".into())), "[1,2]");
    }
}
