//! The JSON Schema of envelope v1, for clients in other languages: `docs/envelope-v1.schema.json`.
//!
//! Invariant: the file in `docs/` is what [`schema`] makes; a test compares them. The types here
//! only describe: `envelope.rs` parses.

#![expect(dead_code, reason = "these types describe, nothing constructs them")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::Serialize;

/// A duration, at most ten years: whole milliseconds, or text such as "250ms", "30s", "1h 30m".
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
enum Span {
    /// Milliseconds.
    Millis(#[schemars(range(max = 315_360_000_000_u64))] u64),
    /// Text with units ms, s, m, h, d.
    Text(SpanText),
}

/// A duration of at least 1 ms and at most ten years, written as any other.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
enum PositiveSpan {
    /// Milliseconds.
    Millis(#[schemars(range(min = 1, max = 315_360_000_000_u64))] u64),
    /// Text with units ms, s, m, h, d.
    Text(SpanText),
}

/// A duration as people write it.
#[derive(Debug, JsonSchema, Serialize)]
#[schemars(extend("pattern" = r"^\s*(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ms|sec|s|min|m|h|d)\s*)+)\s*$"))]
struct SpanText(String);

/// A point in time: milliseconds since 1970, or RFC 3339 text. A number below is taken for seconds and refused.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
enum Instant {
    /// Milliseconds since 1970.
    Millis(#[schemars(range(min = 100_000_000_000_u64, max = 253_402_300_799_999_u64))] u64),
    /// RFC 3339, for example "2026-11-24T12:00:00Z".
    Text(InstantText),
}

/// A point in time as RFC 3339 has it.
#[derive(Debug, JsonSchema, Serialize)]
#[schemars(extend(
    "format" = "date-time",
    "pattern" = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
))]
struct InstantText(String);

/// A point in time, or 0 for now.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
enum Start {
    /// Later.
    At(Instant),
    /// Now.
    Now(#[schemars(range(max = 0))] u64),
}

/// What a task is part of.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    /// A task of its own.
    Single,
    /// A map step of a job.
    Map,
    /// A reduce step of a job.
    Reduce,
}

/// Waits between attempts: min(base * factor^failures, cap), plus up to `jitter` of it by chance.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Backoff {
    /// Default 1 s.
    base: Option<Span>,
    /// Default 2.
    #[schemars(range(min = 1.0, max = 100.0))]
    factor: Option<f64>,
    /// Default 1 h.
    cap: Option<Span>,
    /// Default 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    jitter: Option<f64>,
}

/// A task as JSON, version 1. Unknown fields are kept; `unique_key`, `group`, `schedule` and
/// `parent` are reserved and refused. Null means "not there".
///
/// What this schema refuses is refused. What it takes is taken, but for what it cannot express: a name that stands twice; a
/// whole number written with a fraction or an exponent (`1.0`); a payload over 1 MiB; headers and unknown fields over
/// 64 KiB together; a `queue` that is another than the inbox's; a signature, or a
/// sealed payload, without an `id`; a span over ten years, or for `timeout` and `expires_in`
/// below 1 ms, written as text; an instant before March 1973, or a day or an hour that there is not, written as text.
#[derive(Debug, JsonSchema, Serialize)]
#[schemars(
    title = "Workyard envelope v1",
    extend(
        "propertyNames" = {"not": {"enum": ["unique_key", "group", "schedule", "parent"]}},
        "maxProperties" = 256,
        "if" = {"properties": {"type": {"enum": ["map", "reduce"]}}, "required": ["type"]},
        "then" = {"properties": {"id": {"not": {"type": "string", "pattern": "^[^:]+:[0-9]+:[mr]:[0-9]"}}}}
    )
)]
struct Envelope {
    /// Version of the envelope; 1 if it is not there.
    #[schemars(range(min = 1, max = 1))]
    v: Option<u32>,
    /// Picks the handler.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._:-]{1,128}$"))]
    kind: String,
    /// The caller's own id; one is made if it is not there. With type map or reduce it must not look like the id of a job's step.
    #[schemars(regex(pattern = r"^[!-~]{1,128}$"))]
    id: Option<String>,
    /// Must be the queue that it is pushed to, if it is there.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    queue: Option<String>,
    /// Any JSON, at most 1 MiB, kept byte for byte; null if it is not there.
    payload: Option<serde_json::Value>,
    /// Lower is more urgent; default 5.
    #[schemars(range(min = 0, max = 255))]
    priority: Option<u32>,
    /// Failures after which the task is dead-lettered; default 3.
    #[schemars(range(min = 1, max = 1000))]
    max_attempts: Option<u32>,
    /// Waits between attempts.
    backoff: Option<Backoff>,
    /// Added to the priority at each retry, saturating at 255; default 10.
    #[schemars(range(min = 0, max = 255))]
    retry_priority_step: Option<u32>,
    /// Not started earlier than this; where there is a `delay` too, that holds.
    not_before: Option<Start>,
    /// Not started earlier than this long after it was ingested.
    delay: Option<Span>,
    /// Longest run of one attempt.
    timeout: Option<PositiveSpan>,
    /// Expired if not started by then; where there is `expires_in` too, that holds.
    expires_at: Option<Instant>,
    /// Expired if not started within this long.
    expires_in: Option<PositiveSpan>,
    /// How long the result stays; default 1 h, 0 keeps none.
    retention: Option<Span>,
    /// Text for whoever comes after.
    headers: Option<BTreeMap<String, String>>,
    /// Default single.
    #[serde(rename = "type")]
    task_type: Option<Type>,
}

/// The schema of an envelope.
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(Envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `WORKYARD_WRITE_SCHEMA=1 cargo test -p workyard-shared schema` writes the file anew.
    #[test]
    fn the_schema_in_docs_is_the_one_that_the_code_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/envelope-v1.schema.json");
        let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("WORKYARD_WRITE_SCHEMA").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            made,
            "write it anew as this test's comment says"
        );
    }
}
