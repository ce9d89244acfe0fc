//! `type = "command"`: one process per task.
//!
//! Invariant: which program runs and how many arguments it gets is decided here, by the file; a
//! payload can only fill arguments that the file marks with `{payload.FIELD}`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::HumanDuration;
use super::problem::Problem;
use super::process::{self, ProcessConfig};
use super::secret::SecretSource;

/// `EX_DATAERR`: the input is wrong, and will be wrong the next time.
const EX_DATAERR: u8 = 65;
/// `EX_TEMPFAIL`: try again later.
pub(crate) const EX_TEMPFAIL: u8 = 75;
/// `EX_CONFIG`: the program is not set up.
const EX_CONFIG: u8 = 78;

/// How a `command` handler runs its program.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CommandConfig {
    /// A bare name, looked up in `PATH`, or an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<Arg>,
    /// Environment, folder and patience.
    pub process: ProcessConfig,
    /// What standard output becomes (default [`Output::Auto`]).
    pub output: Output,
    /// What standard input holds when it is a function of a job (default [`Records::Json`]).
    pub records: Records,
    /// Exit codes that fail a task for good (default 65 and 78).
    pub final_exit_codes: BTreeSet<u8>,
    /// Whether a value out of the payload may begin with `-` (default no: it could be an option).
    pub allow_dash_args: bool,
}

/// One argument of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// Handed over as it stands.
    Literal(String),
    /// The payload's field at this path, as one argument.
    Field(Vec<String>),
}

/// What a program's standard output becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// JSON if it is JSON, else a JSON string; `null` if empty.
    #[default]
    Auto,
    /// JSON; anything else fails the attempt.
    Json,
    /// Always a JSON string.
    Text,
    /// Not read at all; the result is `null`.
    None,
}

/// What a program reads as a function of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Records {
    /// JSON lines.
    #[default]
    Json,
    /// Plain lines, and lines `key<TAB>value` as pairs.
    Text,
}

/// One process per task: the payload on standard input, the result on standard output, the exit code decides.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// The program and its arguments; no shell sees them. An element `{payload.FIELD}` becomes that field of the payload.
    argv: Vec<String>,
    /// Variables beside `PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR` and `USER`.
    #[serde(default)]
    env: BTreeMap<String, SecretSource>,
    /// The folder it runs in; default: the daemon's own.
    cwd: Option<String>,
    /// Time between SIGTERM and SIGKILL, at most 10 m; default 2 s.
    kill_after: Option<HumanDuration>,
    /// What standard output becomes.
    #[serde(default)]
    output: Output,
    /// What it reads as a function of a map-reduce job.
    #[serde(default)]
    records: Records,
    /// Exit codes that fail a task for good; default 65 and 78.
    final_exit_codes: Option<BTreeSet<i64>>,
    /// Whether a field of the payload may begin with `-`.
    #[serde(default)]
    allow_dash_args: bool,
}

pub(crate) fn parse(table: toml::de::ValueDeserializer<'_>, base: &Path) -> Result<CommandConfig, Problem> {
    let raw = Raw::deserialize(table)?;
    if raw.argv.first().is_some_and(|program| program.contains("{payload")) {
        return Err(Problem::new(
            "argv",
            "the program itself cannot come from the payload; name one",
        ));
    }
    let (program, args) = process::program_and_args(raw.argv, base)?;
    Ok(CommandConfig {
        program,
        args: args.into_iter().map(parse_arg).collect::<Result<_, _>>()?,
        process: ProcessConfig::checked(raw.env, raw.cwd, raw.kill_after, base)?,
        output: raw.output,
        records: raw.records,
        final_exit_codes: exit_codes(raw.final_exit_codes)?,
        allow_dash_args: raw.allow_dash_args,
    })
}

fn parse_arg(arg: String) -> Result<Arg, Problem> {
    if !arg.contains("{payload") {
        return Ok(Arg::Literal(arg));
    }
    // Near misses are refused rather than handed over literally: `--to={payload.to}` would look
    // as if it worked, until somebody reads what the program got.
    let fields = arg.strip_prefix("{payload.").and_then(|rest| rest.strip_suffix('}'));
    let path: Vec<String> = fields.unwrap_or_default().split('.').map(str::to_owned).collect();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if path.iter().all(|field| !field.is_empty() && field.chars().all(fits)) {
        return Ok(Arg::Field(path));
    }
    Err(Problem::new(
        "argv",
        format!("{arg:?} is no placeholder; it must be an element of its own, exactly {{payload.FIELD}}"),
    ))
}

fn exit_codes(codes: Option<BTreeSet<i64>>) -> Result<BTreeSet<u8>, Problem> {
    let Some(codes) = codes else {
        return Ok(BTreeSet::from([EX_DATAERR, EX_CONFIG]));
    };
    let check = |code| match u8::try_from(code) {
        Ok(EX_TEMPFAIL) => Err("75 (EX_TEMPFAIL) always means retry; leave it out".to_owned()),
        Ok(code) if code > 0 => Ok(code),
        _ => Err(format!("{code} is no failing exit code; give 1 to 255")),
    };
    codes
        .into_iter()
        .map(check)
        .collect::<Result<_, _>>()
        .map_err(|text| Problem::new("final_exit_codes", text))
}
