//! The lines between daemon and worker; `docs/workers.md` describes them for authors of workers.
//!
//! Invariant: payload and result are passed through as raw JSON, never parsed into values and
//! written anew. The one change: line breaks between the values of a payload become spaces, since
//! a line break ends a message.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use workyard_shared::limits::{MAX_DURATION_MS, MAX_RESULT_BYTES};

use crate::{Context, Failure, Outcome};

/// Room for the message around a result.
const MESSAGE_BYTES: usize = 64 << 10;
/// Longest line from a worker that has a task: a result of the largest size and the message around it.
pub(super) const MAX_LINE_BYTES: usize = MAX_RESULT_BYTES + MESSAGE_BYTES;
/// How much of a bad line is quoted.
const QUOTED_CHARS: usize = 200;

#[derive(Serialize)]
struct Task<'a> {
    v: u8,
    r#type: &'static str,
    id: &'a str,
    kind: &'a str,
    queue: &'a str,
    attempt: u32,
    token: &'a str,
    deadline_ms: Option<u64>,
    headers: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    call: Option<CallFields<'a>>,
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct CallFields<'a> {
    stage: &'static str,
    form: &'static str,
    args: &'a RawValue,
}

/// What makes a task the run of a job's function.
#[derive(Debug)]
pub(super) struct Call {
    /// `map`, `combine` or `reduce`.
    pub(super) stage: &'static str,
    /// `fold` or `keyed`.
    pub(super) form: &'static str,
    /// The arguments of the function, a JSON object.
    pub(super) args: Box<RawValue>,
    /// Longest result.
    pub(super) limit: usize,
}

impl Call {
    /// Longest line with the answer.
    pub(super) fn line_limit(&self) -> usize {
        self.limit + MESSAGE_BYTES
    }
}

/// The line that hands a task over, newline included.
pub(super) fn task_line(
    ctx: &Context,
    deadline_ms: Option<u64>,
    call: Option<&Call>,
    payload: &[u8],
) -> Result<Bytes, Failure> {
    let not_json = |reason| Failure::fatal(format!("the payload is not JSON: {reason}"));
    let mut payload = String::from_utf8(payload.to_vec()).map_err(|error| not_json(error.to_string()))?;
    if payload.contains(['\n', '\r']) {
        // Inside a string JSON has them escaped, so these stand between values.
        payload = payload.replace(['\n', '\r'], " ");
    }
    let payload = RawValue::from_string(payload).map_err(|error| not_json(error.to_string()))?;
    let headers = ctx.headers_onward();
    let task = Task {
        v: 1,
        r#type: "task",
        id: ctx.id(),
        kind: ctx.kind(),
        queue: ctx.queue(),
        attempt: ctx.attempt(),
        token: ctx.fencing_token(),
        deadline_ms,
        headers: &headers,
        call: call.map(|call| CallFields {
            stage: call.stage,
            form: call.form,
            args: &call.args,
        }),
        payload: &payload,
    };
    let mut line = serde_json::to_vec(&task)?;
    line.push(b'\n');
    Ok(line.into())
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// It has started.
    Ready,
    /// Something for the log.
    Log(String),
    /// What became of a task.
    Answer {
        /// The task's id, as the worker says.
        id: String,
        /// Its token, as the worker says.
        token: String,
        /// What became of it.
        outcome: Outcome,
        /// Whether the worker exits now and must get no other task.
        last: bool,
    },
}

#[derive(Deserialize)]
struct Raw<'a> {
    r#type: String,
    id: Option<String>,
    token: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    error: Option<String>,
    retry: Option<bool>,
    retry_after_ms: Option<u64>,
    message: Option<String>,
    #[serde(default)]
    last: bool,
}

/// Tells `"result":null`, which is a result, from no result.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Parses a line from a worker; the error says what is wrong with it and quotes its beginning.
/// A result may have `limit` bytes.
pub(super) fn parse(line: &[u8], limit: usize) -> Result<Message, String> {
    understand(line, limit).map_err(|reason| {
        let quoted: String = String::from_utf8_lossy(&line[..line.len().min(4 * QUOTED_CHARS)])
            .chars()
            .take(QUOTED_CHARS)
            .collect();
        format!("wrote a line that is no message ({reason}): {quoted}")
    })
}

fn understand(line: &[u8], limit: usize) -> Result<Message, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let raw: Raw<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let outcome = match raw.r#type.as_str() {
        "ready" => return Ok(Message::Ready),
        "log" => return Ok(Message::Log(raw.message.ok_or("a log without `message`")?)),
        "result" => completed(raw.result.ok_or("a result without `result`")?, limit),
        "error" => Err(failure(
            raw.error.ok_or("an error without `error`")?,
            raw.retry,
            raw.retry_after_ms,
        )),
        other => return Err(format!("unknown type {other:?}")),
    };
    let (id, token) = raw.id.zip(raw.token).ok_or("an answer without `id` and `token`")?;
    Ok(Message::Answer {
        id,
        token,
        outcome,
        last: raw.last,
    })
}

