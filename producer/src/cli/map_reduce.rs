//! `map-reduce`: submits a job, shows how far it is, writes its result.
//!
//! Invariant: what is wrong with the input or the arguments is told before anything is sent. Once the job is submitted, no
//! end of this program changes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use serde_json::json;
use workyard_producer::{Error, FileFormat, ItemFormat, MapReduce, RawJson};
use workyard_shared::Error as CallError;
use workyard_shared::job::Role;
use workyard_shared::job::builtin::{self, Called};
use workyard_shared::limits::MAX_PAYLOAD_BYTES;
use workyard_shared::trace_context::TRACESTATE;

use super::args::{FanIn, FormatArg, MapReduceArgs};
use super::exit::{CliError, Exit};
use super::job;
use super::job_result;
use super::session::Session;
use super::trace;

/// Partitions when only the form is given.
const PARTITIONS: u32 = workyard_shared::job::DEFAULT_PARTITIONS;

/// What went wrong, maybe, if a job over one line failed.
const ONE_LINE: &str =
    "the items are one line, which was taken as an array of them; --format json-lines takes it as one item";

/// Runs the command.
pub(crate) async fn run(args: MapReduceArgs, session: &mut Session) -> Result<Exit, CliError> {
    job_result::check(&args.show, session)?;
    if args.show.parts && !is_keyed(&args) {
        return Err(job_result::parts_of_a_fold());
    }
    check_functions(&args)?;
    let (begun, one_line) = input(session, &args)?;
    let mut planned = options(begun, &args)?;
    if let Some(trace) = trace::surrounding(&session.out) {
        planned = planned.trace_parent(trace.traceparent());
        if let Some(state) = trace.tracestate() {
            planned = planned.header(TRACESTATE, state);
        }
    }
    let submitted = planned.submit().await.map_err(|error| explained(error, &args))?;
    if submitted.joined() {
        let id = submitted.id();
        session.out.note(&format!(
            "job {id} is there already, from the same command: this is its answer"
        ));
    }
    if args.detach {
        match session.out.json {
            true => session.out.document(&json!({ "job": submitted.id().as_str() }))?,
            false => session.out.line(submitted.id().as_str())?,
        }
        return Ok(Exit::Done);
    }
    session
        .out
        .note(&format!("job {} in queue {}", submitted.id(), session.queue));
    let ended = job::finish(&submitted, args.wait_timeout, &args.show, session).await;
    ended.map_err(|error| match one_line && error.exit() == Exit::TaskFailed {
        true => error.because(&[ONE_LINE.to_owned()]),
        false => error,
    })
}

/// What built-in functions would refuse in each chunk. Consumers may have their own of the same names: hence the flag.
fn check_functions(args: &MapReduceArgs) -> Result<(), CliError> {
    if args.run.unchecked {
        return Ok(());
    }
    let given = &args.functions;
    let json = |given| serde_json::to_string(&object(given)).map_err(|e| CliError::usage(e.to_string(), None));
    let texts = [
        json(&given.map_args)?,
        json(&given.combine_args)?,
        json(&given.reduce_args)?,
    ];
    let called = |kind, text| Called { kind, args: text };
    let map = called(args.map.as_str(), &texts[0]);
    let combine = args.combine.as_ref().map(|kind| called(kind.as_str(), &texts[1]));
    let reduce = called(args.reduce.as_str(), &texts[2]);
    let keyed = is_keyed(args);
    for (function, role) in [
        (Some(map), Role::Map),
        (combine, Role::Combine),
        (Some(reduce), Role::Reduce),
    ] {
        let Some(Called { kind, args }) = function else {
            continue;
        };
        builtin::check(kind, role, keyed, args).map_err(|reason| {
            let hint = format!("if the consumers have a {kind} of their own, say --unchecked");
            CliError::usage(reason, Some(&hint))
        })?;
    }
    builtin::check_flow(map, combine, reduce, keyed).map_err(|misfit| {
        let own = "if the consumers have functions of their own under these names, --unchecked";
        CliError::usage(misfit.reason, Some(&format!("{}; {own}", misfit.hint)))
    })
}

fn object(args: &[(String, RawJson)]) -> BTreeMap<String, RawJson> {
    args.iter().cloned().collect()
}

/// A form that nobody gave.
fn is_keyed(args: &MapReduceArgs) -> bool {
    let by_nature = args.reduce.as_str() == "sum-by-key" && matches!(args.map.as_str(), "word-count" | "histogram");
    let said = args.keyed || args.combine.is_some() || args.partitions.is_some();
    said || (by_nature && !args.fold && args.fan_in.is_none())
}

