//! What somebody who looks at a job that does not get on should know: nobody serves its queue, nobody knows its function,
//! its tasks fail.
//!
//! Invariant: each thing is told once, and of many errors only a few. Reads only; a look that fails says nothing.

use std::time::{Duration, Instant};

use workyard_producer::{JobHandle, JobRecord};
use workyard_shared::job::Form;

use super::output::summary;
use super::session::Session;

/// Silence at first, and between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Errors that are told while somebody waits.
const MOST_ERRORS: usize = 3;
/// Characters of an error.
const SHOWN: usize = 400;

/// What was told so far.
#[derive(Debug)]
pub(crate) struct Notes {
    next: Instant,
    troubles: u64,
    idle: Vec<String>,
    errors: Vec<String>,
}

impl Notes {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: now + EVERY,
            troubles: 0,
            idle: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// What is new, if it is time for a look.
    pub(crate) async fn news(&mut self, job: &JobHandle, record: &JobRecord, session: &Session) -> Vec<String> {
        if Instant::now() < self.next || record.state.is_terminal() {
            return Vec::new();
        }
        self.next = Instant::now() + EVERY;
        let mut news = Vec::new();
        if let Some(reason) = idle(job, record, session).await
            && !self.idle.contains(&reason)
        {
            self.idle.push(reason.clone());
            news.push(reason);
        }
        let phases = [record.maps, record.reduces];
        let troubles = phases.iter().map(|phase| phase.retried + phase.failed).sum();
        if troubles > self.troubles && self.errors.len() < MOST_ERRORS {
            let errors = job.errors().await.unwrap_or_default();
            self.troubles = troubles;
            news.extend(self.new_errors(errors));
        }
        news
    }

    fn new_errors(&mut self, errors: Vec<(String, String)>) -> Vec<String> {
        let mut news = Vec::new();
        for (member, error) in errors {
            let text = summary(&error, SHOWN);
            if self.errors.len() < MOST_ERRORS && !self.errors.contains(&text) {
                news.push(format!("{member} failed: {text}"));
                self.errors.push(text);
            }
        }
        news
    }
}

/// Why nothing of the job runs, as far as its queue tells.
pub(crate) async fn idle(job: &JobHandle, record: &JobRecord, session: &Session) -> Option<String> {
    if record.state.is_terminal() {
        return None;
    }
    let queue = &session.queue;
    let stats = session.client.stats(queue).await.ok()?;
    if stats.consumers == 0 {
        let command = format!("workyard-consumer --queue {queue} --jobs-read FOLDER");
        return Some(format!(
            "no consumer serves queue {queue}; start one with `{command}` or with --config FILE"
        ));
    }
    if stats.paused {
        return Some(format!("queue {queue} is paused; `workyard resume -q {queue}` goes on"));
    }
    // If its first task is handed back again and again, so are the others.
    let (member, functions) = first_member(record)?;
    let task = session
        .client
        .task(queue, &format!("{}:{member}", job.id()))
        .await
        .ok()?;
    (task.unhandled > 0).then(|| {
        format!("no consumer of queue {queue} that was asked knows the function {functions}: {member} was handed back")
    })
}

/// The first task of a phase of which nothing is done yet, and the functions that it needs.
fn first_member(record: &JobRecord) -> Option<(&'static str, String)> {
    let spec = &record.spec;
    if record.maps.done + record.maps.failed == 0 {
        let combine = spec.combine.as_ref().map(|combine| format!(" or {}", combine.kind));
        return Some(("m:0", format!("{}{}", spec.map.kind, combine.unwrap_or_default())));
    }
    let member = match spec.form {
        Form::Fold { .. } => "r:1.0",
        Form::Keyed { .. } => "r:0",
    };
    (record.reduces.done == 0 && record.mapped_ms > 0).then(|| (member, spec.reduce.kind.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_and_of_many_only_a_few() {
        let mut notes = Notes::new(Instant::now());
        let errors = |texts: &[&str]| {
            let errors = texts
                .iter()
                .zip(0..)
                .map(|(text, n)| (format!("m:{n}"), (*text).to_owned()));
            errors.collect::<Vec<_>>()
        };
        assert_eq!(notes.new_errors(errors(&["boom", "boom"])), ["m:0 failed: boom"]);
        assert_eq!(
            notes.new_errors(errors(&["boom", "b", "c", "d"])),
            ["m:1 failed: b", "m:2 failed: c"]
        );
        assert_eq!(notes.new_errors(errors(&["e"])), [""; 0]);
    }
}
