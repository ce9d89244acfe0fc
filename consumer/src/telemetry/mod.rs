//! Spans of tasks for OpenTelemetry: one for the wait, one for each run.
//!
//! Invariant: a worker without a tracer does none of this; per task it looks at one `Option`. No span decides anything: what
//! cannot be delivered is lost, and tasks go on.
//!
//! Without the feature `otel` the same names stand for types that have no value, so that nobody else asks for the feature.

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod spans;

use std::collections::{BTreeMap, HashMap};

use reqwest::Url;
use workyard_shared::job::Member;
use workyard_shared::name::JobId;

#[cfg(feature = "otel")]
pub(crate) use export::Pipeline;
#[cfg(not(feature = "otel"))]
pub(crate) use off::{Pipeline, RunSpan, Tracing, carried};
#[cfg(feature = "otel")]
pub(crate) use spans::{RunSpan, Tracing, carried};

/// Where spans go, and how; what it leaves open, the variables of the environment say.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "read by nobody"))]
pub(crate) struct Settings {
    /// The whole address.
    pub(crate) endpoint: Url,
    /// `None`: a variable names the service.
    pub(crate) service_name: Option<String>,
    /// `None`: a variable says, or all.
    pub(crate) sample_ratio: Option<f64>,
    /// Secrets in the open, for the exporter alone.
    pub(crate) headers: HashMap<String, String>,
}

/// What spans tell of a task whose run begins.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "told to nobody"))]
pub(crate) struct Claimed<'a> {
    pub(crate) queue: &'a str,
    pub(crate) consumer: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// Bytes of the payload as it is stored.
    pub(crate) bytes: usize,
    pub(crate) headers: &'a BTreeMap<String, String>,
    /// From when on it could run, or when it last failed: ms by Redis' clock.
    pub(crate) since_ms: u64,
    /// When it was claimed: us by Redis' clock.
    pub(crate) claimed_us: u64,
    /// The job that it is a step of, and which.
    pub(crate) step: Option<(&'a JobId, Member)>,
}
