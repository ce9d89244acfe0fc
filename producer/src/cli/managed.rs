//! `redis start|stop|status`, and `--redis-url managed`: a Redis of one's own.
//!
//! Invariant: a password in the server's address is never printed; whoever wants to use the server
//! says `managed`. Starting and stopping is `workyard_shared::managed`'s; its calls block, so they
//! run beside the runtime.

use std::io::ErrorKind;

use serde_json::json;
use workyard_producer::LinkConfig;
use workyard_shared::managed::{Error, ManagedRedis, ServerInfo, Status, Stopped};

use super::args::RedisAction;
use super::exit::{CliError, Exit};
use super::output::Out;

/// The value of `--redis-url` that means the managed server.
pub(crate) const MANAGED: &str = "managed";

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        // What the caller's environment named cannot be used; waiting helps against the rest.
        let exit = match &error {
            Error::NoHome | Error::Exposed { .. } | Error::NotAServer { .. } => Exit::BadUse,
            Error::Directory { source, .. } if is_of_the_path(source.kind()) => Exit::BadUse,
            _ => Exit::RedisUnavailable,
        };
        Self::Told {
            exit,
            message: error.to_string(),
            hint: None,
        }
    }
}

fn is_of_the_path(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidInput
    )
}

async fn call<T, F>(work: F) -> Result<T, CliError>
where
    T: Send + 'static,
    F: FnOnce(&ManagedRedis) -> Result<T, Error> + Send + 'static,
{
    let joined = tokio::task::spawn_blocking(move || work(&ManagedRedis::from_env()?)).await;
    let broken = |e| CliError::Told {
        exit: Exit::RedisUnavailable,
        message: format!("the managed Redis: {e}"),
        hint: None,
    };
    Ok(joined.map_err(broken)??)
}

/// The address of the managed server, started if it does not run.
pub(crate) async fn link() -> Result<LinkConfig, CliError> {
    let joined = call(ManagedRedis::ensure).await?;
    Ok(LinkConfig::from_url(&joined.server.url)?)
}

/// Runs the command.
pub(crate) async fn run(action: RedisAction, json: bool) -> Result<Exit, CliError> {
    let mut out = Out::new(json);
    let exit = match action {
        RedisAction::Start => {
            let joined = call(ManagedRedis::start_or_join).await?;
            let what = if joined.started { "started" } else { "runs already" };
            running(&joined.server, what, &mut out)?
        }
        RedisAction::Stop => {
            let stopped = call(ManagedRedis::stop).await? == Stopped::Stopped;
            let text = if stopped {
                "stopped; its data stay (a consumer that uses it starts it again: stop consumers first)"
            } else {
                "no managed Redis runs"
            };
            say(&mut out, if stopped { "stopped" } else { "not running" }, text)?;
            Exit::Done
        }
        RedisAction::Status => match call(ManagedRedis::status).await? {
            Status::Running(server) => running(&server, "running", &mut out)?,
            Status::Loading => waiting(&mut out, "loading", "it loads its data and will answer")?,
            Status::Unresponsive(reason) => {
                waiting(&mut out, "unresponsive", &format!("it does not answer: {reason}"))?
            }
            _ => waiting(
                &mut out,
                "not running",
                "no managed Redis runs; start it with `workyard redis start`",
            )?,
        },
    };
    out.flush()?;
    Ok(exit)
}

fn say(out: &mut Out, state: &str, text: &str) -> Result<(), CliError> {
    if out.json {
        out.document(&json!({ "state": state }))
    } else {
        out.line(text)
    }
}

fn waiting(out: &mut Out, state: &str, text: &str) -> Result<Exit, CliError> {
    say(out, state, text)?;
    Ok(Exit::RedisUnavailable)
}

fn running(server: &ServerInfo, what: &str, out: &mut Out) -> Result<Exit, CliError> {
    // Alone, so that it can be handed on; a managed Redis has one database in use.
    let address = LinkConfig::from_url(&server.url)?.address();
    let address = address.strip_suffix(" db 0").unwrap_or(&address);
    if out.json {
        let started = server.started.map(|at| at.to_rfc3339());
        out.document(&json!({
            "state": what, "address": address, "pid": server.pid, "version": server.version, "started_at": started,
        }))?;
    } else {
        out.line(&format!(
            "{what}: {} at {address}, pid {}; use it with --redis-url managed",
            server.version, server.pid
        ))?;
    }
    Ok(Exit::Done)
}
