//! Looking at tasks: one by its id, or many, page by page.
//!
//! Invariant: nothing is read whole; each step takes a bounded number of tasks, fewer when they are
//! large. A page is a walk over a queue that lives: a task that moves to another place meanwhile may be missed, and
//! is never shown twice on one page. What comes or goes between two pages moves none of the others. Reads only.

use std::collections::{BTreeMap, HashSet};

use workyard_shared::broker::Holding;
use workyard_shared::name::QueueName;
use workyard_shared::record::State;

use crate::client::Client;
use crate::error::Error;
use crate::filter::{Cursor, Filter, Place};
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
        let not_found = || Error::NotFound {
            queue: queue.to_string(),
            id: id.to_owned(),
        };
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
        Ok(ids
            .iter()
            .zip(seen)
            .map(|(id, seen)| TaskView::from_seen(queue, id, seen).map(|view| self.open_view(view)))
            .collect())
    }

    /// One page of at most `limit` tasks that pass the filter, from `from` on: running first, then
    /// pending in the order of their claims, scheduled by due time, failed and finished ones newest
    /// first. A page may be short, even empty, and still have a next one when few tasks pass.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn list(
        &self,
        queue: &QueueName,
        filter: &Filter,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, Error> {
        let places = filter.places();
        let mut walk = Walk {
            client: self,
            queue,
            filter,
            limit,
            step: FIRST_STEP,
            left: LOOKED_AT,
            seen: HashSet::new(),
            tasks: Vec::new(),
            last: None,
        };
        let start = match from {
            None => 0,
            Some(cursor) => places.iter().position(|place| *place == cursor.place).ok_or_else(|| {
                Error::invalid(format!("cursor \"{cursor}\" belongs to a listing with another --state"))
            })?,
        };
        let mut offset = match from {
            Some(cursor) => walk.resume(cursor).await?,
            None => 0,
        };
        for place in &places[start..] {
            walk.last = None;
            if let Some(offset) = walk.place(*place, offset).await? {
                let next = walk.cursor(*place, offset).await?;
                return Ok(Page {
                    tasks: walk.tasks,
                    next: Some(next),
                });
            }
            offset = 0;
        }
        Ok(Page {
            tasks: walk.tasks,
            next: None,
        })
    }

    /// What consumers hold, by id, so that an offset means the same in the next call.
    async fn running(&self, queue: &QueueName) -> Result<BTreeMap<String, Holding>, Error> {
        let calls = self.queue(queue);
        let mut running = BTreeMap::new();
        for (consumer, _) in self.patiently(|| calls.consumers()).await? {
            let mut cursor = 0;
            while running.len() < RUNNING_SEEN {
                let (next, found) = self.patiently(|| calls.scan_running(&consumer, cursor)).await?;
                let holding = |token| Holding {
                    consumer: consumer.clone(),
                    token,
                };
                running.extend(found.into_iter().map(|(id, token)| (id, holding(token))));
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(running)
    }
}

fn is_newest_first(place: Place) -> bool {
    matches!(place, Place::Failed | Place::Done)
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
    /// The last task looked at in the place.
    last: Option<String>,
}

/// The score of those that are sorted by their ids.
const NO_SCORE: &str = "0";

impl Walk<'_> {
    /// Where the page of this cursor ended, as it is now.
    async fn resume(&self, cursor: &Cursor) -> Result<u64, Error> {
        let Some((id, score)) = &cursor.last else {
            return Ok(cursor.offset);
        };
        if cursor.place == Place::Running {
            let running = self.client.running(self.queue).await?;
            return Ok(running.range(..=id.clone()).count() as u64);
        }
        let calls = self.client.queue(self.queue);
        let (set, newest_first) = (cursor.place.name(), is_newest_first(cursor.place));
        self.client
            .patiently(|| calls.behind(set, id, score, newest_first))
            .await
    }

    async fn cursor(&self, place: Place, offset: u64) -> Result<Cursor, Error> {
        let calls = self.client.queue(self.queue);
        let score = match &self.last {
            Some(_) if place == Place::Running => Some(NO_SCORE.to_owned()),
            Some(id) => self.client.patiently(|| calls.anchor(place.name(), id)).await?,
            None => None,
        };
        Ok(Cursor {
            place,
            offset,
            last: self.last.clone().zip(score),
        })
    }

    /// Walks one place. `Some`: the page is full, the next one begins there.
    async fn place(&mut self, place: Place, mut offset: u64) -> Result<Option<u64>, Error> {
        let running = if place == Place::Running {
            self.client.running(self.queue).await?
        } else {
            BTreeMap::new()
        };
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
            self.step = if bytes > STEP_BYTES {
                (self.step / 2).max(1)
            } else {
                (self.step * 2).min(LARGEST_STEP)
            };
            for (id, view) in ids.iter().zip(views) {
                offset += 1;
                self.last = Some(id.clone());
                self.left = self.left.saturating_sub(1);
                if let Some(mut view) = view.filter(|view| self.filter.admits(view))
                    && self.seen.insert(view.id.clone())
                {
                    if let Some(holding) = running.get(id).filter(|_| view.state == State::Running) {
                        view.held(holding);
                    }
                    self.tasks.push(view);
                    if self.tasks.len() >= self.limit {
                        return Ok(Some(offset));
                    }
                }
            }
        }
    }

    async fn ids(&self, place: Place, offset: u64, running: &BTreeMap<String, Holding>) -> Result<Vec<String>, Error> {
        if place == Place::Running {
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            let step = usize::try_from(self.step).unwrap_or(usize::MAX);
            return Ok(running.keys().skip(from).take(step).cloned().collect());
        }
        let calls = self.client.queue(self.queue);
        self.client
            .patiently(|| calls.page(place.name(), offset, self.step, is_newest_first(place)))
            .await
    }
}