/// Text where JSON is expected is the usual slip.
fn explained(error: Error, args: &MapReduceArgs) -> CliError {
    match &error {
        Error::Call(CallError::Invalid(text))
            if args.items.is_some() && args.format.is_none() && text.contains(" is not JSON") =>
        {
            CliError::usage(text.clone(), Some("say --format lines if each line is a string"))
        }
        _ => error.into(),
    }
}

/// What `--delimiter` is of: the format is said, or all names end like CSV.
fn is_csv(args: &MapReduceArgs) -> bool {
    let named = |pattern: &String| pattern.ends_with(".csv") || pattern.ends_with(".tsv");
    match args.format {
        Some(format) => format == FormatArg::Csv,
        None => !args.input.is_empty() && args.input.iter().all(named),
    }
}

/// The input, and whether it is one line that is taken as an array without anybody having said so.
fn input(session: &Session, args: &MapReduceArgs) -> Result<(MapReduce, bool), CliError> {
    let begun = session
        .client
        .map_reduce(&session.queue, args.map.as_str(), args.reduce.as_str());
    let comma = args.delimiter.unwrap_or(',');
    if args.delimiter.is_some() && !is_csv(args) {
        let hint = "say --format csv, or name files that end in .csv";
        return Err(CliError::usage("--delimiter is for CSV", Some(hint)));
    }
    if args.input.iter().any(|pattern| pattern == "-") {
        let hint = "values on stdin are given with --items -, text with --items - --format lines";
        return Err(CliError::usage(
            "--input takes files, which the consumers read",
            Some(hint),
        ));
    }
    let Some(path) = &args.items else {
        let format = match args.format {
            None => args.delimiter.map(|delimiter| FileFormat::Csv { delimiter }),
            Some(FormatArg::Lines) => Some(FileFormat::Lines),
            Some(FormatArg::JsonLines) => Some(FileFormat::JsonLines),
            Some(FormatArg::Csv) => Some(FileFormat::Csv { delimiter: comma }),
            Some(FormatArg::Files) => Some(FileFormat::Files),
            Some(FormatArg::Items) => {
                let hint = "give the array with --items; files are lines, json-lines, csv or files";
                return Err(CliError::usage("a JSON array is read by the submitter", Some(hint)));
            }
        };
        return Ok((begun.files(args.input.clone(), format), false));
    };
    let format = match args.format {
        None => ItemFormat::Guess,
        Some(FormatArg::Items) => ItemFormat::Array,
        Some(FormatArg::JsonLines) => ItemFormat::JsonLines,
        Some(FormatArg::Lines) => ItemFormat::Lines,
        Some(FormatArg::Csv | FormatArg::Files) => {
            let hint = "give csv and files with --input; items are lines, json-lines or items";
            return Err(CliError::usage("items are JSON or lines", Some(hint)));
        }
    };
    if args.chunk_size.is_some_and(|size| size.is_bytes) {
        return Err(CliError::usage(
            "a chunk of items has a number of them, not bytes",
            Some("say --chunk-size 100"),
        ));
    }
    let name = match path.to_str() {
        Some("-") => "stdin".to_owned(),
        _ => path.display().to_string(),
    };
    let failed = |e| CliError::usage(format!("cannot read {name}: {e}"), None);
    let mut file = open(path).map_err(failed)?;
    let one_line = format == ItemFormat::Guess && is_one_line_array(&mut file).map_err(failed)?;
    Ok((begun.items_file(file, format).describe(name), one_line))
}

/// Whether it could as well be one JSON line that is an array.
fn is_one_line_array(file: &mut File) -> io::Result<bool> {
    let mut text = Vec::new();
    // What is longer is no item.
    file.by_ref().take(MAX_PAYLOAD_BYTES as u64).read_to_end(&mut text)?;
    file.rewind()?;
    let text = text.trim_ascii();
    Ok(text.starts_with(b"[") && text.ends_with(b"]") && !text.contains(&b'\n'))
}

/// A file that can be read twice: what comes through a pipe is written to a temporary one.
fn open(path: &Path) -> io::Result<File> {
    if path == Path::new("-") {
        return spool(io::stdin().lock());
    }
    let file = File::open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => spool(file),
    }
}

fn spool(mut source: impl io::Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut source, &mut file)?;
    file.rewind()?;
    Ok(file)
}

