//! A task as people and programs look at it: everything known, in one shape for every state.
//!
//! Invariant: payload and result are byte for byte; what is not known is absent, never made up. It
//! is a picture of one moment and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use workyard_shared::broker::{Holding, Place, Seen};
use workyard_shared::duration;
use workyard_shared::name::QueueName;
use workyard_shared::options::{self, TaskOptions};
use workyard_shared::record::{Ended, Meta, Record, State};

use crate::moment::Moment;
use crate::raw_json::RawJson;
use crate::sealing;

/// What is known of a task.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Its kind; empty if not known.
    pub kind: String,
    /// Where in its life it is.
    pub state: State,
    /// single, map or reduce; absent once it has ended.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<&'static str>,
    /// Its own priority; absent once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// How often a handler got it: failures, crashes, and the run that goes on or ended it.
    pub attempts: u32,
    /// Attempts that a handler failed.
    pub failures: u32,
    /// Consumers that died under it.
    pub crashes: u32,
    /// Times it was handed back unharmed.
    pub releases: u32,
    /// How many of these were consumers that know no handler for its kind; absent once it has ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub unhandled: u32,
    /// When it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    /// When its last run began, if known; of a running task when it was claimed, which is a little before if it was claimed ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Moment>,
    /// When it is due, if it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Moment>,
    /// It expires if it has not started by then; among the options as text.
    #[serde(skip)]
    pub expires_at: Option<Moment>,
    /// Who holds it, or held it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// What its handler last said of its progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// One word for why it failed: attempts, final, timeout, poison, malformed, refused, no-handler ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The payload; absent once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<RawJson>,
    /// The result of a completed task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RawJson>,
    /// If payload or result are sealed and could not be opened here: with which key, and why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Text for whoever comes after.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What it chose, in the words of an envelope; defaults are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<&'static str, String>,
    /// Envelope fields that this version does not know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, Box<RawValue>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl TaskView {
    /// A task of which only this is known.
    #[must_use]
    pub fn bare(queue: &QueueName, id: &str, state: State) -> Self {
        Self {
            id: id.to_owned(),
            queue: queue.to_string(),
            kind: String::new(),
            state,
            task_type: None,
            priority: None,
            attempts: 0,
            failures: 0,
            crashes: 0,
            releases: 0,
            unhandled: 0,
            created_at: None,
            started_at: None,
            finished_at: None,
            due_at: None,
            expires_at: None,
            consumer: None,
            progress: None,
            reason: None,
            error: None,
            payload: None,
            result: None,
            sealed: None,
            headers: BTreeMap::new(),
            options: BTreeMap::new(),
            unknown: BTreeMap::new(),
        }
    }

    /// A task as it was found; `None` if it was not.
    #[must_use]
    pub fn from_seen(queue: &QueueName, id: &str, seen: Seen) -> Option<Self> {
        match seen {
            Seen::Unknown => None,
            Seen::Ended(ended) => Some(Self::from_ended(queue, id, &ended)),
            Seen::Live { place, record, meta } => Some(Self::from_live(queue, id, place, &record, &meta)),
            Seen::Unreadable { state, why } => Some(Self {
                error: Some(why),
                ..Self::bare(queue, id, state)
            }),
        }
    }

    /// A task that has ended.
    #[must_use]
    pub fn from_ended(queue: &QueueName, id: &str, ended: &Ended) -> Self {
        let completed = ended.state == State::Completed;
        // A completed run, or one that a cancel broke off, is neither a failure nor a crash.
        let last_run = completed || (ended.state == State::Cancelled && !ended.consumer.is_empty());
        Self {
            kind: ended.kind.clone(),
            attempts: ended.failures + ended.crashes + u32::from(last_run),
            failures: ended.failures,
            crashes: ended.crashes,
            releases: ended.releases,
            created_at: Moment::known(ended.created_ms),
            started_at: Moment::known(ended.started_ms),
            finished_at: Moment::known(ended.finished_ms),
            consumer: some(&ended.consumer),
            reason: some(&ended.reason),
            error: some(&ended.last_error),
            sealed: completed.then(|| sealing::told(&ended.body)).flatten(),
            result: completed.then(|| RawJson::new(ended.body.clone())),
            ..Self::bare(queue, id, ended.state)
        }
    }

    fn from_live(queue: &QueueName, id: &str, place: Place, record: &Record, meta: &Meta) -> Self {
        let state = match place {
            Place::Scheduled(_) if meta.failures > 0 => State::Retrying,
            place => place.state(),
        };
        let chosen = record.options();
        let (headers, unknown) = record.extra();
        Self {
            kind: record.kind().to_owned(),
            task_type: Some(chosen.task_type.as_str()),
            priority: Some(chosen.priority.unwrap_or(options::DEFAULT_PRIORITY)),
            attempts: meta.failures + meta.crashes + u32::from(state == State::Running),
            failures: meta.failures,
            crashes: meta.crashes,
            releases: meta.releases,
            unhandled: meta.unhandled,
            created_at: Moment::known(record.created_ms),
            // Of the last attempt; a running task's own are set by `held`.
            started_at: Moment::known(meta.started_ms),
            consumer: some(&meta.consumer),
            finished_at: if let Place::Failed(at) = place {
                Moment::known(at)
            } else {
                None
            },
            due_at: if let Place::Scheduled(at) = place {
                Moment::known(at)
            } else {
                None
            },
            expires_at: chosen.expires_at.map(Moment::from_ms),
            progress: some(&meta.progress),
            reason: some(&meta.reason).filter(|word| word != "-"),
            error: some(&meta.error),
            sealed: sealing::told(&record.payload()),
            payload: Some(RawJson::new(record.payload())),
            headers,
            options: option_words(&chosen),
            unknown,
            ..Self::bare(queue, id, state)
        }
    }

    /// Adds who holds it, and since when. The token of a claim is its time in us, or a little more.
    pub(crate) fn held(&mut self, holding: &Holding) {
        self.consumer = Some(holding.consumer.to_string());
        self.started_at = Moment::known(holding.token / 1000);
    }

    /// About how many bytes it takes, for whoever fetches many.
    pub(crate) fn weight(&self) -> usize {
        let json = |json: &Option<RawJson>| json.as_ref().map_or(0, |json| json.bytes().len());
        json(&self.payload) + json(&self.result) + self.error.as_ref().map_or(0, String::len) + 256
    }
}

