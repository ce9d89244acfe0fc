//! A job for people: rows, a table of jobs.
//!
//! Invariant: what is not known yet has no row.

use std::time::Duration;

use workyard_producer::{JobGlance, JobHandle, JobRecord, JobState, Moment, Phase, QueueName, ResultPlace};
use workyard_shared::job::Form;
use workyard_shared::{duration, keys};

use super::exit::CliError;
use super::job_chunk;
use super::job_document::{Document, document};
use super::output::{clean, counted, summary};
use super::table::Grid;
use super::time::Clock;

/// Failed chunks and errors that are shown to people.
const SHOWN: usize = 20;
/// Failed chunks whose input is shown to people: a description may have a megabyte.
const INPUTS: usize = 5;
/// Failed chunks that a document names, and tells the input of; beside them it has the number of all.
const NAMED: usize = 1000;
const NAMED_INPUTS: usize = 100;

/// What is told of one job.
#[derive(Debug)]
pub(crate) struct JobView {
    id: String,
    queue: String,
    record: JobRecord,
    failed: Vec<u64>,
    /// What failed chunks are made of, in words.
    inputs: Vec<(u64, String)>,
    errors: Vec<(String, String)>,
}

impl JobView {
    /// As a document has it, or people.
    pub(crate) async fn of(job: &JobHandle, queue: &QueueName, document: bool) -> Result<Self, CliError> {
        let record = job.status().await?;
        let (most, most_inputs) = if document {
            (NAMED, NAMED_INPUTS)
        } else {
            (SHOWN, INPUTS)
        };
        let failed = job.failed_chunks(most).await?;
        let mut inputs = Vec::new();
        // A few at a time, for they may be large.
        for numbers in failed[..failed.len().min(most_inputs)].chunks(INPUTS) {
            let chunks = job.chunks(numbers).await?.into_iter();
            inputs.extend(chunks.map(|(chunk, made_of)| (chunk, job_chunk::words(made_of.bytes()))));
        }
        Ok(Self {
            record,
            failed,
            inputs,
            errors: job.errors().await?,
            id: job.id().to_string(),
            queue: queue.to_string(),
        })
    }

    pub(crate) fn record(&self) -> &JobRecord {
        &self.record
    }

    /// The document of `--json`.
    pub(crate) fn document(&self) -> Document<'_> {
        let errors = self.errors.iter().map(|(at, error)| (at.as_str(), error.as_str()));
        let mut document = document(&self.id, &self.queue, &self.record);
        document.failed_chunks = &self.failed;
        document.failed_inputs = self.inputs.iter().cloned().collect();
        document.errors = errors.collect();
        document
    }

    /// Names and values, one row each.
    pub(crate) fn rows(&self, clock: Clock) -> Vec<(&'static str, String)> {
        let record = &self.record;
        let spec = &record.spec;
        let mut rows = vec![("id", self.id.clone()), ("queue", self.queue.clone())];
        let half = half_submitted(record).map_or_else(String::new, |words| format!(": {words}"));
        rows.push(("state", format!("{}{half}", record.state)));
        rows.push(("form", form(record)));
        let mut functions = format!("{} -> {}", spec.map.kind, spec.reduce.kind);
        if let Some(combine) = &spec.combine {
            functions = format!("{} -> {} -> {}", spec.map.kind, combine.kind, spec.reduce.kind);
        }
        rows.push(("functions", functions));
        if !spec.input.is_empty() {
            rows.push(("input", clean(&spec.input, 200)));
        }
        rows.push(("maps", phase_words(&record.maps, record.submitted)));
        rows.push(("reduces", phase_words(&record.reduces, 0)));
        if record.accepted > 0 {
            rows.push((
                "lost",
                format!("{} left out of the result", counted(record.accepted, "chunk")),
            ));
        }
        let full = if record.full { ", the budget is reached" } else { "" };
        let spilled = if record.spilled > 0 {
            format!(", {} spilled", counted(record.spilled, "part"))
        } else {
            String::new()
        };
        rows.push((
            "data",
            format!("{} of {} bytes in Redis{spilled}{full}", record.bytes, spec.budget),
        ));
        for (name, at) in times(record) {
            rows.push((name, clock.full(Moment::from_ms(at))));
        }
        if let Some(took) = took(record) {
            rows.push(("took", took));
        }
        if let Some(place) = &record.result {
            rows.push(("result", place_words(&self.id, record, place)));
        }
        if !record.error.is_empty() {
            rows.push(("error", reason(record, &self.errors, 1000)));
        }
        if !self.failed.is_empty() {
            let numbers: Vec<String> = self.failed.iter().map(u64::to_string).collect();
            let more = if record.maps.failed > self.failed.len() as u64 {
                " ..."
            } else {
                ""
            };
            let chunks = if numbers.len() == 1 { "chunk" } else { "chunks" };
            rows.push(("failed", format!("{chunks} {}{more}", numbers.join(", "))));
        }
        for (chunk, words) in &self.inputs {
            rows.push(("", format!("chunk {chunk}: {words}")));
        }
        if !self.inputs.is_empty() && self.record.maps.failed > self.inputs.len() as u64 {
            let shown = self.inputs.len();
            rows.push(("", format!("... of the first {shown}; --json tells more of them")));
        }
        for (member, error) in self.errors.iter().take(SHOWN) {
            rows.push(("", format!("{}: {}", clean(member, 64), summary(error, 400))));
        }
        rows
    }
}

