//! Which tasks a listing shows, and where a page ended.
//!
//! Invariant: a cursor's text is read back as the same cursor. It asks Redis nothing.

use std::fmt;
use std::str::FromStr;

use workyard_shared::Error as CallError;
use workyard_shared::name::Kind;
use workyard_shared::record::State;

use crate::view::TaskView;

/// Which tasks to show; an empty filter shows all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only tasks in this state.
    pub state: Option<State>,
    /// Only tasks of this kind.
    pub kind: Option<Kind>,
    /// Only tasks whose last error contains this text.
    pub error: Option<String>,
}

impl Filter {
    /// Whether it lets the task through.
    #[must_use]
    pub fn admits(&self, task: &TaskView) -> bool {
        self.state.is_none_or(|state| state == task.state)
            && self.kind.as_ref().is_none_or(|kind| kind.as_str() == task.kind)
            && self
                .error
                .as_ref()
                .is_none_or(|part| task.error.as_ref().is_some_and(|error| error.contains(part)))
    }

    /// What it lets through, in a line for the audit.
    pub(crate) fn words(&self) -> String {
        let mut words = "all".to_owned();
        if let Some(state) = self.state {
            words += &format!(" state={}", state.as_str());
        }
        if let Some(kind) = &self.kind {
            words += &format!(" kind={kind}");
        }
        if let Some(error) = &self.error {
            let text: String = error.chars().filter(|c| !c.is_control()).take(30).collect();
            words += &format!(" error={text}");
        }
        words
    }

    pub(crate) fn places(&self) -> &'static [Place] {
        match self.state {
            None => &Place::ALL,
            Some(State::Pending) => &[Place::Pending],
            Some(State::Scheduled | State::Retrying) => &[Place::Scheduled],
            Some(State::Running) => &[Place::Running],
            Some(State::Failed) => &[Place::Failed],
            Some(State::Completed | State::Cancelled | State::Expired) => &[Place::Done],
        }
    }
}

/// Where tasks stand in Redis, in the order in which a listing walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Running,
    Pending,
    Scheduled,
    Failed,
    Done,
}

impl Place {
    const ALL: [Self; 5] = [Self::Running, Self::Pending, Self::Scheduled, Self::Failed, Self::Done];

    /// The name of its set in Redis, or `running`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// Where a page ended, as text like `pending:200:<score>:<id>`; give it back to get the next. It names the last task of the page,
/// so that what came or went before it meanwhile makes the next page neither pass over tasks nor show them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) place: Place,
    pub(crate) offset: u64,
    /// The last task, and its score.
    pub(crate) last: Option<(String, String)>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place.name(), self.offset)?;
        match &self.last {
            Some((id, score)) => write!(f, ":{score}:{id}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        let wrong = || {
            CallError::Invalid(format!(
                "cursor \"{text}\" must be the one that the page before ended with"
            ))
        };
        let (place, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (offset, last) = match rest.split_once(':') {
            Some((offset, last)) => {
                let (score, id) = last.split_once(':').ok_or_else(wrong)?;
                score
                    .parse::<f64>()
                    .ok()
                    .filter(|score| score.is_finite())
                    .ok_or_else(wrong)?;
                (offset, Some((id.to_owned(), score.to_owned())))
            }
            None => (rest, None),
        };
        let place = Place::ALL.into_iter().find(|p| p.name() == place).ok_or_else(wrong)?;
        Ok(Self {
            place,
            offset: offset.parse().ok().filter(|n| *n < 1 << 52).ok_or_else(wrong)?,
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use workyard_shared::name::QueueName;

    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let cursor: Cursor = "failed:120".parse().unwrap();
        assert_eq!(cursor.to_string(), "failed:120");
        let cursor: Cursor = "failed:120:1795955940123:a:b".parse().unwrap();
        assert_eq!(cursor.last, Some(("a:b".to_owned(), "1795955940123".to_owned())));
        assert_eq!(cursor.to_string(), "failed:120:1795955940123:a:b");
        for bad in [
            "",
            "failed",
            "failed:",
            "failed:-1",
            "nowhere:1",
            "1",
            "failed:1:nan:a",
            "failed:1:x:a",
            "failed:1:2",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_admits_what_meets_all_of_it() {
        let mut task = TaskView::bare(&QueueName::new("q").unwrap(), "a", State::Failed);
        task.kind = "mail".to_owned();
        task.error = Some("connection refused".to_owned());
        let mut filter = Filter::default();
        assert!(filter.admits(&task));
        filter.error = Some("refused".to_owned());
        filter.kind = Some(Kind::new("mail").unwrap());
        assert!(filter.admits(&task));
        filter.state = Some(State::Pending);
        assert!(!filter.admits(&task));
    }
}
