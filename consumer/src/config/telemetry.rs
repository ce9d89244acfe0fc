//! `[telemetry]`: where spans of tasks go.
//!
//! Invariant: the endpoint is an address that this daemon can speak to, and holds no credentials (those belong in headers,
//! which are never shown).

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

use super::http;
use super::problem::Problem;
use super::secret::{Secret, SecretSource};

/// Where spans go, under which name, and how many.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TelemetryConfig {
    /// `endpoint`: the collector, without `/v1/traces`. `None`: only `--otlp-endpoint` or a variable says it, or there is none.
    pub endpoint: Option<Url>,
    /// `service_name`: what this daemon is called in traces (default `workyard-consumer`).
    pub service_name: Option<String>,
    /// `sample_ratio`: the part of new traces that is recorded, 0 to 1 (default all).
    pub sample_ratio: Option<f64>,
    /// `headers`: sent with each request to the collector.
    pub headers: BTreeMap<String, Secret>,
}

/// Spans of OpenTelemetry, one for the wait and one for each run of a task (docs/operations.md#traces). The standard variables
/// `OTEL_*` come first.
#[derive(Deserialize, JsonSchema, Default)]
#[schemars(rename = "Telemetry")]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    /// The collector's address for OTLP over HTTP, such as `http://127.0.0.1:4318`; `--otlp-endpoint` and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` come first. Without any of them there are no spans.
    endpoint: Option<String>,
    /// What the daemon is called in traces; `OTEL_SERVICE_NAME` comes first. Default `workyard-consumer`.
    service_name: Option<String>,
    /// The part of traces that begin here which is recorded, 0 to 1; a task that came with a trace context follows that.
    /// `OTEL_TRACES_SAMPLER` comes first. Default 1.
    sample_ratio: Option<f64>,
    /// Headers of every request to the collector; those of `OTEL_EXPORTER_OTLP_HEADERS` come first.
    #[serde(default)]
    headers: BTreeMap<String, SecretSource>,
}

impl Raw {
    pub(super) fn check(self, base: &Path) -> Result<TelemetryConfig, Problem> {
        let endpoint = self.endpoint.as_deref().map(endpoint).transpose();
        if let Some(ratio) = self.sample_ratio.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
            return Err(refuse("sample_ratio", format!("{ratio} is out of range; give 0 to 1")));
        }
        if self.service_name.as_deref().is_some_and(|name| name.trim().is_empty()) {
            return Err(refuse(
                "service_name",
                "is empty; give a name, or leave it out".to_owned(),
            ));
        }
        let mut headers = BTreeMap::new();
        for (name, source) in self.headers {
            let (key, value) =
                http::header(&name, source, base).map_err(|text| refuse(&format!("headers.{name}"), text))?;
            let value = value
                .to_str()
                .map_err(|_| refuse(&format!("headers.{name}"), "the value must be visible ASCII".to_owned()))?;
            headers.insert(key.to_string(), Secret::new(value));
        }
        Ok(TelemetryConfig {
            endpoint: endpoint.map_err(|text| refuse("endpoint", text))?,
            service_name: self.service_name,
            sample_ratio: self.sample_ratio,
            headers,
        })
    }
}

fn refuse(field: &str, text: String) -> Problem {
    Problem::new(field, text).under("telemetry")
}

/// Checks an address of a collector; the error says what is wrong and what would be right.
pub(crate) fn endpoint(text: &str) -> Result<Url, String> {
    if !cfg!(feature = "otel") {
        return Err("this daemon was built without OpenTelemetry; build it with `--features otel`".to_owned());
    }
    http::address(text, "http://127.0.0.1:4318")
}
