//! Arguments of `map-reduce` and `job`.
//!
//! Invariant: names, sizes and policies are valid after parsing; what goes together is checked by the command. Nothing here
//! acts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, ValueHint};
use workyard_producer::{JobId, JobState, Kind, Policy, RawJson};

use crate::cli::value;

const MAP_REDUCE_HELP: &str = "\
Map and reduce functions are kinds: stages and handlers of the consumers, or built in: word-count, line-count, grep,
identity, sum, count, min, max, top-n, histogram, sum-by-key. Their required arguments: pattern of grep, n of top-n, width
of histogram, by and field of sum-by-key.

The trace context in TRACEPARENT and TRACESTATE of the environment, if there is one, goes along in the headers of the tasks.

The value of --map-arg NAME=VALUE is JSON if it is, else a string; 'pattern=\"5\"' is a string for sure.

A fold reduces partial values in a tree to one result. The keyed form reduces pairs key by key; it is taken with --keyed,
--combine or --partitions, and for sum-by-key over word-count or histogram.

Examples:
  workyard map-reduce --input 'docs/**/*.md' --map word-count --reduce sum-by-key --combine sum-by-key --top 10
  workyard map-reduce --input 'logs/*.log' --map grep --map-arg pattern=ERROR --reduce identity --raw
  workyard map-reduce --input 'logs/*.log' --map count --map-arg pattern=ERROR --reduce sum
  seq 1000 | workyard map-reduce --items - --map sum --reduce sum
  workyard map-reduce --input s3://bucket/sales-*.csv --map sum-by-key --map-arg by=city --map-arg field=price --reduce sum-by-key
  workyard map-reduce --input big.jsonl --map my-stage --reduce top-n --reduce-arg n=5 --allow-failures 1% --detach

Globs: * does not pass a slash, ** does; there are no braces; hidden files are to be named. Consumers must see the files
under the same names, and not compressed. Without --format the endings .jsonl, .ndjson, .csv and .tsv tell, all other files
are lines; --items takes a JSON array or JSON lines, of nearly 1 MiB each at most;
a single line that is an array is one, unless you say --format json-lines.";

/// Arguments of `map-reduce`.
#[derive(Debug, Args)]
#[command(after_help = MAP_REDUCE_HELP, group = ArgGroup::new("source").required(true).args(["input", "items"]))]
pub(crate) struct MapReduceArgs {
    /// Input files: a path, a glob, or s3://bucket/prefix*; may be repeated
    #[arg(long, num_args = 1.., value_name = "PATTERN", value_hint = ValueHint::FilePath)]
    pub(crate) input: Vec<String>,
    /// Input values: a file, or - for stdin
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) items: Option<PathBuf>,
    /// What the input is made of
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<FormatArg>,
    /// What separates the fields of CSV [default: a comma, or a tab for .tsv]
    #[arg(long, value_name = "CHAR")]
    pub(crate) delimiter: Option<char>,
    /// Maps a chunk
    #[arg(long, value_parser = value::named::<Kind>, value_name = "KIND")]
    pub(crate) map: Kind,
    /// Reduces
    #[arg(long, value_parser = value::named::<Kind>, value_name = "KIND")]
    pub(crate) reduce: Kind,
    /// Folds the pairs of a chunk before they are stored
    #[arg(long, value_parser = value::named::<Kind>, conflicts_with = "fold", value_name = "KIND")]
    pub(crate) combine: Option<Kind>,
    /// Reduce key by key
    #[arg(long, conflicts_with_all = ["fold", "fan_in"])]
    pub(crate) keyed: bool,
    /// Reduce in a tree to one result
    #[arg(long)]
    pub(crate) fold: bool,
    /// Reduce tasks of the keyed form, 1 to 1000 [default: 8]
    #[arg(long, conflicts_with_all = ["fold", "fan_in"], value_name = "N")]
    pub(crate) partitions: Option<u32>,
    /// Partials of one reduce of a fold, 2 to 1000, or all [default: 32]
    #[arg(long, value_parser = fan_in, value_name = "N|all")]
    pub(crate) fan_in: Option<FanIn>,
    /// Items of a chunk; of files how many bytes, like 1MiB [default: by the consumers' slots]
    #[arg(long, value_parser = value::size, value_name = "SIZE")]
    pub(crate) chunk_size: Option<value::Size>,
    #[command(flatten)]
    pub(crate) functions: FunctionArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
    /// The job's id: the same command with the same id is the same job, and goes on if it broke off [default: a UUIDv7]
    #[arg(long, value_parser = value::named::<JobId>, value_name = "ID")]
    pub(crate) id: Option<JobId>,
    /// Give up waiting after this long; the job goes on
    #[arg(long, value_parser = value::span, conflicts_with = "detach", value_name = "DURATION")]
    pub(crate) wait_timeout: Option<Duration>,
    /// Do not wait: print the id
    #[arg(long)]
    pub(crate) detach: bool,
}