fn completed(result: &RawValue, limit: usize) -> Outcome {
    let bytes = result.get().as_bytes();
    if bytes.len() > limit {
        return Err(Failure::fatal(format!(
            "the result is longer than the {limit} bytes that it may have"
        )));
    }
    Ok(Bytes::copy_from_slice(bytes))
}

fn failure(text: String, retry: Option<bool>, after_ms: Option<u64>) -> Failure {
    match (retry, after_ms) {
        (Some(false), _) => Failure::fatal(text),
        (_, Some(ms)) => Failure::retry_after(text, Duration::from_millis(ms.min(MAX_DURATION_MS))),
        (_, None) => Failure::retry(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_one_line_whatever_breaks_its_payload_has() {
        let mut ctx = Context::for_test("k", "id-1");
        ctx.edit().headers.insert("trace".to_owned(), "a\nb".to_owned());
        let payload = b"{\n\t\"a\" : 1e400,\r\n  \"b\": \"x\\ny\"\n}";
        let line = String::from_utf8(task_line(&ctx, Some(5), None, payload).unwrap().to_vec()).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"v":1,"type":"task","id":"id-1","kind":"k","queue":"test","attempt":1,"token":"1","#,
                r#""deadline_ms":5,"headers":{"trace":"a\nb"},"payload":{ "#,
                "\t",
                r#""a" : 1e400,    "b": "x\ny" }}"#,
                "\n"
            )
        );
        let bare = task_line(&ctx, None, None, b"[]").unwrap();
        assert!(bare.ends_with(b"\"payload\":[]}\n"));
        assert!(String::from_utf8_lossy(&bare).contains("\"deadline_ms\":null"));
        assert!(
            task_line(&ctx, None, None, b"{")
                .unwrap_err()
                .message
                .contains("not JSON")
        );
    }

    #[test]
    fn the_span_of_the_run_goes_along_in_the_place_of_the_one_above_it() {
        let named = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut ctx = Context::for_test("k", "id-1");
        ctx.edit().headers.insert("traceparent".to_owned(), named.to_owned());
        let line = |ctx: &Context| String::from_utf8(task_line(ctx, None, None, b"1").unwrap().to_vec()).unwrap();
        assert!(line(&ctx).contains(&format!(r#""headers":{{"traceparent":"{named}"}}"#)));
        let own = named.replace("b7", "b8");
        ctx.edit().trace = workyard_shared::trace_context::TraceContext::new(own.as_str()).ok();
        assert!(line(&ctx).contains(&format!(r#""headers":{{"traceparent":"{own}"}}"#)));
        assert_eq!(ctx.headers()["traceparent"], named);
    }

    #[test]
    fn every_kind_of_line_is_understood() {
        let answer = |outcome| Message::Answer {
            id: "i".to_owned(),
            token: "7".to_owned(),
            outcome,
            last: false,
        };
        let table = [
            (r#"{"type":"ready","later":1}"#, Message::Ready),
            (
                r#"{"type":"log","level":"warn","message":"m"}"#,
                Message::Log("m".to_owned()),
            ),
            (
                r#"{"type":"result","id":"i","token":"7","result":{ "b":1e400, "a":[ ]}}"#,
                answer(Ok(Bytes::from_static(br#"{ "b":1e400, "a":[ ]}"#))),
            ),
            (
                r#"{"type":"result","id":"i","token":"7","result":null}"#,
                answer(Ok(Bytes::from_static(b"null"))),
            ),
            (
                r#"{"type":"error","id":"i","token":"7","error":"e"}"#,
                answer(Err(Failure::retry("e"))),
            ),
            (
                r#"{"type":"error","id":"i","token":"7","error":"e","retry":false,"retry_after_ms":5}"#,
                answer(Err(Failure::fatal("e"))),
            ),
            (
                r#"{"type":"error","id":"i","token":"7","error":"e","retry":true,"retry_after_ms":5}"#,
                answer(Err(Failure::retry_after("e", Duration::from_millis(5)))),
            ),
        ];
        for (line, message) in table {
            assert_eq!(parse(line.as_bytes(), MAX_RESULT_BYTES), Ok(message), "{line}");
        }
    }

    #[test]
    fn a_bad_line_is_refused_with_its_reason_and_beginning() {
        let table = [
            ("debug print", "expected value"),
            ("", "EOF while parsing"),
            ("[1]", "invalid type"),
            (r#"{"type":"dance"}"#, "unknown type \"dance\""),
            (r#"{"type":"result","id":"i","token":"7"}"#, "a result without `result`"),
            (r#"{"type":"result","id":"i","result":1}"#, "without `id` and `token`"),
            (
                r#"{"type":"result","id":"i","token":7,"result":1}"#,
                "expected a string",
            ),
            (r#"{"type":"error","id":"i","token":"7"}"#, "an error without `error`"),
        ];
        for (line, reason) in table {
            let error = parse(line.as_bytes(), MAX_RESULT_BYTES).unwrap_err();
            assert!(error.contains(reason) && error.ends_with(line), "{line}: {error}");
        }
        assert!(parse(b"{\"type\":\"\xff\"}", MAX_RESULT_BYTES).is_err());
        assert!(
            parse("x".repeat(5000).as_bytes(), MAX_RESULT_BYTES).unwrap_err().len() < 400,
            "the quote is bounded"
        );
    }
}
