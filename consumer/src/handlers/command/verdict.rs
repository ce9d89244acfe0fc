//! What an exit status means for a task.
//!
//! Invariant: only exit code 0 completes. 75 always means retry; codes of the configured list
//! fail for good; everything else, a signal included, means retry.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use workyard_shared::duration;
use workyard_shared::limits::MAX_DURATION_MS;

use super::super::tail;
use crate::Failure;
use crate::config::EX_TEMPFAIL;

/// What a program writes as its last line to say when to retry.
const RETRY_AFTER: &str = "workyard-retry-after:";

/// `Ok` for success, else the failure; `stderr` becomes its message.
pub(super) fn judge(status: ExitStatus, stderr: &str, final_codes: &BTreeSet<u8>) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let headline = describe(status);
    if code == Some(EX_TEMPFAIL)
        && let Some((rest, delay)) = retry_after(stderr)
    {
        return Err(Failure::retry_after(tail::message(&headline, rest), delay));
    }
    let message = tail::message(&headline, stderr);
    match code {
        Some(code) if final_codes.contains(&code) => Err(Failure::fatal(message)),
        _ => Err(Failure::retry(message)),
    }
}

/// The status in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The delay in the last line of `stderr`, if that is what it holds, and the text before it. A
/// line that does not parse stays in the message, where people will see it.
fn retry_after(stderr: &str) -> Option<(&str, Duration)> {
    let stderr = stderr.trim_end();
    let (rest, last) = stderr.rsplit_once('\n').unwrap_or(("", stderr));
    let delay = duration::parse(last.trim().strip_prefix(RETRY_AFTER)?.trim()).ok()?;
    Some((rest.trim_end(), delay.min(Duration::from_millis(MAX_DURATION_MS))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Next;

    #[test]
    fn every_exit_status_has_its_verdict() {
        let table = [
            (1 << 8, "why", Next::Retry, "exit code 1: why"),
            (65 << 8, "bad data", Next::Final, "exit code 65: bad data"),
            (78 << 8, "", Next::Final, "exit code 78"),
            (75 << 8, "busy", Next::Retry, "exit code 75: busy"),
            (255 << 8, "", Next::Retry, "exit code 255"),
            (9, "", Next::Retry, "killed by signal 9"),
            (
                75 << 8,
                "busy\nworkyard-retry-after: 1m 30s",
                Next::RetryAfter(Duration::from_secs(90)),
                "exit code 75: busy",
            ),
            (
                75 << 8,
                "workyard-retry-after: soon",
                Next::Retry,
                "exit code 75: workyard-retry-after: soon",
            ),
            (
                1 << 8,
                "workyard-retry-after: 30s",
                Next::Retry,
                "exit code 1: workyard-retry-after: 30s",
            ),
        ];
        let final_codes = BTreeSet::from([65, 78]);
        for (status, stderr, next, message) in table {
            let failure = judge(ExitStatus::from_raw(status), stderr, &final_codes).unwrap_err();
            assert_eq!((failure.next, failure.message.as_str()), (next, message));
        }
        assert_eq!(judge(ExitStatus::from_raw(0), "noise", &final_codes), Ok(()));
    }
}
