//! metrics: the figures of the whole installation, printed once or served to Prometheus.
//!
//! Invariant: a server of these shows every queue that is known at the time of the scrape. While Redis is away it
//! says just that (`workyard_redis_up 0`), and goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use workyard_producer::{Client, Exposition, QueueName};
use workyard_shared::http::{Address, Kept, accepts_open_metrics, serve, verdict};
use workyard_shared::metrics::{Family, OPEN_METRICS, PLAIN};

use super::args::MetricsArgs;
use super::exit::{CliError, Exit};
use super::session::Session;

/// How long a scrape may take.
const SCRAPE_TIME: Duration = Duration::from_secs(5);

/// Prints them, or serves them until a signal.
pub(crate) async fn run(args: &MetricsArgs, session: &mut Session) -> Result<Exit, CliError> {
    match args.listen {
        Some(address) => listen(address, session).await,
        None => {
            let queues = session.queues().await?;
            let text = encode(session.client.metrics(&queues).await?, args.open_metrics)?;
            session.out.bytes(text.as_bytes())?;
            Ok(Exit::Done)
        }
    }
}

fn encode(figures: Exposition, open: bool) -> Result<String, CliError> {
    figures
        .encode(open)
        .map_err(|e| CliError::usage(format!("the figures cannot be written: {e}"), None))
}

struct Page {
    client: Client,
    /// `None`: all that are known.
    queue: Option<QueueName>,
    ready: Kept<Result<(), String>>,
    metrics: [Kept<String>; 2],
}

async fn listen(address: Address, session: &mut Session) -> Result<Exit, CliError> {
    let refuse = |e: std::io::Error| CliError::usage(format!("cannot listen on {address}: {e}"), None);
    let listener = TcpListener::bind(address.socket()).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    session.out.note(&format!("metrics on http://{bound}/metrics"));
    if !address.is_loopback() {
        session
            .out
            .note("note: others than this machine can reach it; it has no password and no encryption");
    }
    let page = Arc::new(Page {
        client: session.client.clone(),
        queue: session.named.then(|| session.queue.clone()),
        ready: Kept::default(),
        metrics: Default::default(),
    });
    let router = Router::new()
        .route("/metrics", get(scrape))
        // That it answers says all: it has no loops that could be wedged.
        .route("/healthz", get(async || verdict(Ok(()))))
        .route("/readyz", get(readyz))
        .with_state(page);
    let (mut term, mut int) = (
        signal(SignalKind::terminate()).map_err(refuse)?,
        signal(SignalKind::interrupt()).map_err(refuse)?,
    );
    tokio::select! {
        () = serve(listener, router, CancellationToken::new()) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(Exit::Done)
}

/// Whether there are figures: Redis answers, and the functions are loaded.
async fn readyz(State(page): State<Arc<Page>>) -> Response {
    verdict(page.ready.get(async { read(&page).await.map(drop) }).await)
}

async fn scrape(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    let open = accepts_open_metrics(&headers);
    // A sample that cannot be written would be a fault of ours: the page is then empty, which alarms.
    let text = async { figures(&page).await.encode(open).unwrap_or_default() };
    let text = page.metrics[usize::from(open)].get(text).await;
    ([(header::CONTENT_TYPE, if open { OPEN_METRICS } else { PLAIN })], text).into_response()
}

async fn figures(page: &Page) -> Exposition {
    read(page).await.unwrap_or_else(|error| {
        tracing::warn!(error, "Redis gave no figures");
        let mut figures = Exposition::default();
        figures.gauge(Family::REDIS_UP, &[], 0);
        figures
    })
}

/// The figures, or why there are none.
async fn read(page: &Page) -> Result<Exposition, String> {
    let read = async {
        let queues = match &page.queue {
            Some(queue) => vec![queue.clone()],
            None => page.client.queues().await?,
        };
        page.client.metrics(&queues).await
    };
    match tokio::time::timeout(SCRAPE_TIME, read).await {
        Ok(figures) => figures.map_err(|e| e.to_string()),
        Err(_) => Err(format!("Redis gave no figures within {} s", SCRAPE_TIME.as_secs())),
    }
}
