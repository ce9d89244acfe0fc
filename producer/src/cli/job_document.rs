//! A job as a JSON document, for programs.
//!
//! Invariant: the names are those of docs/jobs.md or say more; times are RFC 3339 and absent until they come, as is the place of
//! the result.

use std::collections::BTreeMap;

use serde::Serialize;
use workyard_producer::{JobRecord, Moment, Phase, ResultPlace};

use super::job_view::{spilled_below, times};

/// The counters of a phase in a document.
#[derive(Debug, Serialize)]
struct PhaseDocument {
    total: u64,
    done: u64,
    failed: u64,
    retried: u64,
    backup: u64,
}

impl From<Phase> for PhaseDocument {
    fn from(phase: Phase) -> Self {
        Self {
            total: phase.total,
            done: phase.done,
            failed: phase.failed,
            retried: phase.retried,
            backup: phase.backup,
        }
    }
}

/// Where the result is, in a document.
#[derive(Debug, Serialize)]
struct PlaceDocument<'a> {
    key: &'a str,
    parts: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    spilled: Option<SpilledDocument>,
}

/// Parts of the result at the spill place.
#[derive(Debug, Serialize)]
struct SpilledDocument {
    below: String,
    parts: u64,
    bytes: u64,
}

impl<'a> PlaceDocument<'a> {
    fn of(id: &str, record: &JobRecord, place: &'a ResultPlace) -> Self {
        Self {
            key: &place.key,
            parts: place.parts,
            bytes: place.bytes,
            spilled: (place.spilled > 0).then(|| SpilledDocument {
                below: spilled_below(id, record, place),
                parts: place.spilled,
                bytes: place.spilled_bytes,
            }),
        }
    }
}

/// A job as a JSON document.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    job: &'a str,
    queue: &'a str,
    state: &'a str,
    form: &'a str,
    map: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    combine: Option<&'a str>,
    reduce: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    input: &'a str,
    chunks: u64,
    maps: PhaseDocument,
    reduces: PhaseDocument,
    allow: String,
    lost: u64,
    bytes: u64,
    budget: u64,
    spilled: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    spill: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<PlaceDocument<'a>>,
    starts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_ms: Option<u128>,
    #[serde(flatten)]
    times: BTreeMap<String, Moment>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    pub(crate) failed_chunks: &'a [u64],
    /// All of them, for the list may be cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_total: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failed_inputs: BTreeMap<u64, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) errors: BTreeMap<&'a str, &'a str>,
}

/// The document of a record.
pub(crate) fn document<'a>(id: &'a str, queue: &'a str, record: &'a JobRecord) -> Document<'a> {
    let spec = &record.spec;
    Document {
        job: id,
        queue,
        state: record.state.as_str(),
        form: spec.form.as_str(),
        map: spec.map.kind.as_str(),
        combine: spec.combine.as_ref().map(|combine| combine.kind.as_str()),
        reduce: spec.reduce.kind.as_str(),
        input: &spec.input,
        chunks: record.submitted,
        maps: record.maps.into(),
        reduces: record.reduces.into(),
        allow: spec.policy.to_string(),
        lost: record.accepted,
        bytes: record.bytes,
        budget: spec.budget,
        spilled: record.spilled,
        spill: spec.spill.as_deref(),
        result: record.result.as_ref().map(|place| PlaceDocument::of(id, record, place)),
        starts: record.starts,
        run_ms: record.run_time().map(|span| span.as_millis()),
        times: times(record)
            .map(|(name, at)| (format!("{name}_at"), Moment::from_ms(at)))
            .collect(),
        error: &record.error,
        failed_chunks: &[],
        failed_total: (record.maps.failed > 0).then_some(record.maps.failed),
        failed_inputs: BTreeMap::new(),
        errors: BTreeMap::new(),
    }
}
