//! `enqueue --from-file`: a file of envelopes, one JSON object per line.
//!
//! Two passes: the first checks every line and tells each bad one by its number; only then the second
//! enqueues. Invariant: without `--skip-invalid` a file with a bad line adds nothing. Memory stays
//! flat: neither the file nor the tasks are held. Stdin is first written to a temporary file, which is
//! gone when we end, however we end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Seek, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use workyard_producer::{Accepted, Bulk, Kept, NewTask, QueueName, Receipt};
use workyard_shared::Error;
use workyard_shared::crypto::is_sealed;
use workyard_shared::limits::MAX_SEALED_BYTES;

use super::args::EnqueueArgs;
use super::enqueue::{shortfall, with_shortfall};
use super::exit::{CliError, Exit};
use super::lines::{Line, Lines, MAX_LINE};
use super::near;
use super::output::{Out, counted};
use super::progress::Progress;
use super::session::Session;
use super::{trace, warning};

/// Lines between two updates of the progress.
const UPDATE_EVERY: u64 = 500;
/// Names that are told as probable slips: a file full of them is no slip.
const MAX_SLIPS: usize = 20;

/// Queues of one file whose consumers are looked at.
const MAX_QUEUES: usize = 100;

/// What the first pass found.
#[derive(Debug, Default)]
struct Checked {
    good: u64,
    bad: u64,
    /// Queues that lines name; `None` for lines that name none.
    queues: BTreeSet<Option<QueueName>>,
}

/// What the second pass did.
#[derive(Debug, Default)]
struct Sent {
    created: u64,
    duplicates: u64,
    weakest: Option<Kept>,
}

impl Sent {
    fn count(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            match receipt.accepted {
                Accepted::Created => self.created += 1,
                Accepted::Duplicate => self.duplicates += 1,
            }
            // One call below the level that was asked for makes the file's level.
            if matches!(receipt.durability, Kept::Memory | Kept::Unknown) || self.weakest.is_none() {
                self.weakest = Some(receipt.durability);
            }
        }
    }
}

/// Runs the command.
pub(crate) async fn run(path: &Path, args: &EnqueueArgs, session: &mut Session) -> Result<Exit, CliError> {
    let name = path.display().to_string();
    let cannot = |e: io::Error| CliError::usage(format!("cannot read {name}: {e}"), None);
    let mut file = open(path).map_err(cannot)?;
    let checked = check(&mut file, session).map_err(cannot)?;
    if checked.bad > 0 && !args.skip_invalid {
        let lines = if checked.bad == 1 { "line is" } else { "lines are" };
        let message = format!("{} {lines} not valid; nothing was enqueued", checked.bad);
        return Err(CliError::usage(
            message,
            Some("correct them, or say --skip-invalid to enqueue the rest"),
        ));
    }
    let mut warnings = Vec::new();
    for queue in &checked.queues {
        let queue = queue.as_ref().unwrap_or(&session.queue);
        warnings.extend(warning::before(&session.client, queue, None, args.require_consumer).await?);
    }
    let warning = warning::joined(&warnings);
    if let Some(text) = &warning {
        session.out.note(&format!("warning: {text}"));
    }
    file.rewind().map_err(cannot)?;
    let mut sent = Sent::default();
    let mut bulks = HashMap::new();
    if let Err(error) = send(&file, &checked, &mut bulks, &mut sent, args.ids, session).await {
        let in_doubt = count_remains(bulks, &mut sent, args.ids, session)?;
        let known = sent.created + sent.duplicates;
        let sure = if in_doubt { " for sure" } else { "" };
        session.out.note(&format!(
            "{known} of {} tasks were accepted{sure} before this happened:",
            checked.good
        ));
        return Err(error.of_many(known, in_doubt));
    }
    report(&checked, &sent, warning, args, session)
}

fn open(path: &Path) -> io::Result<File> {
    if path != Path::new("-") {
        let file = File::open(path)?;
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        // A pipe can be read once only, as stdin.
        return spool(file);
    }
    spool(io::stdin().lock())
}

fn spool(mut source: impl io::Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut source, &mut file)?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

fn judge(line: &Line<'_>, seals: bool) -> Result<(NewTask, Option<QueueName>), String> {
    let read = match line {
        Line::TooLong => return Err(format!("longer than {MAX_LINE} bytes")),
        Line::Text(text) => NewTask::from_json(text).map_err(|error| match error {
            Error::Invalid(reason) => reason,
            other => other.to_string(),
        })?,
    };
    let len = read.0.payload.len();
    if seals && len > MAX_SEALED_BYTES && !is_sealed(&read.0.payload) {
        return Err(format!(
            "payload has {len} bytes, at most {MAX_SEALED_BYTES} can be sealed"
        ));
    }
    Ok(read)
}

/// The first pass.
fn check(file: &mut File, session: &Session) -> io::Result<Checked> {
    let total = file.metadata()?.len();
    let mut lines = Lines::new(BufReader::with_capacity(1 << 18, file));
    let mut progress = Progress::new("checking, bytes", total, session.out.json || total < 1 << 20);
    let mut checked = Checked::default();
    let mut told = HashSet::new();
    while let Some(line) = lines.next()? {
        let judged = judge(&line, session.seals);
        match judged {
            Ok((task, queue)) => {
                checked.good += 1;
                if checked.queues.len() < MAX_QUEUES {
                    checked.queues.insert(queue);
                }
                hint_at_slips(&task, lines.number, &mut told, session.out.json);
            }
            Err(reason) => {
                checked.bad += 1;
                bad_line(lines.number, &reason, session.out.json);
            }
        }
        if lines.number.is_multiple_of(UPDATE_EVERY) {
            progress.set(lines.bytes);
        }
    }
    progress.end();
    Ok(checked)
}