/// Arguments of the functions.
#[derive(Debug, Args)]
#[command(next_help_heading = "Arguments of the functions")]
pub(crate) struct FunctionArgs {
    /// For the map function; JSON if it is, else a string; may be repeated
    #[arg(long = "map-arg", value_parser = value::argument, value_name = "NAME=VALUE")]
    pub(crate) map_args: Vec<(String, RawJson)>,
    /// For the reduce function
    #[arg(long = "reduce-arg", value_parser = value::argument, value_name = "NAME=VALUE")]
    pub(crate) reduce_args: Vec<(String, RawJson)>,
    /// For the combine function
    #[arg(long = "combine-arg", value_parser = value::argument, requires = "combine", value_name = "NAME=VALUE")]
    pub(crate) combine_args: Vec<(String, RawJson)>,
}

/// How a job runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Running")]
pub(crate) struct RunArgs {
    /// Chunks that may be lost, like 3 or 2.5%; they are left out of the result [default: 0]
    #[arg(long, value_parser = value::named::<Policy>, value_name = "N|P%")]
    pub(crate) allow_failures: Option<Policy>,
    /// Start no second copies of slow tasks
    #[arg(long)]
    pub(crate) no_backups: bool,
    /// Do not check what built-in functions are used for: the consumers have their own functions of these names
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// Intermediate data that Redis may hold [default: 256MiB]
    #[arg(long, value_parser = value::bytes, value_name = "SIZE")]
    pub(crate) budget: Option<u64>,
    /// Where intermediate data beyond the budget goes: a folder or s3://bucket/prefix that all consumers share
    #[arg(long, value_name = "URL|DIR", value_hint = ValueHint::DirPath)]
    pub(crate) spill: Option<String>,
    /// Longest run of one attempt of a task
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
    /// Failures after which a chunk is lost, 1 to 1000 [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,
    /// How long the result stays [default: 1d]
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) retention: Option<Duration>,
}

/// How a result is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Result")]
pub(crate) struct ShowArgs {
    /// Only the pairs with the greatest values; of a fold the greatest numbers of its one object, or of its list
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000), value_name = "N")]
    pub(crate) top: Option<u64>,
    /// Pairs by value, the greatest first, not by key
    #[arg(long)]
    pub(crate) by_value: bool,
    /// The parts of a keyed result one after the other, not merged
    #[arg(long, conflicts_with_all = ["top", "by_value"])]
    pub(crate) parts: bool,
    /// Strings as they are, without quotes and escapes, and no table: for a pipe
    #[arg(long)]
    pub(crate) raw: bool,
}

/// What an input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Lines of text, each a string
    Lines,
    /// JSON, one value per line
    JsonLines,
    /// CSV with a header, each record an object
    Csv,
    /// Whole files
    Files,
    /// A JSON array (with --items)
    Items,
}

/// Partials of one reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FanIn {
    Some(u32),
    All,
}

fn fan_in(text: &str) -> Result<FanIn, String> {
    match text {
        "all" => Ok(FanIn::All),
        n => n
            .parse()
            .map(FanIn::Some)
            .map_err(|_| "give a number from 2 to 1000, or all".to_owned()),
    }
}

