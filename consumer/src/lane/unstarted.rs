//! What Redis is told of a claimed task that does not start here: it goes back, or it has failed.
//!
//! Invariant: no handler saw it. Why it does not start, `held.rs` has found out.

use std::time::Duration;

use workyard_shared::broker::{FailVerdict, FailureReport, Grant, Handback, JobOutcome, JobVerdict};
use workyard_shared::record::Record;

use crate::done::Done;
use crate::jobs::MemberTask;

/// How long a task of a kind that nobody here knows, but somebody elsewhere, is left to those.
pub(super) const ELSEWHERE_DELAY: Duration = Duration::from_millis(500);
/// How long one of a kind that nobody at all seems to know is.
pub(super) const UNHANDLED_DELAY: Duration = Duration::from_secs(5);
/// How long a task that a newer release wrote is left to others.
pub(super) const NEWER_DELAY: Duration = Duration::from_secs(30);

/// Nobody here knows the function: the job's record says so at once.
pub(super) fn member_elsewhere(grant: &Grant, member: MemberTask, record: &Record) -> Done {
    let why = format!("no handler: this consumer has no function {} for jobs", record.kind());
    member_failed(grant, member, record, JobVerdict::Elsewhere, why)
}

pub(super) fn member_failed(
    grant: &Grant,
    member: MemberTask,
    record: &Record,
    verdict: JobVerdict,
    error: String,
) -> Done {
    let outcome = JobOutcome {
        id: grant.id.clone(),
        token: grant.token,
        delay: (verdict == JobVerdict::Elsewhere).then_some(UNHANDLED_DELAY),
        verdict,
        random: 0.0,
        run: Duration::ZERO,
        error,
        parts: Vec::new(),
    };
    Done::Member(member.job, record.kind().to_owned(), outcome)
}

pub(super) fn handback(grant: &Grant, unhandled: bool, delay: Duration) -> Handback {
    Handback {
        id: grant.id.clone(),
        token: grant.token,
        unhandled: unhandled.then(|| grant.kind().to_owned()),
        delay,
    }
}

pub(super) fn malformed(grant: &Grant, record: &Record, error: &str) -> Done {
    let report = FailureReport {
        id: grant.id.clone(),
        token: grant.token,
        verdict: FailVerdict::Malformed,
        delay: None,
        run: Duration::ZERO,
        random: 0.0,
        error: format!("malformed: {error}"),
    };
    Done::Failed(report, record.kind().to_owned())
}
