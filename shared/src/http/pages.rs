//! What pages of a server have in common: an answer that is shared for a while, a verdict as JSON, figures.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;

use crate::metrics::{OPEN_METRICS, PLAIN};

/// How long an answer is given again: whoever asks often costs Redis no more than who asks once a second.
const FRESH: Duration = Duration::from_secs(1);

/// An answer that is given to all who ask within a second.
#[derive(Debug)]
pub struct Kept<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// The answer, or a new one; who comes while it is made waits for it.
    pub async fn get(&self, make: impl Future<Output = T>) -> T {
        let mut kept = self.0.lock().await;
        match &*kept {
            Some((at, answer)) if at.elapsed() < FRESH => answer.clone(),
            _ => {
                let answer = make.await;
                *kept = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }
}

/// 200 and `{"status":"ok"}`, or 503 with the reason.
#[must_use]
pub fn verdict(verdict: Result<(), String>) -> Response {
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

/// Figures as text, in the format of OpenMetrics or in the older one.
#[must_use]
pub fn exposition(text: String, open: bool) -> Response {
    ([(header::CONTENT_TYPE, if open { OPEN_METRICS } else { PLAIN })], text).into_response()
}
