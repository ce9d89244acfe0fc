//! The trace that this program was started in: `TRACEPARENT` and `TRACESTATE` of its environment, as CI systems and other
//! tools hand them on.
//!
//! Invariant: what is no trace context is told once and changes nothing else.

use std::env::var;

use workyard_producer::TraceContext;

use super::output::Out;

/// The context that the environment names, if it does.
pub(crate) fn surrounding(out: &Out) -> Option<TraceContext> {
    let parent = var("TRACEPARENT").ok().filter(|parent| !parent.is_empty())?;
    match TraceContext::new(parent) {
        Ok(context) => Some(context.with_state(&var("TRACESTATE").unwrap_or_default())),
        Err(error) => {
            out.note(&format!("note: the variable TRACEPARENT is left out: {error}"));
            None
        }
    }
}
