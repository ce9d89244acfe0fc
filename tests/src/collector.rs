//! A collector of spans, as OpenTelemetry's own one speaks: OTLP over HTTP, protobuf.
//!
//! Invariant: it understands what it acknowledges; a request that is no export of traces fails the test that waits for it. It
//! listens on loopback and ends with its value.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "its only callers are tests")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{Authority, wait_for};

/// Longest wait for spans that were made: twice what the exporter keeps them for a batch.
const SOON: Duration = Duration::from_secs(15);

/// A span that arrived.
#[derive(Debug, Clone)]
pub struct SeenSpan {
    /// Of the resource: `service.name`.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 1 internal, 4 producer, 5 consumer.
    pub kind: i32,
    /// Which trace it is in, in hexadecimal digits.
    pub trace: String,
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// The id of the span above it; empty if there is none.
    pub parent: String,
    /// When it began and ended, in ns since 1970.
    pub times: (u64, u64),
    /// What is said of it; numbers as text.
    pub attributes: BTreeMap<String, String>,
    /// The text of its error, if it failed.
    pub error: Option<String>,
}

impl SeenSpan {
    /// An attribute; empty if it is not there.
    #[must_use]
    pub fn says(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Default)]
struct Seen {
    spans: Vec<SeenSpan>,
    heads: Vec<String>,
    connections: usize,
}

/// The collector.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// One that takes what it gets.
    pub async fn start() -> Self {
        Self::run(true, None).await
    }

    /// One that never answers.
    pub async fn silent() -> Self {
        Self::run(false, None).await
    }

    /// One that listens over TLS, with the server's certificate of this authority.
    pub async fn over_tls(authority: &Authority) -> Self {
        Self::run(true, Some(authority.acceptor())).await
    }

    async fn run(answers: bool, tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                lock(&shared).connections += 1;
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared, answers).await,
                        Some(tls) => {
                            // Who does not trust it goes away.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared, answers).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            scheme,
            seen,
            task,
        }
    }

    /// What to give as endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// How often somebody connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.seen).connections
    }

    /// Lines and headers of all requests.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        lock(&self.seen).heads.clone()
    }

    /// What has arrived, in the order of their begin.
    #[must_use]
    pub fn spans(&self) -> Vec<SeenSpan> {
        let mut spans = lock(&self.seen).spans.clone();
        spans.sort_by_key(|span| span.times);
        spans
    }

    /// The spans whose name begins so, once there are that many.
    pub async fn named(&self, start: &str, count: usize) -> Vec<SeenSpan> {
        wait_for(SOON, || async {
            let mut spans = self.spans();
            spans.retain(|span| span.name.starts_with(start));
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, which carries any number of requests.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Mutex<Seen>>, answers: bool) {
    while let Some((head, body)) = request(&mut stream).await {
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let body = if head.contains("content-encoding: gzip") {
            unpacked(&body)
        } else {
            body
        };
        let export = ExportTraceServiceRequest::decode(body.as_slice()).expect("an export of traces");
        {
            let mut seen = lock(&seen);
            seen.heads.push(head);
            seen.spans.extend(spans(export));
        }
        if !answers {
            std::future::pending::<()>().await;
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut packed = flate2::read::GzDecoder::new(body);
    packed.read_to_end(&mut bytes).expect("a body packed by gzip");
    bytes
}

/// Head and body of the next request; `None` if there is none any more.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            let body = &bytes[end + 4..];
            if body.len() >= length {
                return Some((head, body[..length].to_vec()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn spans(export: ExportTraceServiceRequest) -> Vec<SeenSpan> {
    let mut seen = Vec::new();
    for of_resource in export.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        let service = resource.get("service.name").cloned().unwrap_or_default();
        let all = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        seen.extend(all.map(|span| as_seen(&service, span)));
    }
    seen
}

fn as_seen(service: &str, span: Span) -> SeenSpan {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    SeenSpan {
        service: service.to_owned(),
        name: span.name,
        kind: span.kind,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: attributes(span.attributes),
        // 2 is the code of an error.
        error: span
            .status
            .filter(|status| status.code == 2)
            .map(|status| status.message),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}