/// What to say of a job whose chunks are not all there.
pub(crate) fn half_submitted(record: &JobRecord) -> Option<String> {
    let so_far = counted(record.submitted, "chunk");
    (record.state == JobState::Pending).then(|| format!("its submitter has not finished ({so_far} so far)"))
}

/// Why a job failed. The record has the first line of the error that ended it; the last may say more.
pub(crate) fn reason(record: &JobRecord, errors: &[(String, String)], most: usize) -> String {
    let whole = errors.iter().find(|(_, error)| {
        let first = error.lines().next().unwrap_or_default();
        !first.is_empty() && record.error.ends_with(first)
    });
    let more = whole.and_then(|(_, error)| error.split_once('\n'));
    summary(
        &format!("{}\n{}", record.error, more.map_or("", |(_, more)| more)),
        most,
    )
}

fn form(record: &JobRecord) -> String {
    match record.spec.form {
        Form::Fold { fan_in: Some(n) } => format!("fold, fan-in {n}"),
        Form::Fold { fan_in: None } => "fold, fan-in all".to_owned(),
        Form::Keyed { partitions } => format!("keyed, {partitions} partitions"),
    }
}

fn phase_words(phase: &Phase, submitted: u64) -> String {
    let mut text = format!("{} of {} done", phase.done, phase.total.max(submitted));
    for (number, name) in [
        (phase.failed, "failed"),
        (phase.retried, "retried"),
        (phase.backup, "backup copies"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {name}"));
        }
    }
    text
}

/// How long it ran, over all its starts and not what lay between them; of a job that was started once, phase by phase.
fn took(record: &JobRecord) -> Option<String> {
    let span = |from: u64, to: u64| duration::format(Duration::from_millis(to.saturating_sub(from)));
    let mut text = duration::format(record.run_time()?);
    if record.starts > 1 {
        let last = span(record.started_ms.max(record.resumed_ms), record.finished_ms);
        text.push_str(&format!(" in {} starts, the last {last}", record.starts));
    } else if record.mapped_ms > 0 {
        let maps = span(record.started_ms, record.mapped_ms);
        let reduces = span(record.mapped_ms, record.finished_ms);
        text.push_str(&format!(" (maps {maps}, reduces {reduces})"));
    }
    Some(text)
}

/// Where the spilled parts of the result are.
pub(crate) fn spilled_below(id: &str, record: &JobRecord, place: &ResultPlace) -> String {
    let spill = record.spec.spill.as_deref().unwrap_or_default();
    let folder = keys::spill_folder_of_result(&place.key, id).unwrap_or_default();
    format!("{}/{folder}/out", spill.trim_end_matches('/'))
}

fn place_words(id: &str, record: &JobRecord, place: &ResultPlace) -> String {
    let parts = |n: u64| format!("{n} part{}", if n == 1 { "" } else { "s" });
    let mut text = format!("{} in {}, {} bytes", parts(place.parts), place.key, place.bytes);
    if place.spilled > 0 {
        let (below, bytes) = (spilled_below(id, record, place), place.spilled_bytes);
        text.push_str(&format!(
            "; of these {} spilled below {below}, {bytes} bytes",
            place.spilled
        ));
    }
    text
}

pub(crate) fn times(record: &JobRecord) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("created", record.created_ms),
        ("started", record.started_ms),
        ("resumed", record.resumed_ms),
        ("mapped", record.mapped_ms),
        ("reducing", record.reducing_ms),
        ("finished", record.finished_ms),
    ]
    .into_iter()
    .filter(|(_, at)| *at > 0)
}

/// The table of `job list`.
pub(crate) fn table(jobs: &[JobGlance], clock: Clock, terminal: bool) -> String {
    let mut grid = Grid::new(
        terminal,
        &["id", "state", "map", "reduce", ">maps", ">reduces", "created", "error"],
    );
    for job in jobs {
        let record = &job.record;
        let phase = |phase: &Phase, total: u64| format!("{}/{total}", phase.done);
        let error = half_submitted(record).unwrap_or_else(|| record.error.clone());
        let created = clock.relative(Moment::from_ms(record.created_ms));
        grid.row([
            job.id.as_str(),
            record.state.as_str(),
            record.spec.map.kind.as_str(),
            record.spec.reduce.kind.as_str(),
            // Before all chunks are there, the maps have no total.
            &phase(&record.maps, record.maps.total.max(record.submitted)),
            &phase(&record.reduces, record.reduces.total),
            &created,
            &summary(&error, if terminal { 58 } else { 118 }),
        ]);
    }
    grid.text()
}

#[cfg(test)]
mod tests {
    use workyard_producer::Kind;
    use workyard_shared::job::JobSpec;

    use super::*;

    #[test]
    fn the_reason_of_a_failed_job_has_the_last_line_of_its_error() {
        let spec = JobSpec::new(Form::fold(), Kind::new("m").unwrap(), Kind::new("r").unwrap());
        let fields = spec
            .to_fields()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let own = [("v", "1"), ("state", "failed"), ("error", "chunk 1 failed: Traceback:")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let record = JobRecord::from_fields(&fields.chain(own).collect()).unwrap();
        let error = |text: &str| vec![("m:1".to_owned(), text.to_owned())];
        assert_eq!(
            reason(&record, &error("Traceback:\n  line 1\nValueError: x\n"), 99),
            "chunk 1 failed: Traceback: … ValueError: x"
        );
        assert_eq!(reason(&record, &error("other\nx"), 99), "chunk 1 failed: Traceback:");
        assert_eq!(reason(&record, &[], 99), "chunk 1 failed: Traceback:");
    }
}
