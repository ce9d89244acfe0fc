//! What became of a claimed task, and what that says of it, of its kind and of this consumer.
//!
//! Invariant: it names the claim, id and token, that it ended.

use std::time::Duration;

use workyard_shared::balance;
use workyard_shared::broker::{Completion, FailVerdict, FailureReport, Handback, JobOutcome, JobVerdict};
use workyard_shared::name::JobId;

/// What became of a claimed task.
pub(crate) enum Done {
    Completed(Completion),
    Failed(FailureReport, String),
    /// A step of a job, however it ended.
    Member(JobId, String, JobOutcome),
    /// It cannot run here.
    HandedBack(Handback),
    /// Cancelled, or its lease lost: there is nothing to say.
    Dropped {
        id: String,
        token: u64,
    },
}

impl Done {
    /// The kind of a task that was run to an end; `None` if it was stopped or handed back.
    pub(crate) fn kind(&self) -> Option<&str> {
        match self {
            Self::Completed(completion) => Some(&completion.kind),
            Self::Failed(_, kind) => Some(kind),
            Self::Member(_, kind, outcome) => {
                (!matches!(outcome.verdict, JobVerdict::Drop | JobVerdict::Elsewhere)).then_some(kind)
            }
            Self::HandedBack(_) | Self::Dropped { .. } => None,
        }
    }

    /// A failure as if the task had not been tried: no attempt is burnt. Steps of jobs are settled by their own rules.
    pub(crate) fn as_handback(&self, delay: Duration) -> Option<Handback> {
        let Self::Failed(report, _) = self else { return None };
        Some(Handback {
            id: report.id.clone(),
            token: report.token,
            unhandled: None,
            delay,
        })
    }

    /// A failure that another attempt may mend is none: of a run that was told to end and goes back.
    pub(crate) fn unless_failed(mut self) -> Self {
        match &mut self {
            Self::Failed(report, _) if report.verdict == FailVerdict::Retry => Self::Dropped {
                id: std::mem::take(&mut report.id),
                token: report.token,
            },
            Self::Member(_, _, outcome) if outcome.verdict == JobVerdict::Retry => {
                outcome.verdict = JobVerdict::Drop;
                self
            }
            _ => self,
        }
    }

    /// Whether no handler saw it: that tells nothing of this consumer or of the kind.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed(report, _) if report.verdict == FailVerdict::Refused)
    }

    /// Of one that never started: whether it is a step of a job that may not run here at all.
    pub(crate) fn is_refused_step(&self) -> bool {
        matches!(self, Self::Member(_, _, outcome) if outcome.verdict == JobVerdict::Final)
    }

    /// Whether the attempt failed.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Failed(..) => true,
            Self::Member(_, _, outcome) => !matches!(
                outcome.verdict,
                JobVerdict::Done | JobVerdict::Drop | JobVerdict::Elsewhere
            ),
            Self::Completed(_) | Self::HandedBack(_) | Self::Dropped { .. } => false,
        }
    }

    /// What it says of the kind and of this consumer.
    pub(crate) fn outcome(&self) -> balance::Outcome {
        match self {
            Self::Failed(report, _) if report.verdict == FailVerdict::Final => balance::Outcome::Final,
            Self::Member(_, _, outcome) if outcome.verdict == JobVerdict::Final => balance::Outcome::Final,
            other => balance::Outcome::of(!other.is_failure()),
        }
    }

    pub(crate) fn claim(&self) -> (&str, u64) {
        match self {
            Self::Completed(c) => (&c.id, c.token),
            Self::Failed(f, _) => (&f.id, f.token),
            Self::Member(_, _, outcome) => (&outcome.id, outcome.token),
            Self::HandedBack(back) => (&back.id, back.token),
            Self::Dropped { id, token } => (id, *token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(verdict: FailVerdict) -> Done {
        let report = FailureReport {
            id: "a".to_owned(),
            token: 7,
            verdict,
            delay: None,
            random: 0.0,
            run: Duration::ZERO,
            error: "told to end".to_owned(),
        };
        Done::Failed(report, "kind".to_owned())
    }

    #[test]
    fn a_run_that_was_told_to_end_and_failed_burns_no_attempt_unless_it_gave_up_for_good() {
        let Done::Dropped { id, token } = failed(FailVerdict::Retry).unless_failed() else {
            panic!("a failure that another attempt may mend")
        };
        assert_eq!((id.as_str(), token), ("a", 7));
        for verdict in [FailVerdict::Final, FailVerdict::Refused, FailVerdict::Timeout] {
            assert!(failed(verdict).unless_failed().is_failure());
        }
    }
}