fn option_words(chosen: &TaskOptions) -> BTreeMap<&'static str, String> {
    let span = |span: Option<Duration>| span.map(duration::format);
    let moment = |ms: Option<u64>| ms.map(|ms| Moment::from_ms(ms).to_string());
    let backoff = chosen.backoff;
    let words = [
        ("max_attempts", chosen.max_attempts.map(|n| n.to_string())),
        ("retry_priority_step", chosen.retry_priority_step.map(|n| n.to_string())),
        ("not_before", moment(chosen.not_before)),
        ("timeout", span(chosen.timeout)),
        ("expires_at", moment(chosen.expires_at)),
        ("retention", span(chosen.retention)),
        ("backoff_base", span(backoff.map(|b| b.base))),
        ("backoff_factor", backoff.map(|b| b.factor.to_string())),
        ("backoff_cap", span(backoff.map(|b| b.cap))),
        ("backoff_jitter", backoff.map(|b| b.jitter.to_string())),
    ];
    words
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn queue() -> QueueName {
        QueueName::new("q").unwrap()
    }

    fn live(place: Place, meta: &[u8]) -> TaskView {
        let record = Record::parse(Bytes::from_static(
            b"o1700000000000 k priority=1 timeout=30000\n\n[1,\n2]",
        ))
        .unwrap();
        TaskView::from_seen(
            &queue(),
            "a",
            Seen::Live {
                place,
                record,
                meta: Meta::parse(meta),
            },
        )
        .unwrap()
    }

    #[test]
    fn a_scheduled_task_that_has_failed_is_retrying() {
        assert_eq!(live(Place::Scheduled(9), b"").state, State::Scheduled);
        let retrying = live(Place::Scheduled(9), b"1 0 0 0 5 error\n\nboom");
        assert_eq!(
            (retrying.state, retrying.attempts, retrying.error.as_deref()),
            (State::Retrying, 1, Some("boom"))
        );
        assert_eq!(retrying.due_at, Some(Moment::from_ms(9)));
    }

    #[test]
    fn attempts_count_the_run_that_goes_on_or_ended_it() {
        assert_eq!(live(Place::Running, b"1 1 0 0 5 error\n\nboom").attempts, 3);
        let ended = |text: &'static [u8]| {
            TaskView::from_ended(&queue(), "a", &Ended::parse(&Bytes::from_static(text)).unwrap())
        };
        assert_eq!(ended(b"completed k 1 2 3 1 0 0 c1 -\n1").attempts, 2);
        assert_eq!(ended(b"cancelled k 1 0 3 0 0 0 - cancelled\n").attempts, 0);
        assert_eq!(ended(b"expired k 1 0 3 0 0 0 - expired\n").attempts, 0);
    }

    #[test]
    fn the_json_of_a_view_is_the_same_for_every_release() {
        let json = serde_json::to_string(&live(Place::Pending, b"")).unwrap();
        assert_eq!(
            json,
            "{\"id\":\"a\",\"queue\":\"q\",\"kind\":\"k\",\"state\":\"pending\",\"type\":\"single\",\"priority\":1,\
             \"attempts\":0,\"failures\":0,\"crashes\":0,\"releases\":0,\"created_at\":\"2023-11-14T22:13:20.000Z\",\
             \"payload\":[1,\n2],\"options\":{\"timeout\":\"30s\"}}"
        );
    }
}
