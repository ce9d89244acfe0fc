//! Exit codes and the one error type of the binary.
//!
//! Invariant: every error knows its code; the table is in `workyard --help`. A closed pipe
//! (`| head`) is no error.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;
use workyard_producer::{Error, QueueName};
use workyard_shared::Error as CallError;
use workyard_shared::overload::Overload;
use workyard_shared::store::StoreError;

use super::why;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// The task failed, was cancelled or expired; or there is no such task.
    TaskFailed = 1,
    /// Bad use: an argument, a file or the input is wrong.
    BadUse = 2,
    /// Not in the given time.
    Timeout = 3,
    /// Nobody takes it now: Redis is away, denies the call, or does not speak this protocol; the queue is full; or it
    /// has no consumer and one was required.
    RedisUnavailable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program cannot do what was asked.
#[derive(Debug)]
pub(crate) enum CliError {
    /// To be told.
    Told {
        exit: Exit,
        message: String,
        hint: Option<String>,
    },
    /// The reader of our output has gone: end quietly.
    PipeClosed,
}

impl CliError {
    /// Bad use, and what would be right.
    pub(crate) fn usage(message: impl Into<String>, hint: Option<&str>) -> Self {
        Self::Told {
            exit: Exit::BadUse,
            message: message.into(),
            hint: hint.map(str::to_owned),
        }
    }

    /// The task did not end well, or is not there.
    pub(crate) fn task(message: impl Into<String>) -> Self {
        Self::Told {
            exit: Exit::TaskFailed,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with reasons in front of its hint.
    pub(crate) fn because(mut self, reasons: &[String]) -> Self {
        if let Self::Told { hint, .. } = &mut self {
            let all: Vec<&str> = reasons.iter().map(String::as_str).chain(hint.as_deref()).collect();
            *hint = (!all.is_empty()).then(|| all.join("; "));
        }
        self
    }

    /// The same with this queue where its hint speaks of the command's queue.
    pub(crate) fn in_queue(mut self, queue: &QueueName) -> Self {
        if let Self::Told { hint: Some(hint), .. } = &mut self {
            *hint = hint
                .replace(" -q QUEUE", &why::on(queue))
                .replace("QUEUE", queue.as_str());
        }
        self
    }

    /// A write to stdout failed.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::usage(format!("cannot write the output: {error}"), None),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Told { exit, .. } => *exit,
            Self::PipeClosed => Exit::Done,
        }
    }

    /// The same of a file of tasks of which `known` are in, and with `in_doubt` more may be.
    pub(crate) fn of_many(self, known: u64, in_doubt: bool) -> Self {
        let rest = match (known, in_doubt) {
            (_, true) => "of the last call some may be in: without ids of their own they would be there twice; ",
            (0, false) => return self,
            (_, false) => "none of the others was enqueued; ",
        };
        match self {
            Self::Told { exit, message, hint } => Self::Told {
                exit,
                message,
                hint: hint.map(|hint| hint.replacen("nothing was enqueued; ", rest, 1)),
            },
            Self::PipeClosed => Self::PipeClosed,
        }
    }

