//! What a submitter decides about a job.
//!
//! Invariant: what [`JobSpec::validate`] accepts, `lua/job_submit.lua` accepts; [`JobSpec::to_fields`] and
//! [`JobSpec::from_fields`] are each other's inverse.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{DEFAULT_BUDGET, DEFAULT_FAN_IN, DEFAULT_PARTITIONS};
use crate::error::Error;
use crate::name::Kind;
use crate::options::{TaskOptions, TaskType};

/// Priority of map tasks that choose none.
pub const MAP_PRIORITY: u8 = 1;
/// Priority of reduce tasks that choose none.
pub const REDUCE_PRIORITY: u8 = 3;
/// How long a job and its result stay after its end.
pub const DEFAULT_JOB_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Longest arguments of one function.
const MAX_ARGS: usize = 65_536;
/// Longest headers, as JSON: `map_head` of lua/job_submit.lua has room for them.
const MAX_HEADERS: usize = 2048;

/// How outputs of maps become a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A tree of reduces over partial values.
    Fold {
        /// Children of a node, 2 to 1,000; `None`: one reduce over all.
        fan_in: Option<u32>,
    },
    /// Pairs, partitioned by key.
    Keyed {
        /// Reduce tasks, 1 to 1,000.
        partitions: u32,
    },
}

impl Form {
    /// A fold with the default fan-in.
    #[must_use]
    pub fn fold() -> Self {
        Self::Fold {
            fan_in: Some(DEFAULT_FAN_IN),
        }
    }

    /// The keyed form with the default number of partitions.
    #[must_use]
    pub fn keyed() -> Self {
        Self::Keyed {
            partitions: DEFAULT_PARTITIONS,
        }
    }

    /// `fold` or `keyed`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fold { .. } => "fold",
            Self::Keyed { .. } => "keyed",
        }
    }
}

/// How many chunks may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Policy {
    /// None: the first that fails for good ends the job.
    #[default]
    FailFast,
    /// Up to so many.
    Allow(u64),
    /// Up to this part of all, 0 to 100.
    AllowPercent(f64),
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailFast => f.write_str("0"),
            Self::Allow(n) => write!(f, "{n}"),
            Self::AllowPercent(p) => write!(f, "{p}%"),
        }
    }
}

impl FromStr for Policy {
    type Err = Error;

    /// `0` or `fail-fast`, `3`, `2.5%`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Invalid(format!(
                "\"{text}\" is no number of chunks that may fail; give 3 or 2.5%"
            ))
        };
        if text == "fail-fast" {
            return Ok(Self::FailFast);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let plain = percent.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            return match percent.parse::<f64>() {
                Ok(p) if plain && (0.0..=100.0).contains(&p) => Ok(Self::AllowPercent(p)),
                _ => Err(wrong()),
            };
        }
        match text.parse::<u64>() {
            Ok(0) => Ok(Self::FailFast),
            Ok(n) if n <= super::MAX_CHUNKS && !text.starts_with('+') => Ok(Self::Allow(n)),
            _ => Err(wrong()),
        }
    }
}

/// A function of a job: a kind and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Which.
    pub kind: Kind,
    /// A JSON object; `{}` if there are none.
    pub args: String,
}

impl Function {
    /// A function without arguments.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            args: "{}".to_owned(),
        }
    }
}

/// Everything about a job but its chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// How it reduces.
    pub form: Form,
    /// Maps a chunk.
    pub map: Function,
    /// Reduces.
    pub reduce: Function,
    /// Folds one chunk's pairs on the map side; keyed form only.
    pub combine: Option<Function>,
    /// Options of the map tasks.
    pub map_options: TaskOptions,
    /// Options of the reduce tasks.
    pub reduce_options: TaskOptions,
    /// How many chunks may be lost.
    pub policy: Policy,
    /// Whether slow tasks get backup copies.
    pub backups: bool,
    /// Bytes of intermediate data in Redis.
    pub budget: u64,
    /// Where data beyond the budget goes: `file:///folder`, `s3://bucket/prefix`.
    pub spill: Option<String>,
    /// How long record and result stay after the end.
    pub retention: Duration,
    /// What the input is, for people.
    pub input: String,
    /// Headers of every task of the job.
    pub headers: BTreeMap<String, String>,
}

