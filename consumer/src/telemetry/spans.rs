//! The spans of one task, after OpenTelemetry's conventions for messaging.
//!
//! Invariant: wait and run of an attempt are in one trace, that of the task's headers if they name one; then both are below
//! its span. A run is current on every thread that works for it through this library. Error texts go along, payloads never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::context::FutureExt;
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use workyard_shared::broker::{FailVerdict, JobVerdict};
use workyard_shared::trace_context::TraceContext;

use super::Claimed;
use crate::done::Done;

/// Longest text of an error in a span, in characters.
const MAX_ERROR: usize = 1024;

/// Makes the spans of a worker's tasks.
#[derive(Debug, Clone)]
pub(crate) struct Tracing {
    tracer: SdkTracer,
    /// Spans that ended and are to be delivered.
    made: Arc<AtomicU64>,
}

impl Tracing {
    pub(crate) fn new(provider: &SdkTracerProvider) -> Self {
        let scope = InstrumentationScope::builder("workyard").with_version(env!("CARGO_PKG_VERSION"));
        Self {
            tracer: provider.tracer_with_scope(scope.build()),
            made: Arc::default(),
        }
    }

    /// How many spans were made so far, beside those that nobody records.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// The wait of a task has ended, and its run begins.
    pub(crate) fn begin(&self, task: &Claimed<'_>) -> RunSpan {
        let (now, about) = (now(), about(task));
        let above = TraceContext::of(task.headers).and_then(|trace| remote(&trace));
        let above = above.map(|span| Context::new().with_remote_span_context(span));
        let root = Context::new();
        let mut wait = self
            .tracer
            .span_builder(format!("wait {}", task.queue))
            .with_kind(SpanKind::Internal)
            // Redis' clock may be ahead of this machine's.
            .with_start_time(now.min(UNIX_EPOCH + Duration::from_millis(task.since_ms)))
            .with_attributes(about.iter().cloned())
            .start_with_context(&self.tracer, above.as_ref().unwrap_or(&root));
        let claimed = UNIX_EPOCH + Duration::from_micros(task.claimed_us);
        wait.add_event_with_timestamp("claimed", now.min(claimed), Vec::new());
        count(&self.made, wait.span_context());
        // A trace that begins here begins with the wait.
        let above = above.unwrap_or_else(|| root.with_remote_span_context(wait.span_context().clone()));
        wait.end_with_timestamp(now);
        let operation = [
            KeyValue::new("messaging.operation.name", "run"),
            KeyValue::new("messaging.operation.type", "process"),
        ];
        let run = self
            .tracer
            .span_builder(format!("run {}", task.queue))
            .with_kind(SpanKind::Consumer)
            .with_start_time(now)
            .with_attributes(about.into_iter().chain(operation))
            .start_with_context(&self.tracer, &above);
        RunSpan {
            context: Context::new().with_span(run),
            made: Arc::clone(&self.made),
        }
    }
}

/// Counts a span that somebody records.
fn count(made: &AtomicU64, span: &SpanContext) {
    if span.is_sampled() {
        made.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "spans of other programs are timed by the clocks of their machines; it decides nothing"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The attributes of both spans.
fn about(task: &Claimed<'_>) -> Vec<KeyValue> {
    let mut about = vec![
        KeyValue::new("messaging.system", "workyard"),
        KeyValue::new("messaging.destination.name", task.queue.to_owned()),
        KeyValue::new("messaging.message.id", task.id.to_owned()),
        KeyValue::new(
            "messaging.message.body.size",
            i64::try_from(task.bytes).unwrap_or(i64::MAX),
        ),
        KeyValue::new("messaging.client.id", task.consumer.to_owned()),
        KeyValue::new("workyard.kind", task.kind.to_owned()),
        KeyValue::new("workyard.attempt", i64::from(task.attempt)),
    ];
    if let Some((job, member)) = task.step {
        about.push(KeyValue::new("workyard.job", job.to_string()));
        about.push(KeyValue::new("workyard.step", member.to_string()));
    }
    about
}

/// The span that a trace context names.
fn remote(trace: &TraceContext) -> Option<SpanContext> {
    let flags = if trace.is_sampled() {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    let state = trace.tracestate().and_then(|state| state.parse::<TraceState>().ok());
    let (trace_id, span_id) = (TraceId::from_hex(trace.trace_id()), SpanId::from_hex(trace.parent_id()));
    Some(SpanContext::new(
        trace_id.ok()?,
        span_id.ok()?,
        flags,
        true,
        state.unwrap_or_default(),
    ))
}

/// The run of a task, until it ends.
pub(crate) struct RunSpan {
    context: Context,
    made: Arc<AtomicU64>,
}

impl RunSpan {
    /// What whoever works for the task hands on.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        let span = self.context.span();
        let own = span.span_context();
        let (trace, id, flags) = (own.trace_id(), own.span_id(), own.trace_flags().to_u8() & 1);
        let context = TraceContext::new(format!("00-{trace}-{id}-{flags:02x}")).ok()?;
        Some(context.with_state(&own.trace_state().header()))
    }

    /// Runs the task with this span as the current one, and ends it.
    pub(crate) async fn around(self, run: impl Future<Output = (Done, Duration)>) -> (Done, Duration) {
        // On the heap, so that a worker without a tracer moves no more than before.
        let ended = Box::pin(run).with_context(self.context.clone()).await;
        self.end(&ended.0);
        ended
    }

    fn end(self, done: &Done) {
        let span = self.context.span();
        let (outcome, error) = outcome(done);
        span.set_attribute(KeyValue::new("workyard.outcome", outcome));
        if let Some((kind, text)) = error {
            span.set_attribute(KeyValue::new("error.type", kind));
            span.set_status(Status::error(text.chars().take(MAX_ERROR).collect::<String>()));
        }
        count(&self.made, span.span_context());
        span.end();
    }
}

/// How a run ended, in one word; the sort and the text of its error.
fn outcome(done: &Done) -> (&'static str, Option<(&'static str, &str)>) {
    match done {
        Done::Completed(_) => ("completed", None),
        Done::Failed(report, _) => {
            let kind = match report.verdict {
                FailVerdict::Retry => "retry",
                FailVerdict::Final => "final",
                FailVerdict::Malformed => "malformed",
                FailVerdict::Timeout => "timeout",
                FailVerdict::Refused => "refused",
            };
            ("failed", Some((kind, report.error.as_str())))
        }
        Done::Member(_, _, outcome) => {
            let failed = |kind| ("failed", Some((kind, outcome.error.as_str())));
            match outcome.verdict {
                JobVerdict::Done => ("completed", None),
                JobVerdict::Retry => failed("retry"),
                JobVerdict::Final => failed("final"),
                JobVerdict::Timeout => failed("timeout"),
                JobVerdict::Elsewhere => ("handed-back", None),
                JobVerdict::Drop => ("cancelled", None),
            }
        }
        Done::HandedBack(_) => ("handed-back", None),
        Done::Dropped { .. } => ("cancelled", None),
    }
}

/// Work for another thread, on which the span that is current here will be current, too.
pub(crate) fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = Context::current();
    move || {
        let _current = context.has_active_span().then(|| context.attach());
        work()
    }
}
