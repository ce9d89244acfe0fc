//! `explain`: why a task is not running.
//!
//! The facts come from the library, the words from `why.rs`.

use serde::Serialize;
use workyard_producer::{Moment, Reason, State};

use super::args::ExplainArgs;
use super::exit::{CliError, Exit};
use super::session::Session;
use super::time::Clock;
use super::why;

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    reasons: Vec<Worded<'a>>,
    at: Moment,
}

#[derive(Serialize)]
struct Worded<'a> {
    #[serde(flatten)]
    reason: &'a Reason,
    text: String,
}

/// Runs the command.
pub(crate) async fn run(args: &ExplainArgs, session: &mut Session) -> Result<Exit, CliError> {
    let explanation = match session.client.explain(&session.queue, args.id.as_str()).await {
        Ok(explanation) => explanation,
        Err(error) => return Err(why::explained(error, session).await),
    };
    let clock = Clock { now: explanation.at };
    let worded: Vec<Worded<'_>> = explanation
        .reasons
        .iter()
        .map(|reason| Worded {
            reason,
            text: why::words(reason, &explanation.queue, clock),
        })
        .collect();
    if session.out.json {
        session.out.document(&Answer {
            id: &explanation.id,
            queue: &explanation.queue,
            state: explanation.state,
            reasons: worded,
            at: explanation.at,
        })?;
        return Ok(Exit::Done);
    }
    let state = explanation.state.map_or("in the inbox", |state| state.as_str());
    session.out.line(&format!(
        "task {} of queue {} is {state}",
        explanation.id, explanation.queue
    ))?;
    for reason in worded {
        session.out.line(&format!("  {}", reason.text))?;
    }
    Ok(Exit::Done)
}
