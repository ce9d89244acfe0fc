//! Traces in programs that use the libraries: what is current in a handler, and what is handed on from there.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::Context as Current;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use workyard_consumer::{CancellationToken, Context, Failure, Registry, Worker};
use workyard_producer::{Client, ClientConfig, TraceContext, task};
use workyard_tests::{Running, Yard, queue_name, spawn};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Keeps what was delivered.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Kept {
    /// The `traceparent` of the run of that kind.
    fn run_of(&self, kind: &str) -> String {
        let spans = self.0.lock().unwrap();
        let says = |span: &SpanData| span.attributes.iter().any(|pair| pair.value.as_str() == kind);
        let run = spans.iter().find(|span| span.name == "run q" && says(span)).unwrap();
        let own = &run.span_context;
        format!("00-{}-{}-01", own.trace_id(), own.span_id())
    }
}

/// What a program in the place of the handler would hand on.
fn current() -> String {
    let current = Current::current();
    let span = current.span();
    let own = span.span_context();
    format!("00-{}-{}-01", own.trace_id(), own.span_id())
}

fn client(yard: &Yard) -> Client {
    Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap()
}

/// Handlers that answer what is current, what their context hands on, and what trace their headers name.
fn registry(client: Client) -> Registry {
    let mut registry = Registry::new();
    registry
        .register("async", |ctx: Context, (): ()| async move {
            tokio::task::yield_now().await;
            Ok::<_, Failure>([current(), onward(&ctx), named(&ctx)])
        })
        .unwrap();
    registry
        .register_blocking("blocking", |ctx: Context, (): ()| {
            Ok::<_, Failure>([current(), onward(&ctx), named(&ctx)])
        })
        .unwrap();
    registry
        .register("parent", move |ctx: Context, (): ()| {
            let client = client.clone();
            async move {
                ctx.enqueue(child("by-context")).await?;
                client.enqueue(&queue_name("q"), child("by-client")).await?;
                Ok::<_, Failure>([current(), onward(&ctx), named(&ctx)])
            }
        })
        .unwrap();
    registry
}

fn child(id: &str) -> workyard_producer::NewTask {
    task("async").payload(&()).id(id).build().unwrap()
}

fn onward(ctx: &Context) -> String {
    ctx.trace_context()
        .map_or_else(String::new, |trace| trace.traceparent().to_owned())
}

fn named(ctx: &Context) -> String {
    ctx.headers().get("traceparent").cloned().unwrap_or_default()
}

async fn answers(yard: &Yard, id: &str) -> [String; 3] {
    serde_json::from_str(&yard.result(id).await).unwrap()
}

async fn traced(client: &Client, kind: &str) -> String {
    let task = task(kind).payload(&()).trace_parent(PARENT).build().unwrap();
    client.enqueue(&queue_name("q"), task).await.unwrap().id.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_is_current_in_every_handler_and_the_parent_of_what_it_enqueues() {
    let (yard, kept) = (Yard::start().await, Kept::default());
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let client = client(&yard);
    let stop = CancellationToken::new();
    let worker = Worker::new(yard.config(), registry(client.clone()))
        .unwrap()
        .with_tracer_provider(&provider);
    let running = tokio::spawn(worker.run(stop.clone()));
    for kind in ["async", "blocking", "parent"] {
        let id = traced(&client, kind).await;
        let [current, onward, named] = answers(&yard, &id).await;
        if kind == "parent" {
            for id in ["by-context", "by-client"] {
                assert_eq!(answers(&yard, id).await[2], current, "{id}");
            }
        } else {
            assert_eq!(kept.run_of(kind), current);
        }
        assert!(current[..36] == PARENT[..36] && current != PARENT, "{kind}: {current}");
        assert_eq!((onward, named.as_str()), (current, PARENT), "{kind}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_spans_what_a_handler_enqueues_stays_in_the_trace_of_its_task() {
    let yard = Yard::start().await;
    let client = client(&yard);
    let running: Running = spawn(registry(client.clone()), yard.config());
    let id = traced(&client, "parent").await;
    let [_, onward, named] = answers(&yard, &id).await;
    assert_eq!((onward.as_str(), named.as_str()), (PARENT, PARENT));
    assert_eq!(answers(&yard, "by-context").await[2], PARENT);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_that_is_current_is_the_parent_of_what_a_client_enqueues() {
    let yard = Yard::start().await;
    let client = client(&yard);
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let stop = CancellationToken::new();
    let worker = Worker::new(yard.config(), registry(client.clone()))
        .unwrap()
        .with_tracer_provider(&provider);
    let running = tokio::spawn(worker.run(stop.clone()));
    let span =
        opentelemetry::trace::Tracer::start(&opentelemetry::trace::TracerProvider::tracer(&provider, "t"), "web");
    let expected = opentelemetry::trace::Span::span_context(&span).clone();
    let within = Current::new().with_span(span);
    let (one, job) = {
        use opentelemetry::context::FutureExt;
        let task = task("async").payload(&()).build().unwrap();
        let queue = queue_name("q");
        let sending = async {
            let one = client.enqueue(&queue, task).await.unwrap().id.to_string();
            let job = client
                .map_reduce(&queue, "sum", "sum")
                .items(1..=3)
                .submit()
                .await
                .unwrap();
            (one, job)
        };
        sending.with_context(within).await
    };
    let parent = TraceContext::new(answers(&yard, &one).await[2].clone()).unwrap();
    assert_eq!(parent.trace_id(), expected.trace_id().to_string());
    assert_eq!(parent.parent_id(), expected.span_id().to_string());
    job.wait_completed(Duration::from_secs(30)).await.unwrap();
    assert_eq!(job.result::<u64>().await.unwrap(), Some(6));
    let spans = kept.0.lock().unwrap().clone();
    let steps: Vec<_> = spans
        .iter()
        .filter(|span| span.attributes.iter().any(|pair| pair.key.as_str() == "workyard.step"))
        .collect();
    assert!(steps.len() >= 4, "{spans:#?}");
    assert!(
        steps.iter().all(|span| span.parent_span_id == expected.span_id()),
        "{steps:#?}"
    );
    stop.cancel();
    running.await.unwrap().unwrap();
}
