//! Which trace the tasks of this client belong to.
//!
//! Invariant: a task that names a trace in its headers keeps it. With the feature `otel`, any other task that is enqueued
//! while a span of OpenTelemetry is current belongs to that span's trace, whoever made it; without the feature nothing is done.

use std::collections::BTreeMap;

/// Writes the current context of OpenTelemetry into headers that name no trace.
#[cfg(feature = "otel")]
pub(crate) fn inject_current(headers: &mut BTreeMap<String, String>) {
    use opentelemetry::trace::TraceContextExt;
    use workyard_shared::trace_context::TraceContext;

    let context = opentelemetry::Context::current();
    let span = context.span();
    let current = span.span_context();
    if !current.is_valid() {
        return;
    }
    let (trace, parent, flags) = (current.trace_id(), current.span_id(), current.trace_flags().to_u8() & 1);
    // Always sound: its parts are.
    if let Ok(context) = TraceContext::new(format!("00-{trace}-{parent}-{flags:02x}")) {
        context.with_state(&current.trace_state().header()).inject(headers);
    }
}

/// Without the feature there is no current context.
#[cfg(not(feature = "otel"))]
pub(crate) fn inject_current(_headers: &mut BTreeMap<String, String>) {}

#[cfg(all(test, feature = "otel"))]
mod tests {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

    use super::*;

    const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_current_span_is_the_parent_of_what_names_no_trace() {
        let mut headers = BTreeMap::new();
        inject_current(&mut headers);
        assert!(headers.is_empty());
        let span = SpanContext::new(
            TraceId::from_hex(&SOUND[3..35]).unwrap(),
            SpanId::from_hex(&SOUND[36..52]).unwrap(),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let _current = Context::new().with_remote_span_context(span).attach();
        inject_current(&mut headers);
        assert_eq!(headers["traceparent"], SOUND);
        headers.insert("traceparent".to_owned(), "mine".to_owned());
        inject_current(&mut headers);
        assert_eq!(headers["traceparent"], "mine");
    }
}
