//! Envelope v1: a task as JSON, as any client pushes it into an inbox and the CLI reads it.
//!
//! Invariant: the payload's bytes are never changed, and what is not understood is kept (fields of
//! a newer version travel in `extra`). A field that is understood but wrong refuses the envelope
//! with the reason: silently dropping `"timeout": "soon"` would be worse. It knows no Redis.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::duration;
use crate::error::Error;
use crate::limits::{MAX_EXTRA_BYTES, MAX_PAYLOAD_BYTES};
use crate::name::{Kind, QueueName, TaskId};
use crate::options::{Backoff, TaskOptions, TaskType};

/// Names that a later version will give a meaning; refused today, so that nobody relies on them.
const RESERVED: [&str; 4] = ["unique_key", "group", "schedule", "parent"];

/// Every field that has a meaning in an envelope.
pub const FIELDS: [&str; 17] = [
    "v",
    "id",
    "queue",
    "kind",
    "payload",
    "headers",
    "priority",
    "retry_priority_step",
    "max_attempts",
    "backoff",
    "not_before",
    "delay",
    "timeout",
    "expires_at",
    "expires_in",
    "retention",
    "type",
];

/// A task to be enqueued, all parts checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// The caller's own id; `None`: one is made.
    pub id: Option<TaskId>,
    /// Picks the handler.
    pub kind: Kind,
    /// Any JSON, byte for byte.
    pub payload: Bytes,
    /// Everything with a default.
    pub options: TaskOptions,
    /// Text for whoever comes after: trace context, tenant, and so on.
    pub headers: BTreeMap<String, String>,
    /// Fields of the envelope that this version does not know: kept as they are.
    pub unknown: BTreeMap<String, Box<str>>,
}

impl NewTask {
    /// A task of `kind` with a JSON payload and every default.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `payload` is not JSON or too large.
    pub fn new(kind: Kind, payload: impl Into<Bytes>) -> Result<Self, Error> {
        let payload = payload.into();
        check_payload(&payload)?;
        Ok(Self {
            id: None,
            kind,
            payload,
            options: TaskOptions::default(),
            headers: BTreeMap::new(),
            unknown: BTreeMap::new(),
        })
    }

    /// Parses an envelope. The second value is its `queue` field, if it has one.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong and what would be right.
    pub fn from_json(text: &[u8]) -> Result<(Self, Option<QueueName>), Error> {
        Self::read_json(text).map_err(bounded)
    }