/// Unknown fields are kept, and a slip of the pen looks like one: told once a name.
fn hint_at_slips(task: &NewTask, number: u64, told: &mut HashSet<String>, as_json: bool) {
    for name in task.unknown.keys() {
        let Some(field) = near::meant(name).filter(|_| told.len() < MAX_SLIPS && !told.contains(name)) else {
            continue;
        };
        told.insert(name.clone());
        let text = format!("unknown field {name:?} is kept as it is; did you mean {field:?}?");
        let text = if as_json {
            json!({ "line": number, "warning": text }).to_string()
        } else {
            format!("line {number}: warning: {text}")
        };
        // Whoever closed stderr does not want to know.
        writeln!(io::stderr(), "{text}").ok();
    }
}

fn bad_line(number: u64, reason: &str, as_json: bool) {
    let text = if as_json {
        json!({ "line": number, "error": reason }).to_string()
    } else {
        format!("line {number}: {reason}")
    };
    // Whoever closed stderr does not want to know.
    writeln!(io::stderr(), "{text}").ok();
}

/// The second pass.
async fn send(
    file: &File,
    checked: &Checked,
    bulks: &mut HashMap<QueueName, Bulk>,
    sent: &mut Sent,
    ids: bool,
    session: &mut Session,
) -> Result<(), CliError> {
    let cannot = |e: io::Error| CliError::usage(format!("the file cannot be read any more: {e}"), None);
    let mut lines = Lines::new(BufReader::with_capacity(1 << 18, file));
    // A bar would stand between the ids.
    let mut progress = Progress::new("enqueued", checked.good, session.out.json || ids);
    let (mut good, mut bad) = (0, 0);
    let trace = trace::surrounding(&session.out);
    while let Some(line) = lines.next().map_err(cannot)? {
        let Ok((mut task, queue)) = judge(&line, session.seals) else {
            bad += 1;
            if bad > checked.bad {
                return Err(CliError::usage(
                    format!("the file was changed meanwhile: line {} is not valid now", lines.number),
                    None,
                ));
            }
            continue;
        };
        if let Some(trace) = &trace {
            trace.inject(&mut task.headers);
        }
        let queue = queue.unwrap_or_else(|| session.queue.clone());
        let bulk = bulks
            .entry(queue.clone())
            .or_insert_with_key(|queue| session.client.bulk(queue));
        let receipts = bulk.push(task).await?;
        sent.count(&receipts);
        if ids {
            tell(&queue, &receipts, &mut session.out)?;
        }
        good += 1;
        if good % UPDATE_EVERY == 0 {
            progress.set(sent.created + sent.duplicates);
        }
    }
    for (queue, bulk) in bulks {
        let receipts = bulk.finish().await?;
        sent.count(&receipts);
        if ids {
            tell(queue, &receipts, &mut session.out)?;
        }
        progress.set(sent.created + sent.duplicates);
    }
    progress.end();
    Ok(())
}

/// Counts what is in although the sending failed; true if more may be.
fn count_remains(
    bulks: HashMap<QueueName, Bulk>,
    sent: &mut Sent,
    ids: bool,
    session: &mut Session,
) -> Result<bool, CliError> {
    let mut in_doubt = false;
    for (queue, bulk) in bulks {
        let (receipts, more) = bulk.remains();
        in_doubt |= more;
        sent.count(&receipts);
        if ids {
            tell(&queue, &receipts, &mut session.out)?;
        }
    }
    Ok(in_doubt)
}

/// A task that is in.
#[derive(Serialize)]
struct Told<'a> {
    queue: &'a str,
    #[serde(flatten)]
    receipt: &'a Receipt,
}

/// Writes what is in now, so that whoever reads along can wait for it.
fn tell(queue: &QueueName, receipts: &[Receipt], out: &mut Out) -> Result<(), CliError> {
    for receipt in receipts {
        if out.json {
            let queue = queue.as_str();
            out.document(&Told { queue, receipt })?;
        } else {
            out.line(receipt.id.as_str())?;
        }
    }
    out.flush()
}

fn report(
    checked: &Checked,
    sent: &Sent,
    warning: Option<String>,
    args: &EnqueueArgs,
    session: &mut Session,
) -> Result<Exit, CliError> {
    let durability = sent.weakest.unwrap_or(Kept::Memory);
    if session.out.json {
        let mut document = json!({
            "created": sent.created,
            "duplicates": sent.duplicates,
            "skipped": checked.bad,
            "durability": durability.to_string(),
        });
        if let Some(text) = with_shortfall(warning, durability, args.durability) {
            document["warning"] = text.into();
        }
        session.out.document(&document)?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{} enqueued", counted(sent.created, "task"));
    if sent.duplicates > 0 {
        text.push_str(&format!(", {} were here already", sent.duplicates));
    }
    if checked.bad > 0 {
        text.push_str(&format!(", {} skipped", counted(checked.bad, "invalid line")));
    }
    if args.ids {
        session.out.note(&text);
    } else {
        session.out.line(&text)?;
    }
    if let Some(text) = shortfall(durability, args.durability) {
        session.out.note(&format!("note: {text}"));
    }
    Ok(Exit::Done)
}