/// Arguments of `job`.
#[derive(Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    subcommand_precedence_over_arg = true,
    override_usage = "workyard job [OPTIONS] <ID>\n       workyard job [OPTIONS] <COMMAND> ..."
)]
pub(crate) struct JobArgs {
    /// The job's id
    #[arg(required = true, value_parser = value::named::<JobId>)]
    pub(crate) id: Option<JobId>,
    #[command(subcommand)]
    pub(crate) action: Option<JobAction>,
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobAction {
    /// Wait until a job has ended and print its result
    Wait {
        #[command(flatten)]
        id: OneJob,
        /// Give up after this long; the job goes on [default: never]
        #[arg(long, value_parser = value::span, value_name = "DURATION")]
        timeout: Option<Duration>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// List the jobs of the queue, newest first
    List {
        /// Most jobs to show
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "N")]
        limit: u64,
        /// Pass over this many jobs first
        #[arg(long, default_value_t = 0, value_name = "N")]
        offset: u64,
        /// Only jobs in this state: pending, mapping, shuffling, reducing, completed, failed, cancelled
        #[arg(long, value_parser = value::job_state, value_name = "STATE")]
        state: Option<JobState>,
    },
    /// Print the result of a completed job
    Result {
        #[command(flatten)]
        id: OneJob,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Stop a job
    Cancel(OneJob),
    /// Run again what is missing of a failed or cancelled job
    Retry(OneJob),
    /// Remove an ended job, its result and its spilled files
    Delete {
        #[command(flatten)]
        id: OneJob,
        /// Leave its spilled files where they are, say because their place is gone or cannot be reached from here
        #[arg(long)]
        leave_files: bool,
    },
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// The job's id
    #[arg(value_parser = value::named::<JobId>)]
    pub(crate) id: JobId,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("workyard").chain(line.iter().copied()))
    }

    #[test]
    fn a_job_is_shown_by_its_id_and_everything_else_is_named() {
        let job = |line: &[&str]| match parse(line).unwrap().command {
            Command::Job(args) => args,
            other => panic!("{other:?}"),
        };
        assert_eq!(job(&["job", "nightly"]).id, Some(JobId::new("nightly").unwrap()));
        assert!(matches!(
            job(&["job", "--json", "wait", "a"]).action,
            Some(JobAction::Wait { .. })
        ));
        assert!(matches!(
            job(&["job", "list"]).action,
            Some(JobAction::List { limit: 20, .. })
        ));
        let args = match parse(&[
            "map-reduce",
            "--input",
            "a",
            "b*",
            "--input",
            "c",
            "--map",
            "m",
            "--reduce",
            "r",
        ])
        .unwrap()
        .command
        {
            Command::MapReduce(args) => args,
            other => panic!("{other:?}"),
        };
        assert_eq!(args.input, ["a", "b*", "c"]);
    }

    #[test]
    fn bad_arguments_of_jobs_are_refused_before_anything_happens() {
        let base = ["map-reduce", "--items", "-", "--map", "m", "--reduce", "r"];
        for more in [
            &["--input", "a"][..],
            &["--fold", "--combine", "c"],
            &["--keyed", "--fan-in", "2"],
            &["--fan-in", "some"],
            &["--map-arg", "x"],
            &["--chunk-size", "3 apples"],
            &["--allow-failures", "101%"],
            &["--combine-arg", "a=1"],
            &["--id", "a:b"],
            &["--top", "0"],
            &["--raw", "--parts", "--top", "3"],
            &["--top", "3", "--parts"],
            &["--detach", "--wait-timeout", "1s"],
        ] {
            let line: Vec<&str> = base.iter().chain(more).copied().collect();
            assert_eq!(parse(&line).unwrap_err().exit_code(), 2, "{more:?}");
        }
        for line in [
            &["map-reduce", "--map", "m", "--reduce", "r"][..],
            &["job"],
            &["job", "a:b"],
            &["job", "wait"],
            &["job", "list", "--state", "lost"],
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