    fn read_json(text: &[u8]) -> Result<(Self, Option<QueueName>), Error> {
        let text = std::str::from_utf8(text).map_err(|e| invalid(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| invalid(format!("not a JSON object: {e}")))?;
        let mut kind = None;
        let mut queue = None;
        let mut task = Self::new(Kind::new("unset")?, Bytes::from_static(b"null"))?;
        for (name, raw) in fields.0 {
            match name.as_ref() {
                // Null means "as if it were not there"; of a payload it is the payload.
                "v" | "id" | "queue" | "headers" if raw.get() == "null" => {}
                "v" if raw.get() == "1" => {}
                "v" => {
                    return Err(invalid(format!(
                        "version {} is not known here, this is version 1",
                        raw.get()
                    )));
                }
                "kind" => kind = Some(Kind::new(string("kind", raw)?)?),
                "queue" => queue = Some(QueueName::new(string("queue", raw)?)?),
                "id" => task.id = Some(TaskId::new(string("id", raw)?)?),
                "payload" => {
                    check_size(raw.get().len())?;
                    task.payload = Bytes::copy_from_slice(raw.get().as_bytes());
                }
                "headers" => {
                    task.headers = serde_json::from_str::<Headers>(raw.get())
                        .map_err(|_| invalid("headers must be an object of strings, each name once".to_owned()))?
                        .0;
                }
                other if RESERVED.contains(&other) => {
                    return Err(invalid(format!("field \"{other}\" is reserved for a later version")));
                }
                other if !set_option(&mut task.options, other, raw)? => {
                    task.unknown.insert(other.to_owned(), raw.get().into());
                }
                _ => {}
            }
        }
        task.kind = kind.ok_or_else(|| invalid("field \"kind\" is missing".to_owned()))?;
        task.options.validate()?;
        task.extra()?;
        if let Some(id) = &task.id {
            task.check_step(id)?;
        }
        Ok((task, queue))
    }

    /// Refuses what would be taken for a step of a job, which only its job adds: nobody else ends one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the id has the form of a step's, and the type is map or reduce.
    pub fn check_step(&self, id: &TaskId) -> Result<(), Error> {
        if self.options.task_type != TaskType::Single && is_like_step(id.as_str()) {
            return Err(invalid(format!(
                "with type map or reduce, id \"{id}\" is that of a step of a job, which only its job adds; choose another id or leave the type out"
            )));
        }
        Ok(())
    }

    /// What the functions take before the payload: `kind[ option=value ...][ LF extra]`.
    ///
    /// # Errors
    /// As [`Self::extra`].
    pub fn head(&self) -> Result<String, Error> {
        let mut head = self.kind.as_str().to_owned();
        let options = self.options.encode();
        if !options.is_empty() {
            head.push(' ');
            head.push_str(&options);
        }
        let extra = self.extra()?;
        if !extra.is_empty() {
            head.push('\n');
            head.push_str(&extra);
        }
        Ok(head)
    }

    /// Headers and unknown fields as the one line of JSON that is stored; empty if there are none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they exceed [`MAX_EXTRA_BYTES`].
    pub fn extra(&self) -> Result<String, Error> {
        if self.headers.is_empty() && self.unknown.is_empty() {
            return Ok(String::new());
        }
        let mut parts = Vec::with_capacity(self.unknown.len() + 1);
        if !self.headers.is_empty() {
            let headers = serde_json::to_string(&self.headers).map_err(|e| invalid(e.to_string()))?;
            parts.push(format!("\"headers\":{headers}"));
        }
        for (name, raw) in &self.unknown {
            let name = serde_json::to_string(name).map_err(|e| invalid(e.to_string()))?;
            // Line ends between JSON tokens are white space; inside strings they are escaped.
            parts.push(format!("{name}:{}", raw.replace(['\n', '\r'], " ")));
        }
        let text = format!("{{{}}}", parts.join(","));
        if text.len() > MAX_EXTRA_BYTES {
            return Err(invalid(format!(
                "headers and unknown fields exceed {MAX_EXTRA_BYTES} bytes"
            )));
        }
        Ok(text)
    }
}

/// The very rule of `lua/add.lua`, which is wider than what a consumer takes for a step: what passes here and fails there would
/// fail its whole call.
fn is_like_step(id: &str) -> bool {
    let mut parts = id.splitn(4, ':');
    let (job, epoch, letter, place) = (parts.next(), parts.next(), parts.next(), parts.next());
    job.is_some_and(|job| !job.is_empty())
        && epoch.is_some_and(|epoch| !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()))
        && matches!(letter, Some("m" | "r"))
        && place.is_some_and(|place| place.starts_with(|c: char| c.is_ascii_digit()))
}

/// Reads the stored line of [`NewTask::extra`]; what is malformed is empty.
#[must_use]
pub fn read_extra(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, Box<RawValue>>) {
    let mut unknown: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap_or_default();
    let headers = unknown
        .remove("headers")
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    (headers, unknown)
}

/// Checks the stored line of headers and unknown fields, which the function takes unseen from whoever calls it.
///
/// # Errors
/// [`Error::Invalid`] if it is no object, or its `headers` are not.
pub fn check_extra(text: &str) -> Result<(), Error> {
    let said = |error: serde_json::Error| {
        let head = "what stands behind the head must be one JSON object of headers and unknown fields";
        invalid(format!("{head}: {error}"))
    };
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(said)?;
    if let Some(headers) = fields.get("headers") {
        serde_json::from_str::<BTreeMap<String, String>>(headers.get())
            .map_err(|error| invalid(format!("headers must be an object of strings: {error}")))?;
    }
    Ok(())
}

/// Checks that `payload` is JSON of a permitted size; numbers of any size and any depth are fine,
/// because nothing here turns them into values.
///
/// # Errors
/// [`Error::Invalid`] with the place of the first fault.
pub fn check_payload(payload: &[u8]) -> Result<(), Error> {
    check_size(payload.len())?;
    let text = std::str::from_utf8(payload)
        .map_err(|e| invalid(format!("payload is not UTF-8 at byte {}", e.valid_up_to())))?;
    serde_json::from_str::<&RawValue>(text).map_err(|e| invalid(format!("payload is not JSON: {e}")))?;
    Ok(())
}

fn check_size(len: usize) -> Result<(), Error> {
    if len > MAX_PAYLOAD_BYTES {
        return Err(invalid(format!(
            "payload has {len} bytes, at most {MAX_PAYLOAD_BYTES} are allowed"
        )));
    }
    Ok(())
}