fn options(begun: MapReduce, args: &MapReduceArgs) -> Result<MapReduce, CliError> {
    let mut job = begun
        .map_args(&object(&args.functions.map_args))
        .reduce_args(&object(&args.functions.reduce_args))
        .backups(!args.run.no_backups);
    if is_keyed(args) {
        job = job.keyed(args.partitions.unwrap_or(PARTITIONS));
    }
    if let Some(combine) = &args.combine {
        job = job
            .combine(combine.as_str())
            .combine_args(&object(&args.functions.combine_args));
    }
    job = match args.fan_in {
        Some(FanIn::Some(children)) => job.fan_in(children),
        Some(FanIn::All) => job.fan_in_all(),
        None => job,
    };
    if let Some(size) = args.chunk_size {
        job = job.chunk_size(size.number);
    }
    let run = &args.run;
    if let Some(policy) = run.allow_failures {
        job = job.policy(policy);
    }
    if let Some(bytes) = run.budget {
        job = job.budget(bytes);
    }
    if let Some(place) = &run.spill {
        job = job.spill(spill_url(place)?);
    }
    if let Some(timeout) = run.timeout {
        job = job.map_timeout(timeout).reduce_timeout(timeout);
    }
    if let Some(attempts) = run.max_attempts {
        job = job.max_attempts(attempts);
    }
    if let Some(retention) = run.retention {
        job = job.retention(retention);
    }
    if let Some(id) = &args.id {
        job = job.id(id.as_str());
    }
    Ok(job)
}

/// A folder as a URL.
fn spill_url(place: &str) -> Result<String, CliError> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    let whole = std::path::absolute(place).map_err(|e| CliError::usage(format!("--spill {place}: {e}"), None))?;
    // Consumers refuse a path with steps back.
    let whole = whole.canonicalize().unwrap_or(whole);
    Ok(format!("file://{}", whole.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn keyed(line: &str) -> bool {
        let words = ["workyard", "map-reduce", "--items", "-"]
            .into_iter()
            .chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::MapReduce(args) => is_keyed(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_form_follows_from_what_is_said_or_from_the_functions() {
        assert!(keyed("--map word-count --reduce sum-by-key"));
        assert!(keyed("--map histogram --reduce sum-by-key"));
        assert!(!keyed("--map word-count --reduce sum-by-key --fold"));
        assert!(!keyed("--map word-count --reduce sum-by-key --fan-in all"));
        assert!(!keyed("--map sum-by-key --reduce sum-by-key"));
        assert!(!keyed("--map word-count --reduce sum"));
        for said in ["--keyed", "--partitions 2", "--combine sum"] {
            assert!(keyed(&format!("--map m --reduce r {said}")));
        }
    }

    #[test]
    fn an_array_of_one_line_is_known() {
        for (text, expected) in [
            ("[\"a\",1]\n", true),
            (" [1] ", true),
            ("[1,\n2]", false),
            ("[1]\n[2]\n", false),
            ("1\n", false),
            ("", false),
        ] {
            let mut file = spool(text.as_bytes()).unwrap();
            assert_eq!(is_one_line_array(&mut file).unwrap(), expected, "{text:?}");
            assert_eq!(file.stream_position().unwrap(), 0);
        }
    }

    #[test]
    fn functions_that_cannot_work_together_are_refused_unless_nobody_shall_look() {
        let checked = |line: &str| {
            let words = ["workyard", "map-reduce", "--items", "-"];
            match Cli::try_parse_from(words.into_iter().chain(line.split(' ')))
                .unwrap()
                .command
            {
                Command::MapReduce(args) => check_functions(&args),
                other => panic!("{other:?}"),
            }
        };
        for line in ["--map word-count --reduce sum", "--map word-count --reduce count"] {
            let CliError::Told { exit, message, hint } = checked(line).unwrap_err() else {
                panic!("{line}");
            };
            assert_eq!(exit, Exit::BadUse);
            assert!(message.contains("what word-count emits in the fold form"), "{message}");
            assert!(hint.unwrap().contains("--keyed"));
            checked(&format!("{line} --unchecked")).unwrap();
            checked(&format!("{line} --keyed")).unwrap();
        }
    }

    #[test]
    fn a_spill_folder_becomes_a_url() {
        assert_eq!(spill_url("s3://b/p").unwrap(), "s3://b/p");
        assert_eq!(spill_url("/no/such").unwrap(), "file:///no/such");
    }
}
