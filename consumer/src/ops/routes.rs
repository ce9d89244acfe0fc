//! `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use workyard_shared::http::{Kept, accepts_open_metrics, exposition, verdict};
use workyard_shared::metrics::{Exposition, Family, queues};

use super::outside::View;
use crate::metrics;

/// How long a scrape waits for what Redis holds; then it shows the rest.
const REDIS_TIME: Duration = Duration::from_secs(3);

struct Pages {
    view: Arc<View>,
    ready: Kept<Result<(), String>>,
    metrics: [Kept<String>; 2],
}

pub(super) fn router(view: Arc<View>) -> Router {
    let pages = Arc::new(Pages {
        view,
        ready: Kept::default(),
        metrics: Default::default(),
    });
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(pages)
}

async fn healthz(State(pages): State<Arc<Pages>>) -> Response {
    verdict(pages.view.alive())
}

async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    verdict(pages.ready.get(pages.view.ready()).await)
}

async fn scrape(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let open = accepts_open_metrics(&headers);
    let text = pages.metrics[usize::from(open)].get(expose(&pages.view, open)).await;
    exposition(text, open)
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
