//! What somebody who waits for a job should know while it does not get on: nobody serves its queue, its tasks fail, or are
//! handed back because nobody knows a function.
//!
//! Invariant: each thing is told once, and of many errors only a few. Reads only; a look that fails says nothing.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use workyard_producer::{Away, Error, JobHandle, JobRecord, JobState};

use super::away;
use super::exit::CliError;
use super::output::summary;
use super::session::Session;
use super::why;

/// Silence at first, and between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Longest time for the look at the end of a wait.
const LOOK: Duration = Duration::from_secs(1);
/// Errors that are told while somebody waits.
const MOST_ERRORS: usize = 3;
/// Characters of an error.
const SHOWN: usize = 400;

/// What was told so far.
#[derive(Debug)]
pub(crate) struct News {
    next: Instant,
    idle: Vec<String>,
    errors: Vec<String>,
    outage: watch::Receiver<Option<Away>>,
}

impl News {
    pub(crate) fn new(outage: watch::Receiver<Option<Away>>, now: Instant) -> Self {
        Self {
            next: now + EVERY,
            outage,
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
        // Consumers need a moment too: those of a Redis that has just come back are not there yet.
        if self.outage.has_changed().unwrap_or(false) {
            self.outage.mark_unchanged();
            return Vec::new();
        }
        let mut news = Vec::new();
        if let Some(reason) = idle(record, session).await
            && !self.idle.contains(&reason)
        {
            self.idle.push(reason.clone());
            news.push(reason);
        }
        if self.errors.len() < MOST_ERRORS {
            let errors = job.errors().await.unwrap_or_default();
            news.extend(self.new_errors(errors));
        }
        news
    }

    fn new_errors(&mut self, errors: Vec<(String, String)>) -> Vec<String> {
        let mut news = Vec::new();
        for (member, error) in errors {
            let text = summary(&error, SHOWN);
            if self.errors.len() < MOST_ERRORS && !self.errors.contains(&text) {
                news.push(format!("{member}: {text}"));
                self.errors.push(text);
            }
        }
        news
    }
}

/// The error of a wait whose time is over, with what is known of why.
pub(crate) async fn explained(error: Error, job: &JobHandle, session: &Session) -> CliError {
    // Nothing can be seen then, and nothing else matters.
    if let Some(outage) = away::reason(&session.client) {
        return CliError::from(error).because(&[outage]);
    }
    let look = async {
        let record = job.status().await.ok()?;
        idle(&record, session).await
    };
    let reason = tokio::time::timeout(LOOK, look).await.ok().flatten();
    CliError::from(error).because(reason.as_slice())
}

/// Why nothing of the job runs, as far as its record and its queue tell.
pub(crate) async fn idle(record: &JobRecord, session: &Session) -> Option<String> {
    if record.state.is_terminal() {
        return None;
    }
    if record.state == JobState::Pending {
        let text = "its submitter has not finished; if it died, the same command with the same --id goes on with the job, \
                    which is failed as abandoned an hour after the last call";
        // Without the number of chunks: it would be told again with each.
        return Some(text.to_owned());
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
    let broken = session.client.broken_kinds(queue).await.ok()?;
    let spec = &record.spec;
    let of_job = |kind: &&String| {
        [&spec.map, &spec.reduce]
            .iter()
            .any(|function| function.kind.as_str() == kind.as_str())
    };
    broken.iter().find(of_job).map(|kind| why::breaker(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_and_of_many_only_a_few() {
        let mut notes = News::new(watch::channel(None).1, Instant::now());
        let errors = |texts: &[&str]| {
            let errors = texts
                .iter()
                .zip(0..)
                .map(|(text, n)| (format!("m:{n}"), (*text).to_owned()));
            errors.collect::<Vec<_>>()
        };
        assert_eq!(notes.new_errors(errors(&["boom", "boom"])), ["m:0: boom"]);
        assert_eq!(notes.new_errors(errors(&["boom", "b", "c", "d"])), ["m:1: b", "m:2: c"]);
        assert_eq!(notes.new_errors(errors(&["e"])), [""; 0]);
    }
}
