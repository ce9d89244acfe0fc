//! Accepts connections and answers them, within limits.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Connections at once. One more closes the oldest: idle ones keep no probe out.
const CONNECTIONS: usize = 64;
/// Headers of a request.
const HEADERS: usize = 64;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// How long a request's head may take to arrive, also the first one.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may be used, whatever it does: an idle one is then closed, one under way too.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Pause when no connection can be accepted (no file descriptor is left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                    // It ends at once.
                    drop(oldest.await);
                }
                open.push_back(tokio::spawn(answer(stream, router.clone(), stop.clone())));
            }
            Err(error) => {
                debug!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            debug!(%error, "a connection ended early");
        },
        () = tokio::time::sleep(CONNECTION_TIME) => {}
        () = stop.cancelled() => {}
    }
}

/// Whether whoever asks wants OpenMetrics, as Prometheus does.
#[must_use]
pub fn accepts_open_metrics(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|text| text.contains("application/openmetrics-text"))
}
