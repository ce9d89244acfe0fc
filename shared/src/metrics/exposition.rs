//! Samples on their way into the text that Prometheus reads.
//!
//! Invariant: a sample has exactly its family's labels, and families come in the order of the table.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::family::{FAMILIES, Family, Form};
use super::plain;

/// A histogram as it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Sum of what was observed, in the family's unit.
    pub sum: f64,
    /// Upper bound and number (not cumulative) of each bucket; the last bound is [`f64::MAX`], written as `+Inf`.
    pub buckets: Vec<(f64, u64)>,
}

#[derive(Debug)]
enum Value {
    Counter(u64),
    Amount(f64),
    Gauge(i64),
    Level(f64),
    Histogram(Histogram),
    Info,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// Samples by family.
#[derive(Debug, Default)]
pub struct Exposition {
    samples: BTreeMap<&'static str, Vec<Sample>>,
}

impl Exposition {
    /// A whole number that only grows.
    pub fn count(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.add(family, labels, Value::Counter(value));
    }

    /// An amount that only grows, such as seconds.
    pub fn amount(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.add(family, labels, Value::Amount(value));
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.add(family, labels, Value::Gauge(value));
    }

    /// A value that goes up and down and need not be whole.
    pub fn level(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.add(family, labels, Value::Level(value));
    }

    /// A distribution.
    pub fn histogram(&mut self, family: &'static Family, labels: &[&str], value: Histogram) {
        self.add(family, labels, Value::Histogram(value));
    }

    /// A family whose labels are the message.
    pub fn info(&mut self, family: &'static Family, labels: &[&str]) {
        self.add(family, labels, Value::Info);
    }

    fn add(&mut self, family: &'static Family, labels: &[&str], value: Value) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let labels = family
            .labels
            .iter()
            .copied()
            .zip(labels.iter().map(|text| (*text).to_owned()));
        let sample = Sample {
            labels: labels.collect(),
            value,
        };
        self.samples.entry(family.name).or_default().push(sample);
    }

    /// The text: OpenMetrics, or what Prometheus called plain text before it.
    ///
    /// # Errors
    /// [`fmt::Error`] if the encoder refuses a sample, which would be a fault of ours.
    pub fn encode(self, open_metrics: bool) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(if open_metrics { out } else { plain(&out) })
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in FAMILIES {
            let Some(samples) = self.samples.get(family.name) else {
                continue;
            };
            let metric = match family.form {
                Form::Counter => MetricType::Counter,
                Form::Gauge => MetricType::Gauge,
                Form::Histogram => MetricType::Histogram,
                Form::Info => MetricType::Info,
            };
            let mut encoder = encoder.encode_descriptor(family.base(), family.help, None, metric)?;
            for sample in samples {
                write(&mut encoder, sample)?;
            }
        }
        Ok(())
    }
}

fn write(encoder: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    if matches!(sample.value, Value::Info) {
        encoder.encode_info(&sample.labels)
    } else if sample.labels.is_empty() {
        // As a family it would have empty braces.
        write_value(encoder, &sample.value)
    } else {
        write_value(&mut encoder.encode_family(&sample.labels)?, &sample.value)
    }
}

fn write_value(encoder: &mut MetricEncoder<'_>, value: &Value) -> fmt::Result {
    let none = None::<&prometheus_client::metrics::exemplar::Exemplar<[(&str, &str); 0], f64>>;
    match value {
        Value::Counter(value) => encoder.encode_counter(value, none),
        Value::Amount(value) => encoder.encode_counter(value, none),
        Value::Gauge(value) => encoder.encode_gauge(value),
        Value::Level(value) => encoder.encode_gauge(value),
        Value::Histogram(value) => {
            let count = value.buckets.iter().map(|(_, n)| n).sum();
            encoder.encode_histogram::<[(&str, &str); 0]>(value.sum, count, &value.buckets, None)
        }
        Value::Info => Ok(()),
    }
}
