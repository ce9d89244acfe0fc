//! Looking at tasks: one by its id, or many, page by page.
//!
//! Invariant: nothing is read whole; each step takes a bounded number of tasks, fewer when they are
//! large. A page is a walk over a queue that lives: a task that moves meanwhile may be missed, and
//! is never shown twice on one page. Reads only.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use workyard_shared::name::{Kind, QueueName};
use workyard_shared::record::State;
use workyard_shared::Error as CallError;

use crate::client::Client;
use crate::error::Error;
use crate::view::TaskView;

/// Tasks fetched in the first step, before their size is known.
const FIRST_STEP: u64 = 20;
/// Most tasks fetched in one step.
const LARGEST_STEP: u64 = 500;
/// A step that brought more bytes than this is followed by a smaller one.
const STEP_BYTES: usize = 1 << 20;
/// Tasks that one page looks at, at most, when the filter lets few through.
const LOOKED_AT: u64 = 50_000;
/// Running tasks that a page can see.
const RUNNING_SEEN: usize = 100_000;

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
            && self.error.as_ref().is_none_or(|part| task.error.as_ref().is_some_and(|error| error.contains(part)))
    }

    fn places(&self) -> &'static [Place] {
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
enum Place {
    Running,
    Pending,
    Scheduled,
    Failed,
    Done,
}

impl Place {
    const ALL: [Self; 5] = [Self::Running, Self::Pending, Self::Scheduled, Self::Failed, Self::Done];

    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// Where a page ended, as text like `pending:200`; give it back to get the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    place: Place,
    offset: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place.name(), self.offset)
    }
}

impl FromStr for Cursor {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        let wrong = || CallError::Invalid(format!("cursor \"{text}\" must be the one that the page before ended with"));
        let (place, offset) = text.split_once(':').ok_or_else(wrong)?;
        let place = Place::ALL.into_iter().find(|p| p.name() == place).ok_or_else(wrong)?;
        Ok(Self { place, offset: offset.parse().ok().filter(|n| *n < 1 << 52).ok_or_else(wrong)? })
    }
}

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Cursor>,
}

impl Client {
    /// What is known of a task.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not here and no result of it is kept; [`Error::Call`].
    pub async fn task(&self, queue: &QueueName, id: &str) -> Result<TaskView, Error> {
        let mut views = self.look(queue, &[id]).await?;
        let not_found = || Error::NotFound { queue: queue.to_string(), id: id.to_owned() };
        let mut view = views.pop().flatten().ok_or_else(not_found)?;
        if view.state == State::Running {
            let calls = self.queue(queue);
            if let Some(holding) = self.patiently(|| calls.holding(id)).await? {
                view.held(&holding);
            }
        }
        Ok(view)
    }

    /// What is known of each id (at most 1,000); `None` for those that are not here.
    pub(crate) async fn look(&self, queue: &QueueName, ids: &[&str]) -> Result<Vec<Option<TaskView>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let calls = self.queue(queue);
        let seen = self.patiently(|| calls.inspect(ids)).await?;
        Ok(ids.iter().zip(seen).map(|(id, seen)| TaskView::from_seen(queue, id, seen)).collect())
    }

    /// One page of at most `limit` tasks that pass the filter, from `from` on: running first, then
    /// pending in the order of their claims, scheduled by due time, failed and finished ones newest
    /// first. A page may be short, even empty, and still have a next one when few tasks pass.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn list(&self, queue: &QueueName, filter: &Filter, from: Option<&Cursor>, limit: usize) -> Result<Page, Error> {
        let places = filter.places();
        let mut walk = Walk { client: self, queue, filter, limit, step: FIRST_STEP, left: LOOKED_AT, seen: HashSet::new(), tasks: Vec::new() };
        let start = match from {
            None => 0,
            Some(cursor) => places.iter().position(|place| *place == cursor.place).ok_or_else(|| {
                Error::invalid(format!("cursor \"{cursor}\" belongs to a listing with another --state"))
            })?,
        };
        let mut offset = from.map_or(0, |cursor| cursor.offset);
        for place in &places[start..] {
            if let Some(offset) = walk.place(*place, offset).await? {
                return Ok(Page { tasks: walk.tasks, next: Some(Cursor { place: *place, offset }) });
            }
            offset = 0;
        }
        Ok(Page { tasks: walk.tasks, next: None })
    }

    /// Ids that consumers hold, sorted, so that an offset means the same in the next call.
    async fn running(&self, queue: &QueueName) -> Result<Vec<String>, Error> {
        let calls = self.queue(queue);
        let mut ids = Vec::new();
        for (consumer, _) in self.patiently(|| calls.consumers()).await? {
            let mut cursor = 0;
            while ids.len() < RUNNING_SEEN {
                let (next, found) = self.patiently(|| calls.scan_running(&consumer, cursor)).await?;
                ids.extend(found);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

struct Walk<'a> {
    client: &'a Client,
    queue: &'a QueueName,
    filter: &'a Filter,
    limit: usize,
    step: u64,
    left: u64,
    seen: HashSet<String>,
    tasks: Vec<TaskView>,
}

impl Walk<'_> {
    /// Walks one place. `Some`: the page is full, the next one begins there.
    async fn place(&mut self, place: Place, mut offset: u64) -> Result<Option<u64>, Error> {
        let running = if place == Place::Running { self.client.running(self.queue).await? } else { Vec::new() };
        loop {
            if self.tasks.len() >= self.limit || self.left == 0 {
                return Ok(Some(offset));
            }
            let ids = self.ids(place, offset, &running).await?;
            if ids.is_empty() {
                return Ok(None);
            }
            let refs: Vec<&str> = ids.iter().map(String::as_str).collect();
            let views = self.client.look(self.queue, &refs).await?;
            let bytes: usize = views.iter().flatten().map(TaskView::weight).sum();
            self.step = if bytes > STEP_BYTES { (self.step / 2).max(1) } else { (self.step * 2).min(LARGEST_STEP) };
            for view in views {
                offset += 1;
                self.left = self.left.saturating_sub(1);
                if let Some(view) = view.filter(|view| self.filter.admits(view))
                    && self.seen.insert(view.id.clone())
                {
                    self.tasks.push(view);
                    if self.tasks.len() >= self.limit {
                        return Ok(Some(offset));
                    }
                }
            }
        }
    }

    async fn ids(&self, place: Place, offset: u64, running: &[String]) -> Result<Vec<String>, Error> {
        let newest_first = matches!(place, Place::Failed | Place::Done);
        if place == Place::Running {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(running.len());
            let step = usize::try_from(self.step).unwrap_or(usize::MAX);
            return Ok(running[from..].iter().take(step).cloned().collect());
        }
        let calls = self.client.queue(self.queue);
        self.client.patiently(|| calls.page(place.name(), offset, self.step, newest_first)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let cursor: Cursor = "failed:120".parse().unwrap();
        assert_eq!(cursor.to_string(), "failed:120");
        for bad in ["", "failed", "failed:", "failed:-1", "nowhere:1", "1"] {
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