    /// Writes it to stderr.
    pub(crate) fn report(&self, as_json: bool) {
        let Self::Told { exit, message, hint } = self else {
            return;
        };
        let text = if as_json {
            let whole = hint
                .as_ref()
                .map_or_else(|| message.clone(), |hint| format!("{message}; {hint}"));
            json!({ "error": whole, "code": *exit as u8 }).to_string()
        } else {
            let hint = hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
            format!("error: {message}{hint}")
        };
        // Nobody is left to hear of a failure to report a failure.
        writeln!(io::stderr(), "{text}").ok();
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let (exit, hint) = match &error {
            Error::Call(CallError::Invalid(text)) => return Self::usage(text.clone(), None),
            // One that blocks was waited for: its time is over.
            Error::Call(CallError::Full {
                policy: Overload::Block,
                ..
            }) => (
                Exit::Timeout,
                Some("nothing was enqueued; --block-timeout says how long to wait for room"),
            ),
            Error::Call(CallError::Full {
                policy: Overload::Shed,
                bytes: None,
                ..
            }) => (
                Exit::RedisUnavailable,
                Some(
                    "nothing was enqueued; room is made for tasks that are more urgent than one that waits, for no others",
                ),
            ),
            Error::Call(CallError::Full { .. }) => (
                Exit::RedisUnavailable,
                Some(
                    "nothing was enqueued; `workyard queue show QUEUE` shows the limit, `workyard queue set QUEUE` changes it",
                ),
            ),
            Error::NoConsumer { .. } => (
                Exit::RedisUnavailable,
                Some("nothing was enqueued; `workyard consumers` lists who serves what"),
            ),
            Error::Call(error) => (Exit::RedisUnavailable, hint_for(error)),
            Error::Timeout { .. } => (Exit::Timeout, Some("the task goes on: wait again, or cancel it")),
            Error::JobTimeout { id, .. } => {
                return Self::Told {
                    exit: Exit::Timeout,
                    message: error.to_string(),
                    hint: Some(format!(
                        "it goes on; `workyard job wait {id} -q QUEUE` waits again, `workyard job cancel {id} -q QUEUE` stops it"
                    )),
                };
            }
            Error::Sealed { .. } | Error::JobSealed { .. } => (
                Exit::BadUse,
                Some("--keys names a key ring; `workyard keys list` shows which keys it has"),
            ),
            Error::NotFound { .. } | Error::NotSeen { .. } | Error::NoJob { .. } | Error::JobState { .. } => {
                (Exit::TaskFailed, None)
            }
            Error::JobDeleted { .. } => (
                Exit::TaskFailed,
                Some("nothing of it runs; the same command submits it anew"),
            ),
            // A spilled part that is gone or damaged; one that only cannot be reached from here is elsewhere.
            Error::Store(StoreError::Missing { .. } | StoreError::Damaged { .. }) => (Exit::TaskFailed, None),
            Error::JobExists { id } => {
                let hint = format!(
                    "choose another --id, or remove the old one: `workyard job delete {id} -q QUEUE` (one that has not ended, also for \
                     want of chunks, needs `workyard job cancel {id} -q QUEUE` first)"
                );
                return Self::usage(error.to_string(), Some(&hint));
            }
            _ => (Exit::RedisUnavailable, None),
        };
        Self::Told {
            exit,
            message: error.to_string(),
            hint: hint.map(str::to_owned),
        }
    }
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> Self {
        Error::from(error).into()
    }
}

fn hint_for(error: &CallError) -> Option<&'static str> {
    match error {
        CallError::Unavailable {
            outage: workyard_shared::Outage::Away,
            ..
        }
        | CallError::Unknown(_) => Some(
            "give the address with --redis-url or WORKYARD_REDIS_URL, or --redis-url managed for a server of your own",
        ),
        CallError::Denied(_) => error.remedy(),
        CallError::Protocol(text) if text.contains("unknown command") => Some("Redis 7.0 or newer is needed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use workyard_shared::Outage;

    use super::*;

    #[test]
    fn every_error_has_its_documented_exit_code() {
        let away = CallError::Unavailable {
            outage: Outage::Away,
            detail: "refused".to_owned(),
        };
        let full = |policy| CallError::Full {
            depth: 9,
            limit: 9,
            estimated_wait: None,
            bytes: None,
            policy,
        };
        let unserved = Error::NoConsumer {
            queue: "q".to_owned(),
            alive: 0,
        };
        let table: [(CliError, u8); 13] = [
            (full(Overload::Reject).into(), 4),
            (full(Overload::Shed).into(), 4),
            (full(Overload::Block).into(), 3),
            (unserved.into(), 4),
            (CallError::Invalid("x".to_owned()).into(), 2),
            (away.into(), 4),
            (CallError::Unknown("x".to_owned()).into(), 4),
            (CallError::Denied("NOAUTH".to_owned()).into(), 4),
            (CallError::Protocol("ERR unknown command 'FCALL'".to_owned()).into(), 4),
            (
                Error::Timeout {
                    id: "a".to_owned(),
                    after: Duration::from_secs(1),
                }
                .into(),
                3,
            ),
            (
                Error::NotFound {
                    queue: "q".to_owned(),
                    id: "a".to_owned(),
                }
                .into(),
                1,
            ),
            (Error::JobDeleted { id: "a".to_owned() }.into(), 1),
            (CliError::output(&io::Error::from(io::ErrorKind::BrokenPipe)), 0),
        ];
        for (error, code) in table {
            assert_eq!(error.exit() as u8, code, "{error:?}");
        }
    }
}
