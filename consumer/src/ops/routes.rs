//! `/healthz`, `/readyz`, `/metrics`.
//!
//! Invariant: whoever asks often costs Redis no more than who asks once a second: answers are shared for that long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Mutex;
use workyard_shared::http::accepts_open_metrics;
use workyard_shared::metrics::{Exposition, Family, OPEN_METRICS, PLAIN, queues};

use super::outside::View;
use crate::metrics;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);
/// How long a scrape waits for what Redis holds; then it shows the rest.
const REDIS_TIME: Duration = Duration::from_secs(3);

type Kept<T> = Mutex<Option<(Instant, T)>>;

struct Pages {
    view: Arc<View>,
    ready: Kept<Result<(), String>>,
    metrics: [Kept<String>; 2],
}

pub(super) fn router(view: Arc<View>) -> Router {
    let pages = Arc::new(Pages {
        view,
        ready: Mutex::default(),
        metrics: Default::default(),
    });
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(pages)
}

/// The kept answer, or a new one; who comes while it is made waits for it.
async fn kept<T: Clone>(kept: &Kept<T>, make: impl Future<Output = T>) -> T {
    let mut kept = kept.lock().await;
    match &*kept {
        Some((at, answer)) if at.elapsed() < FRESH => answer.clone(),
        _ => {
            let answer = make.await;
            *kept = Some((Instant::now(), answer.clone()));
            answer
        }
    }
}

fn answer(verdict: Result<(), String>) -> Response {
    let (code, json) = match verdict {
        Ok(()) => (StatusCode::OK, serde_json::json!({ "status": "ok" })),
        Err(reason) => {
            let json = serde_json::json!({ "status": "unavailable", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, json)
        }
    };
    let head = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (code, head, format!("{json}\n")).into_response()
}

async fn healthz(State(pages): State<Arc<Pages>>) -> Response {
    answer(pages.view.alive())
}

async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    answer(kept(&pages.ready, pages.view.ready()).await)
}

async fn scrape(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let open = accepts_open_metrics(&headers);
    let text = kept(&pages.metrics[usize::from(open)], expose(&pages.view, open)).await;
    ([(header::CONTENT_TYPE, if open { OPEN_METRICS } else { PLAIN })], text).into_response()
}

async fn expose(view: &View, open: bool) -> String {
    let mut out = Exposition::default();
    if let Some(fleet) = view.fleet.get() {
        metrics::collect(&mut out, fleet, view.started);
    }
    let read = tokio::time::timeout(REDIS_TIME, queues::read(&mut out, &view.broker, &view.queues())).await;
    if !matches!(read, Ok(Ok(()))) {
        out.gauge(Family::REDIS_UP, &[], 0);
    }
    // A sample that cannot be written would be a fault of ours: the page is then empty, which alarms.
    out.encode(open).unwrap_or_default()
}
