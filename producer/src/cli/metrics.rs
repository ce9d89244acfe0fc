//! metrics: the figures of the whole installation, printed once or served to Prometheus.
//!
//! Invariant: a server of these shows every queue that is known at the time of the scrape. While Redis is away it
//! says just that (`workyard_redis_up 0`), and goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use workyard_producer::{Client, Exposition, QueueName};
use workyard_shared::http::{Address, Kept, accepts_open_metrics, exposition, serve, verdict};
use workyard_shared::metrics::Family;

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
    /// The text in each format, or why there is none.
    texts: [Kept<Result<String, String>>; 2],
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
        texts: Default::default(),
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

/// Whether there are figures.
async fn readyz(State(page): State<Arc<Page>>) -> Response {
    verdict(text(&page, false).await.map(drop))
}

async fn scrape(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    let open = accepts_open_metrics(&headers);
    let text = text(&page, open).await.or_else(|_| {
        let mut figures = Exposition::default();
        figures.gauge(Family::REDIS_UP, &[], 0);
        figures.encode(open)
    });
    // A sample that cannot be written would be a fault of ours: the page is then empty, which alarms.
    exposition(text.unwrap_or_default(), open)
}

async fn text(page: &Page, open: bool) -> Result<String, String> {
    let make = async {
        let figures = read(page).await;
        if let Err(error) = &figures {
            tracing::warn!(error, "Redis gave no figures");
        }
        Ok(figures?.encode(open).unwrap_or_default())
    };
    page.texts[usize::from(open)].get(make).await
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
