//! What the status of an answer means for a task.
//!
//! Invariant: what the server says of the request itself (4xx but 408 and 429) is final; all else may be another time. A redirect is
//! not followed, since it could lead the payload anywhere; it is retried, since a server in a move may answer so for a while.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::super::tail;
use crate::Failure;

/// What a server asks for beyond this is its mistake, and must not park a task for years.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// `Ok` for success, else the failure; `body` is the beginning of what the server said.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, body: &str) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let message = tail::message(&format!("HTTP {status}"), body.trim());
    let limits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    Err(match retry_after(headers) {
        Some(delay) if limits => Failure::retry_after(message, delay),
        _ if status.is_client_error() && !limits && status != StatusCode::REQUEST_TIMEOUT => Failure::fatal(message),
        _ => Failure::retry(message),
    })
}

/// The delay that a server asks for: in seconds, or as a date (RFC 9110, 10.2.3). A date counts from the `Date` of the same
/// answer, so that the clocks of both machines need not agree; without one it is left to the task's backoff.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |name| DateTime::parse_from_rfc2822(text(name)?).ok();
    let delay = match text(RETRY_AFTER)?.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // One that is over by then means now.
        Err(_) => (date(RETRY_AFTER)? - date(DATE)?).to_std().unwrap_or_default(),
    };
    Some(delay.min(LONGEST_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Next;

    #[test]
    fn every_status_has_its_verdict() {
        let after = Next::RetryAfter(Duration::from_secs(7));
        let table = [
            (301, None, Next::Retry),
            (304, None, Next::Retry),
            (400, Some("7"), Next::Final),
            (404, None, Next::Final),
            (408, Some("7"), Next::Retry),
            (429, None, Next::Retry),
            (429, Some("7"), after),
            (500, Some("7"), Next::Retry),
            (502, None, Next::Retry),
            (503, Some("7"), after),
            (503, Some("Wed, 21 Oct 2026 07:28:07 GMT"), after),
            (
                503,
                Some("Wed, 21 Oct 2026 07:27:07 GMT"),
                Next::RetryAfter(Duration::ZERO),
            ),
            (503, Some("9999999999"), Next::RetryAfter(LONGEST_DELAY)),
            (503, Some("tomorrow"), Next::Retry),
            (503, Some("-1"), Next::Retry),
        ];
        for (status, retry_after, next) in table {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, "Wed, 21 Oct 2026 07:28:00 GMT".parse().unwrap());
            if let Some(value) = retry_after {
                headers.insert(RETRY_AFTER, value.parse().unwrap());
            }
            let failure = judge(StatusCode::from_u16(status).unwrap(), &headers, "why\n").unwrap_err();
            assert_eq!(failure.next, next, "{status} {retry_after:?}");
            assert!(failure.message.starts_with(&format!("HTTP {status} ")) && failure.message.ends_with(": why"));
        }
        let mut undated = HeaderMap::new();
        undated.insert(RETRY_AFTER, "Wed, 21 Oct 2026 07:28:07 GMT".parse().unwrap());
        let failure = judge(StatusCode::SERVICE_UNAVAILABLE, &undated, "").unwrap_err();
        assert_eq!(failure.next, Next::Retry, "nobody knows what time it is there");
        for status in [200, 201, 204] {
            assert_eq!(
                judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), ""),
                Ok(())
            );
        }
    }
}
