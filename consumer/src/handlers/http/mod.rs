//! `type = "http"`: each task is one POST.
//!
//! The payload is the body, byte for byte, as `application/json`. About the task say the headers
//! `x-workyard-id`, `x-workyard-kind`, `x-workyard-queue`, `x-workyard-attempt` (1 for the first),
//! `x-workyard-token` (the fencing token: refuse a smaller one than you have seen) and, if the
//! attempt has an end, `x-workyard-deadline` (milliseconds left). `traceparent` and `tracestate` go along if the task
//! belongs to a trace. A task may be posted twice after a crash.
//!
//! | answer | means |
//! |---|---|
//! | 2xx | completed; the body is the result: JSON byte for byte, else a JSON string, `null` if empty |
//! | 429, 503 | retry; after `Retry-After`: seconds, or a date beside the answer's own `Date`; a day at most |
//! | 408, any other 5xx, no answer | retry |
//! | other 4xx | failed for good |
//! | anything else, redirects too | retried |
//!
//! As a function of a map-reduce job it posts `{"stage":..,"form":..,"args":..,"payload":[..]}`, as a `worker` gets
//! them, and the answer is the array of what it emits.
//!
//! An attempt that nothing else limits ends after [`DEFAULT_TIMEOUT`]. Proxies of the environment
//! are not used.
//!
//! Invariant: dropping the future closes the connection, and no header value gets into an error.

#[cfg(test)]
mod tests;
mod stage;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect};
use workyard_shared::limits::MAX_RESULT_BYTES;
use workyard_shared::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

use super::interrupt::Interrupt;
use super::result;
use crate::config::{HttpConfig, Output};
use crate::{BoxFuture, Context, Failure, Handler, Outcome};

/// The end of an attempt that neither its task nor its handler limits: a server that never
/// answers must not keep a place for ever.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an error's body goes into the message.
const EXCERPT_BYTES: usize = 1024;

/// Posts tasks to an address; see the module's page.
#[derive(Debug, Clone)]
pub struct HttpHandler {
    client: Client,
    config: Arc<HttpConfig>,
    timeout: Option<Duration>,
}

impl HttpHandler {
    /// A handler by `config`; `timeout` bounds each attempt on top of the task's own.
    ///
    /// # Errors
    /// The text says why there can be no client, say since the system has no certificates.
    pub fn new(config: HttpConfig, timeout: Option<Duration>) -> Result<Self, String> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| Failure::from(error).message)?;
        Ok(Self {
            client,
            config: Arc::new(config),
            timeout,
        })
    }
}

impl Handler for HttpHandler {
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome> {
        let this = self.clone();
        Box::pin(async move {
            let unlimited = ctx.deadline().is_none().then_some(DEFAULT_TIMEOUT);
            let interrupt = Interrupt::start(&ctx, this.timeout.or(unlimited));
            tokio::select! {
                outcome = this.exchange(&ctx, &interrupt, payload, MAX_RESULT_BYTES) => match outcome {
                    Ok(body) => result::from_output("the answer", body, Output::Auto),
                    Err(failure) => Err(failure),
                },
                failure = interrupt.fired() => Err(failure),
            }
        })
    }
}

impl HttpHandler {
    /// Posts a body; the answer may have `limit` bytes.
    async fn exchange(
        &self,
        ctx: &Context,
        interrupt: &Interrupt,
        payload: Bytes,
        limit: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut headers = self.config.headers.clone();
        describe(&mut headers, ctx, interrupt)?;
        let request = self.client.post(self.config.url.clone()).headers(headers).body(payload);
        let host = self.config.url.host_str().unwrap_or_default();
        let mut response = request
            .send()
            .await
            .map_err(|error| broken(&format!("cannot reach {host}"), error))?;
        let status = response.status();
        if !status.is_success() {
            // The status decides; a body that breaks off only shortens the message.
            let body = read(&mut response, EXCERPT_BYTES).await.unwrap_or_default();
            let excerpt = &body[..body.len().min(EXCERPT_BYTES)];
            verdict::judge(status, response.headers(), &String::from_utf8_lossy(excerpt))?;
        }
        let body = read(&mut response, limit)
            .await
            .map_err(|error| broken(&format!("the answer of {host} broke off"), error))?;
        if body.len() > limit {
            return Err(Failure::fatal(format!(
                "the answer is longer than the {limit} bytes that it may have"
            )));
        }
        Ok(body)
    }
}

/// Adds what the server may know about the task.
fn describe(headers: &mut HeaderMap, ctx: &Context, interrupt: &Interrupt) -> Result<(), Failure> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let attempt = ctx.attempt().to_string();
    let deadline = interrupt.remaining_ms().map(|ms| ms.to_string());
    let trace = ctx.trace_context();
    let about = [
        ("x-workyard-id", Some(ctx.id())),
        ("x-workyard-kind", Some(ctx.kind())),
        ("x-workyard-queue", Some(ctx.queue())),
        ("x-workyard-attempt", Some(&*attempt)),
        ("x-workyard-token", Some(ctx.fencing_token())),
        ("x-workyard-deadline", deadline.as_deref()),
        (TRACEPARENT, trace.as_ref().map(TraceContext::traceparent)),
        (TRACESTATE, trace.as_ref().and_then(TraceContext::tracestate)),
    ];
    for (name, value) in about {
        let Some(value) = value else { continue };
        let value = HeaderValue::from_str(value)
            .map_err(|_| Failure::fatal(format!("{name} would hold characters that no header can")))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(())
}

/// The body, or its beginning as soon as that is longer than `limit`.
async fn read(response: &mut Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() <= limit
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A failure of the connection: worth a retry. The address stays out of the text, since its query
/// may hold what is nobody's business.
fn broken(what: &str, error: reqwest::Error) -> Failure {
    let cause = Failure::from(error.without_url());
    Failure::retry(format!("{what}: {}", cause.message))
}