/// Most characters of a reason. The input may be a megabyte of one wrong word, and what refuses it is kept and logged.
const MOST_SAID: usize = 300;

fn invalid(text: String) -> Error {
    Error::Invalid(text)
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MOST_SAID) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The reasons that other modules give are as long as what they show of the input.
fn bounded(error: Error) -> Error {
    match error {
        Error::Invalid(text) => Error::Invalid(shortened(text)),
        other => other,
    }
}

fn string<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Error> {
    let text: String = serde_json::from_str(raw.get())
        .map_err(|_| invalid(format!("{name} must be a string, not {}", shorten(raw))))?;
    Ok(Cow::Owned(text))
}

fn shorten(raw: &RawValue) -> String {
    raw.get().chars().take(64).collect()
}

fn whole(name: &str, raw: &RawValue, most: u64) -> Result<u64, Error> {
    match serde_json::from_str::<u64>(raw.get()) {
        Ok(n) if n <= most => Ok(n),
        _ => Err(invalid(format!(
            "{name} must be a whole number from 0 to {most}, not {}",
            shorten(raw)
        ))),
    }
}

/// A duration: whole milliseconds, or text such as "30s" or "1h 30m".
fn span(name: &str, raw: &RawValue) -> Result<Duration, Error> {
    if let Ok(ms) = serde_json::from_str::<u64>(raw.get()) {
        return Ok(Duration::from_millis(ms));
    }
    serde_json::from_str::<String>(raw.get())
        .ok()
        .and_then(|text| duration::parse(&text).ok())
        .ok_or_else(|| {
            invalid(format!(
                "{name} must be whole milliseconds or a text such as \"30s\", not {}",
                shorten(raw)
            ))
        })
}

/// A point in time: milliseconds since 1970, or RFC 3339.
fn instant(name: &str, raw: &RawValue) -> Result<u64, Error> {
    if let Ok(ms) = serde_json::from_str::<u64>(raw.get()) {
        return Ok(ms);
    }
    serde_json::from_str::<String>(raw.get())
        .ok()
        .and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok())
        .and_then(|at| u64::try_from(at.timestamp_millis()).ok())
        .ok_or_else(|| {
            invalid(format!(
                "{name} must be milliseconds since 1970 or RFC 3339 text, not {}",
                shorten(raw)
            ))
        })
}

