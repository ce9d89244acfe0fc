//! `task` and `wait`: one task by its id.
//!
//! Invariant: `wait` writes the result byte for byte; how the task ended is the exit code, and the
//! reason of a bad end is on stderr.

use std::time::Duration;

use workyard_producer::{Ended, RawJson, State, TaskView};
use workyard_shared::crypto::is_sealed;

use super::args::{TaskArgs, WaitArgs};
use super::exit::{CliError, Exit};
use super::output::{clean, clean_lines};
use super::session::Session;
use super::time::Clock;
use super::why;

/// Characters of a payload or a result among the other rows.
const SHOWN: usize = 2000;

/// Runs `task`.
pub(crate) async fn show(args: &TaskArgs, session: &mut Session) -> Result<Exit, CliError> {
    let view = match session.client.task(&session.queue, args.id.as_str()).await {
        Ok(view) => view,
        Err(error) => return Err(why::explained(error, session).await),
    };
    if args.payload || args.result {
        let (part, name) = if args.payload {
            (&view.payload, "payload")
        } else {
            (&view.result, "result")
        };
        let Some(part) = part else {
            return Err(CliError::task(format!(
                "task {} is {} and has no {name} here",
                view.id,
                view.state.as_str()
            )));
        };
        session.out.bytes(part.bytes())?;
        note_sealed(view.sealed.as_deref(), session);
        return Ok(Exit::Done);
    }
    if session.out.json {
        session.out.document(&view)?;
    } else {
        let clock = session.clock().await?;
        for (name, value) in rows(&view, clock) {
            session.out.line(&format!("{name:<12}{value}"))?;
        }
    }
    Ok(Exit::Done)
}

fn rows(view: &TaskView, clock: Clock) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Further lines stand under the first.
            rows.push((name.to_owned(), value.replace('\n', &format!("\n{:12}", ""))));
        }
    };
    let time = |at: Option<_>| at.map(|at| clock.full(at));
    let json = |json: &Option<RawJson>, flag: &str| json.as_ref().map(|json| shown(json, flag));
    row("id", Some(view.id.clone()));
    row("queue", Some(view.queue.clone()));
    row("kind", Some(view.kind.clone()).filter(|kind| !kind.is_empty()));
    row("state", Some(view.state.as_str().to_owned()));
    row(
        "type",
        view.task_type.filter(|name| *name != "single").map(str::to_owned),
    );
    row("priority", view.priority.map(|n| n.to_string()));
    let counts = format!(
        "{} ({} failed, {} crashed), {} times handed back",
        view.attempts, view.failures, view.crashes, view.releases
    );
    row("attempts", Some(counts));
    row("created", time(view.created_at));
    row("due", time(view.due_at));
    // What a consumer holds may not have begun yet.
    let begun = if view.state == State::Running {
        "claimed"
    } else {
        "started"
    };
    row(begun, time(view.started_at));
    row("finished", time(view.finished_at));
    row("consumer", view.consumer.clone());
    row("progress", view.progress.as_ref().map(|text| clean(text, 256)));
    row("reason", view.reason.clone());
    row("error", view.error.as_ref().map(|text| clean_lines(text)));
    for (name, value) in &view.headers {
        row("header", Some(clean(&format!("{name}={value}"), 4096)));
    }
    for (name, value) in &view.options {
        row("option", Some(format!("{name}={value}")));
    }
    row("sealed", view.sealed.clone());
    row("payload", json(&view.payload, "--payload"));
    row("result", json(&view.result, "--result"));
    rows
}

/// What is on stdout is not what the handler gets or returned.
fn note_sealed(sealed: Option<&str>, session: &Session) {
    if let Some(how) = sealed {
        session
            .out
            .note(&format!("note: it is {how}; --keys names a ring that opens it"));
    }
}

/// JSON of others, made safe, and cut when it would fill the screen. Ciphertext says nothing to anybody.
fn shown(json: &RawJson, flag: &str) -> String {
    if is_sealed(json.bytes()) {
        return format!("({} bytes, sealed: {flag} writes all)", json.bytes().len());
    }
    let text = String::from_utf8_lossy(json.bytes());
    let head: String = text.chars().take(SHOWN).collect();
    let rest = text.len() - head.len();
    let more = if rest > 0 {
        format!("…\n({rest} bytes more: {flag} writes all)")
    } else {
        String::new()
    };
    clean_lines(&head) + &more
}

/// Runs `wait`.
pub(crate) async fn wait(args: &WaitArgs, session: &mut Session) -> Result<Exit, CliError> {
    session.is_there(args.timeout).await?;
    let limit = args.timeout.unwrap_or(Duration::MAX);
    let ended = match session.client.wait(&session.queue, args.id.as_str(), limit).await {
        Ok(ended) => ended,
        Err(error) => return Err(why::explained(error, session).await),
    };
    if session.out.json {
        let view = TaskView::from_ended(&session.queue, args.id.as_str(), &ended);
        session.out.document(&view)?;
        session.out.flush()?;
        return verdict(args.id.as_str(), &ended);
    }
    print_end(args.id.as_str(), &ended, session)
}

/// Writes the result of a completed task; of another, an error that says how it ended.
pub(crate) fn print_end(id: &str, ended: &Ended, session: &mut Session) -> Result<Exit, CliError> {
    if ended.state == State::Completed {
        session.out.bytes(&ended.body)?;
        session.out.line("")?;
        let view = TaskView::from_ended(&session.queue, id, ended);
        note_sealed(view.sealed.as_deref(), session);
    }
    session.out.flush()?;
    verdict(id, ended)
}

/// The exit code that the end of a task means.
pub(crate) fn verdict(id: &str, ended: &Ended) -> Result<Exit, CliError> {
    if ended.state == State::Completed {
        return Ok(Exit::Done);
    }
    let text = clean_lines(&String::from_utf8_lossy(&ended.body));
    let reason = Some(ended.reason.as_str()).filter(|reason| !reason.is_empty() && *reason != ended.state.as_str());
    let mut message = format!(
        "task {id} {}",
        if ended.state == State::Cancelled {
            "was cancelled"
        } else {
            ended.state.as_str()
        }
    );
    if let Some(reason) = reason {
        message.push_str(&format!(" ({reason})"));
    }
    if !text.is_empty() {
        message.push_str(&format!(": {text}"));
    }
    Err(CliError::task(message))
}