impl JobSpec {
    /// A job with every default.
    #[must_use]
    pub fn new(form: Form, map: Kind, reduce: Kind) -> Self {
        let options = |priority, task_type| TaskOptions {
            priority: Some(priority),
            task_type,
            ..TaskOptions::default()
        };
        Self {
            form,
            map: Function::new(map),
            reduce: Function::new(reduce),
            combine: None,
            map_options: options(MAP_PRIORITY, TaskType::Map),
            reduce_options: options(REDUCE_PRIORITY, TaskType::Reduce),
            policy: Policy::FailFast,
            backups: true,
            budget: DEFAULT_BUDGET,
            spill: None,
            retention: DEFAULT_JOB_RETENTION,
            input: String::new(),
            headers: BTreeMap::new(),
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong and what would be right.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Invalid(text));
        match self.form {
            Form::Fold { fan_in: Some(n) } if !(2..=1000).contains(&n) => {
                return wrong(format!("fan-in must be 2 to 1000, or all, not {n}"));
            }
            Form::Keyed { partitions: n } if !(1..=1000).contains(&n) => {
                return wrong(format!("partitions must be 1 to 1000, not {n}"));
            }
            Form::Fold { .. } if self.combine.is_some() => {
                return wrong("a combiner folds pairs: it needs the keyed form".to_owned());
            }
            _ => {}
        }
        for function in [Some(&self.map), Some(&self.reduce), self.combine.as_ref()]
            .into_iter()
            .flatten()
        {
            let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&function.args);
            if object.is_err() || function.args.len() > MAX_ARGS {
                return wrong(format!(
                    "the arguments of {} must be a JSON object of at most {MAX_ARGS} bytes",
                    function.kind
                ));
            }
        }
        for (options, task_type) in [
            (&self.map_options, TaskType::Map),
            (&self.reduce_options, TaskType::Reduce),
        ] {
            options.validate()?;
            let timed = options.expires_at.is_some() || options.expires_in.is_some();
            if options.task_type != task_type || timed || options.delay.is_some() || options.not_before.is_some() {
                return wrong(format!(
                    "{} tasks of a job take no delay and no expiry",
                    task_type.as_str()
                ));
            }
        }
        if let Some(spill) = &self.spill
            && !is_place(spill)
        {
            return wrong(format!(
                "the spill place must be file:///folder or s3://bucket/prefix without . and .. in it, not \"{spill}\""
            ));
        }
        if self.retention < Duration::from_secs(1) {
            return wrong("a job's retention must be at least 1s: its result is read after its end".to_owned());
        }
        if self.input.len() > 4096 {
            return wrong("the description of the input exceeds 4096 bytes".to_owned());
        }
        let headers = self.extra().len();
        if headers > MAX_HEADERS {
            return wrong(format!(
                "the headers of a job have {headers} bytes as JSON, at most {MAX_HEADERS} are kept: each of its tasks has them"
            ));
        }
        Ok(())
    }

    /// The headers as each record has them; empty if there are none.
    fn extra(&self) -> String {
        if self.headers.is_empty() {
            return String::new();
        }
        serde_json::json!({ "headers": self.headers }).to_string()
    }

    /// Names and values for the record.
    #[must_use]
    pub fn to_fields(&self) -> Vec<(&'static str, String)> {
        let extra = self.extra();
        let head = |function: &Function, options: &TaskOptions| {
            // The result lives in the job, not with the task.
            let options = TaskOptions {
                retention: Some(Duration::ZERO),
                ..options.clone()
            };
            let mut head = function.kind.to_string();
            let text = options.encode();
            if !text.is_empty() {
                head.push(' ');
                head.push_str(&text);
            }
            if !extra.is_empty() {
                head.push('\n');
                head.push_str(&extra);
            }
            head
        };
        let (fan_in, partitions) = match self.form {
            Form::Fold { fan_in } => (fan_in.unwrap_or(0), 0),
            Form::Keyed { partitions } => (0, partitions),
        };
        let mut fields = vec![
            ("form", self.form.as_str().to_owned()),
            ("map", self.map.kind.to_string()),
            ("map_args", self.map.args.clone()),
            ("map_head", head(&self.map, &self.map_options)),
            ("reduce", self.reduce.kind.to_string()),
            ("reduce_args", self.reduce.args.clone()),
            ("reduce_head", head(&self.reduce, &self.reduce_options)),
            ("fan_in", fan_in.to_string()),
            ("partitions", partitions.to_string()),
            ("allow", self.policy.to_string()),
            ("backups", u8::from(self.backups).to_string()),
            ("budget", self.budget.to_string()),
            ("retention", self.retention.as_millis().to_string()),
            ("input", self.input.clone()),
        ];
        if let Some(combine) = &self.combine {
            fields.push(("combine", combine.kind.to_string()));
            fields.push(("combine_args", combine.args.clone()));
        }
        if let Some(spill) = &self.spill {
            fields.push(("spill", spill.clone()));
        }
        fields
    }

    /// Reads a record. Options and headers of its tasks are in their records, not here.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it was not written by [`Self::to_fields`].
    pub fn from_fields(fields: &HashMap<String, String>) -> Result<Self, Error> {
        let text = |name: &str| fields.get(name).map(String::as_str);
        let need = |name: &str| text(name).ok_or_else(|| Error::Protocol(format!("a job without {name}")));
        let number = |name: &str| -> Result<u64, Error> {
            need(name)?
                .parse()
                .map_err(|_| Error::Protocol(format!("{name} of a job is no number")))
        };
        let small = |name: &str| number(name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let function = |kind: &str, args: &str| -> Result<Function, Error> {
            Ok(Function {
                kind: Kind::new(kind)?,
                args: args.to_owned(),
            })
        };
        let form = match need("form")? {
            "fold" => Form::Fold {
                fan_in: Some(small("fan_in")?).filter(|n| *n > 0),
            },
            "keyed" => Form::Keyed {
                partitions: small("partitions")?,
            },
            other => return Err(Error::Protocol(format!("a job of form \"{other}\""))),
        };
        let mut spec = Self::new(form, Kind::new(need("map")?)?, Kind::new(need("reduce")?)?);
        spec.map.args = text("map_args").unwrap_or("{}").to_owned();
        spec.reduce.args = text("reduce_args").unwrap_or("{}").to_owned();
        spec.combine = text("combine")
            .map(|kind| function(kind, text("combine_args").unwrap_or("{}")))
            .transpose()?;
        spec.policy = need("allow")?.parse()?;
        spec.backups = text("backups") != Some("0");
        spec.budget = number("budget")?;
        spec.spill = text("spill").map(str::to_owned);
        spec.retention = Duration::from_millis(number("retention")?);
        spec.input = text("input").unwrap_or_default().to_owned();
        Ok(spec)
    }
}

fn is_place(url: &str) -> bool {
    let begins = |scheme| {
        url.strip_prefix(scheme)
            .is_some_and(|rest: &str| !rest.starts_with('/') && !rest.is_empty())
    };
    let plain = url.split('/').skip(2).all(|step| step != "." && step != "..");
    plain && (begins("file:///") || begins("s3://"))
}

#[cfg(test)]
mod tests;
