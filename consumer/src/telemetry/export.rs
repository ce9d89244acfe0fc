//! The way of spans to a collector: OTLP over HTTP, in batches, off the threads that run tasks.
//!
//! Invariant: a collector that is slow or away costs spans, never a task: what is made while [`BatchSpanProcessor`]'s queue is
//! full is lost, and [`Pipeline::end`] takes [`FLUSH`] at most. An outage is told once, when it begins and when it ends.
//! Headers of the requests are never shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::Handle;
use tracing::{info, warn};
use workyard_shared::Error;

use super::{Settings, Tracing};

/// How long the end of a daemon waits for its last spans.
const FLUSH: Duration = Duration::from_secs(3);

/// Delivers what its tracer makes.
#[derive(Debug)]
pub(crate) struct Pipeline {
    provider: SdkTracerProvider,
    tracing: Tracing,
    delivered: Arc<AtomicU64>,
}

impl Pipeline {
    /// Begins to deliver; requests are sent on `runtime`. Nothing is sent before there are spans.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a setting or a variable cannot work.
    pub(crate) fn start(settings: Settings, runtime: &Handle) -> Result<Self, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(format!("spans cannot be delivered: {error}"));
        let to = settings.endpoint.to_string();
        let otlp = Otlp::builder()
            .with_http()
            .with_endpoint(&to)
            .with_headers(settings.headers)
            .build()
            .map_err(|error| invalid(&error))?;
        let delivered = Arc::new(AtomicU64::new(0));
        let courier = Courier {
            otlp: Arc::new(otlp),
            runtime: runtime.clone(),
            delivered: Arc::clone(&delivered),
            failing: AtomicBool::new(false),
            to,
        };
        info!("spans go to {}", courier.to);
        let mut provider = SdkTracerProvider::builder();
        if let Some(ratio) = settings.sample_ratio {
            provider = provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))));
        }
        // It reads the variables.
        let mut resource = Resource::builder();
        if let Some(name) = settings.service_name {
            resource = resource.with_service_name(name);
        }
        let provider = provider
            .with_resource(resource.build())
            .with_span_processor(BatchSpanProcessor::builder(courier).build())
            .build();
        Ok(Self {
            tracing: Tracing::new(&provider),
            provider,
            delivered,
        })
    }

    /// What makes spans for it.
    pub(crate) fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// Delivers what is left, and says how much was lost.
    pub(crate) fn end(&self) {
        // What goes wrong shows in the count, and the courier has told why.
        self.provider.shutdown_with_timeout(FLUSH).ok();
        let (made, delivered) = (self.tracing.made(), self.delivered.load(Ordering::Relaxed));
        let lost = made.saturating_sub(delivered);
        if lost > 0 {
            warn!(
                made,
                lost,
                "{lost} of {made} spans were not delivered: the collector was away, or slower than OTEL_BSP_MAX_QUEUE_SIZE allows"
            );
        }
    }
}

/// Brings batches to the collector.
#[derive(Debug)]
struct Courier {
    otlp: Arc<Otlp>,
    runtime: Handle,
    delivered: Arc<AtomicU64>,
    failing: AtomicBool,
    to: String,
}

impl SpanExporter for Courier {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (count, otlp) = (batch.len() as u64, Arc::clone(&self.otlp));
        // The thread that asks belongs to no runtime.
        let sent = self.runtime.spawn(async move { otlp.export(batch).await }).await;
        let outcome = sent.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        match &outcome {
            Ok(()) => {
                self.delivered.fetch_add(count, Ordering::Relaxed);
                if self.failing.swap(false, Ordering::Relaxed) {
                    info!("spans are delivered to {} again", self.to);
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(%error, "spans cannot be delivered to {}; tasks go on, their spans are lost", self.to);
                }
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // It comes before the first batch, so nobody else holds it.
        if let Some(otlp) = Arc::get_mut(&mut self.otlp) {
            otlp.set_resource(resource);
        }
    }
}