/// Sets one option; false if the name is none.
fn set_option(options: &mut TaskOptions, name: &str, raw: &RawValue) -> Result<bool, Error> {
    if raw.get() == "null" {
        return Ok(FIELDS.contains(&name));
    }
    let small = |name: &str| whole(name, raw, 255).map(|n| u8::try_from(n).ok());
    match name {
        "priority" => options.priority = small(name)?,
        "retry_priority_step" => options.retry_priority_step = small(name)?,
        "max_attempts" => options.max_attempts = u32::try_from(whole(name, raw, 1000)?).ok(),
        "backoff" => options.backoff = Some(backoff(raw)?),
        "not_before" => options.not_before = Some(instant(name, raw)?),
        "delay" => options.delay = Some(span(name, raw)?),
        "timeout" => options.timeout = Some(span(name, raw)?),
        "expires_at" => options.expires_at = Some(instant(name, raw)?),
        "expires_in" => options.expires_in = Some(span(name, raw)?),
        "retention" => options.retention = Some(span(name, raw)?),
        "type" => {
            options.task_type = TaskType::parse(&string(name, raw)?)
                .ok_or_else(|| invalid("type must be single, map or reduce".to_owned()))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn backoff(raw: &RawValue) -> Result<Backoff, Error> {
    let fields: Fields<'_> =
        serde_json::from_str(raw.get()).map_err(|_| invalid("backoff must be an object".to_owned()))?;
    let mut backoff = Backoff::default();
    for (name, value) in fields.0 {
        let number = || {
            serde_json::from_str::<f64>(value.get())
                .map_err(|_| invalid(format!("backoff.{name} must be a number, not {}", shorten(value))))
        };
        match name.as_ref() {
            "base" | "cap" | "factor" | "jitter" if value.get() == "null" => {}
            "base" => backoff.base = span("backoff.base", value)?,
            "cap" => backoff.cap = span("backoff.cap", value)?,
            "factor" => backoff.factor = number()?,
            "jitter" => backoff.jitter = number()?,
            other => {
                return Err(invalid(format!(
                    "backoff has base, factor, cap and jitter, not \"{other}\""
                )));
            }
        }
    }
    Ok(backoff)
}

/// The fields of an object in order, values untouched, each name once.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if fields.iter().any(|(seen, _)| *seen == name) {
                        return Err(serde::de::Error::custom(format!("field \"{name}\" stands twice")));
                    }
                    if fields.len() >= 256 {
                        return Err(serde::de::Error::custom("more than 256 fields"));
                    }
                    fields.push((Cow::Owned(name), value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Of two that have one name, none would be the right one.
struct Headers(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if headers.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a header stands twice"));
                    }
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NewTask, Error> {
        NewTask::from_json(text.as_bytes()).map(|(task, _)| task)
    }

    #[test]
    fn a_reason_is_short_however_long_the_input_is() {
        let long = "é".repeat(500_000);
        for text in [
            format!("{{\"v\":\"{long}\"}}"),
            format!("{{\"kind\":\"k\",\"timeout\":\"{long}\"}}"),
            format!("{{\"{long}\":1,\"{long}\":2}}"),
            format!("{{\"kind\":\"k\",\"backoff\":{{\"{long}\":1}}}}"),
            format!("{{\"kind\":\"{long}\"}}"),
            format!("\"{long}\""),
        ] {
            let Err(Error::Invalid(reason)) = NewTask::from_json(text.as_bytes()) else {
                panic!("accepted: {}", &text[..40]);
            };
            assert!(reason.len() < 1000 && reason.len() > 10, "{} bytes", reason.len());
        }
    }

    #[test]
    fn payloads_come_back_byte_for_byte() {
        for payload in [
            "{}",
            "[]",
            "null",
            "1.0",
            "1e400",
            "123456789012345678901234567890",
            "\"\\u0000é\"",
            "{ \"a\" : 1 }",
        ] {
            let task = parse(&format!("{{\"kind\":\"k\",\"payload\":{payload}}}")).unwrap();
            assert_eq!(task.payload, payload.as_bytes());
        }
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(
            parse(&format!("{{\"kind\":\"k\",\"payload\":{deep}}}"))
                .unwrap()
                .payload,
            deep.as_bytes()
        );
    }

    #[test]
    fn null_means_that_a_field_is_not_there() {
        let task =
            parse(r#"{"kind":"k","id":null,"queue":null,"headers":null,"timeout":null,"payload":null}"#).unwrap();
        assert_eq!(task, NewTask::new(Kind::new("k").unwrap(), "null").unwrap());
    }

    #[test]
    fn unknown_fields_are_kept_and_known_ones_are_checked() {
        let task = parse(r#"{"kind":"k","colour":{"a":[1, 2]},"timeout":"90s","headers":{"x":"y"}}"#).unwrap();
        assert_eq!(task.options.timeout, Some(Duration::from_secs(90)));
        let (headers, unknown) = read_extra(&task.extra().unwrap());
        assert_eq!(headers["x"], "y");
        assert_eq!(unknown["colour"].get(), r#"{"a":[1, 2]}"#);
    }

    #[test]
    fn the_listed_fields_are_those_that_are_understood() {
        for field in FIELDS.iter().filter(|field| **field != "kind") {
            let parsed = parse(&format!("{{\"kind\":\"k\",\"{field}\":[]}}"));
            assert!(parsed.is_err() || parsed.unwrap().unknown.is_empty(), "{field}");
        }
        let schema = serde_json::to_value(crate::schema::schema()).unwrap();
        let mut listed = FIELDS;
        listed.sort_unstable();
        let described = schema["properties"].as_object().unwrap();
        assert!(described.keys().eq(listed), "{:?}", described.keys());
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#"{"payload":1}"#, "\"kind\" is missing"),
            (r#"{"kind":"a b"}"#, "must match"),
            (r#"{"kind":"k","priority":256}"#, "priority must be"),
            (r#"{"kind":"k","priority":"1"}"#, "priority must be"),
            (r#"{"kind":"k","timeout":"soon"}"#, "timeout must be"),
            (r#"{"kind":"k","max_attempts":0}"#, "max_attempts must be"),
            (r#"{"kind":"k","kind":"k"}"#, "stands twice"),
            (r#"{"kind":"k","headers":{"a":"1","a":"2"}}"#, "each name once"),
            (r#"{"kind":"k","unique_key":"x"}"#, "reserved"),
            (r#"{"kind":"k","v":2}"#, "version 2"),
            (r#"{"kind":"k","backoff":{"bas":1}}"#, "backoff has"),
            (r#"{"kind":"k","headers":{"a":1}}"#, "headers must be"),
            (r#"{"kind":"k","id":"a b"}"#, "visible ASCII"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
