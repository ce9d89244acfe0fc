//! Without the feature `otel`: types that have no value, so that an `Option` of them is always `None`.

use std::time::Duration;

use tokio::runtime::Handle;
use workyard_shared::Error;
use workyard_shared::trace_context::TraceContext;

use super::{Claimed, Settings};
use crate::done::Done;

/// No tracer.
#[derive(Clone)]
pub(crate) enum Tracing {}

impl Tracing {
    pub(crate) fn begin(&self, _task: &Claimed<'_>) -> RunSpan {
        match *self {}
    }
}

/// No span.
pub(crate) enum RunSpan {}

impl RunSpan {
    pub(crate) fn context(&self) -> Option<TraceContext> {
        match *self {}
    }

    pub(crate) async fn around(self, _run: impl Future<Output = (Done, Duration)>) -> (Done, Duration) {
        match self {}
    }
}

/// The work itself: there is nothing to carry along.
pub(crate) fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    work
}

/// No way to a collector.
pub(crate) enum Pipeline {}

impl Pipeline {
    pub(crate) fn start(_settings: Settings, _runtime: &Handle) -> Result<Self, Error> {
        Err(Error::Invalid(
            "this daemon was built without OpenTelemetry; build it with `--features otel`".to_owned(),
        ))
    }

    pub(crate) fn tracing(&self) -> Tracing {
        match *self {}
    }

    pub(crate) fn end(&self) {
        match *self {}
    }
}
