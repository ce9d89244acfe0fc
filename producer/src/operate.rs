//! What operators do: cancel, retry, delete, purge, pause, resume, install.
//!
//! Invariant: large operations go in bounded steps and end even while producers add: the number of
//! tasks at the start bounds them. A call whose reply is lost is sent again; its second answer may
//! then count a task as "not here" that the first has dealt with.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinSet;
use workyard_shared::broker::{AuditEntry, CancelAnswer, Deleted, PurgePlace};
use workyard_shared::name::QueueName;
use workyard_shared::options::TaskType;
use workyard_shared::record::State;
use workyard_shared::settings::{Setting, Settings};

use crate::client::Client;
use crate::error::Error;
use crate::filter::{Cursor, Filter};
use crate::view::TaskView;

/// Dead letters looked at in one step of a retry of many.
const STEP: u64 = 200;
/// Ids in one call.
const CALL_IDS: usize = 500;

/// Tasks that are cancelled at the same time.
const AT_ONCE: usize = 64;

impl Client {
    /// Cancels a task wherever it is. On return it is terminal in Redis; a handler that runs it
    /// hears of it at once.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn cancel(&self, queue: &QueueName, id: &str) -> Result<CancelAnswer, Error> {
        self.cancel_in(queue, id, "").await
    }

    /// Cancels every task that passes the filter and has not ended; returns how many. The steps of jobs are left to
    /// [`JobHandle::cancel`](crate::JobHandle::cancel). What is enqueued meanwhile may be among them or not.
    ///
    /// # Errors
    /// [`Error::Call`], of [`workyard_shared::Error::Invalid`] if the filter asks for tasks that have ended; what was cancelled
    /// before stays so.
    pub async fn cancel_all(&self, queue: &QueueName, filter: &Filter) -> Result<u64, Error> {
        let states = chosen(
            filter,
            |state| !state.is_terminal(),
            "has ended: only others can be cancelled",
        )?;
        let (act, mut cancelled) = (Arc::<str>::from(filter.words()), 0);
        let mut pages = Singles::of(self, queue, filter, states);
        while let Some(ids) = pages.next().await? {
            for some in ids.chunks(AT_ONCE) {
                let mut calls = JoinSet::new();
                for id in some {
                    let (client, queue, id, act) = (self.clone(), queue.clone(), id.clone(), Arc::clone(&act));
                    calls.spawn(async move { client.cancel_in(&queue, &id, &act).await });
                }
                while let Some(answer) = calls.join_next().await {
                    let answer = answer.map_err(|e| Error::invalid(format!("a cancel broke off: {e}")))??;
                    cancelled += u64::from(answer == CancelAnswer::Cancelled);
                }
            }
        }
        Ok(cancelled)
    }

    /// Deletes every task that passes the filter and has ended, dead letters too; returns how many.
    ///
    /// # Errors
    /// [`Error::Call`], of [`workyard_shared::Error::Invalid`] if the filter asks for tasks that have not ended; what was deleted
    /// before stays so.
    pub async fn delete_all(&self, queue: &QueueName, filter: &Filter) -> Result<u64, Error> {
        let states = chosen(filter, State::is_terminal, "has not ended: cancel such tasks first")?;
        let mut deleted = 0;
        let mut pages = Singles::of(self, queue, filter, states);
        while let Some(ids) = pages.next().await? {
            let answers = self.delete(queue, &ids).await?;
            deleted += answers.iter().filter(|answer| **answer == Deleted::Deleted).count() as u64;
        }
        Ok(deleted)
    }

    /// How many tasks [`Self::cancel_all`] would take now, or [`Self::delete_all`] if they have `ended`.
    ///
    /// # Errors
    /// As those.
    pub async fn count_all(&self, queue: &QueueName, filter: &Filter, ended: bool) -> Result<u64, Error> {
        let mut count = 0;
        let states = chosen(filter, |state| state.is_terminal() == ended, "is none of these")?;
        let mut pages = Singles::of(self, queue, filter, states);
        while let Some(ids) = pages.next().await? {
            count += ids.len() as u64;
        }
        Ok(count)
    }

    async fn cancel_in(&self, queue: &QueueName, id: &str, act: &str) -> Result<CancelAnswer, Error> {
        let calls = self.queue(queue);
        let mut asked = 0;
        let answer = self
            .patiently(|| {
                asked += 1;
                calls.cancel_in(id, act)
            })
            .await?;
        if answer == CancelAnswer::Finished && asked > 1 {
            // The first call may have done it, and only its reply was lost.
            let view = self.look(queue, &[id]).await?.pop().flatten();
            if view.is_some_and(|view| view.state == State::Cancelled) {
                return Ok(CancelAnswer::Cancelled);
            }
        }
        Ok(answer)
    }

    /// Makes dead letters pending again, with fresh counters; true for each that was one.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn retry(&self, queue: &QueueName, ids: &[String]) -> Result<Vec<bool>, Error> {
        let calls = self.queue(queue);
        let mut answers = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CALL_IDS) {
            answers.extend(self.patiently(|| calls.retry(chunk)).await?);
        }
        Ok(answers)
    }

    /// Retries every dead letter that passes the filter, oldest first; returns how many.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn retry_all(&self, queue: &QueueName, filter: &Filter) -> Result<u64, Error> {
        let calls = self.queue(queue);
        let mut left = self.patiently(|| calls.overview()).await?.failed;
        let (mut kept, mut retried) = (0, 0);
        while left > 0 {
            // Those that were retried have left the set: what was passed over is the offset.
            let ids = self
                .patiently(|| calls.page("failed", kept, STEP.min(left), false))
                .await?;
            if ids.is_empty() {
                break;
            }
            left -= (ids.len() as u64).min(left);
            let refs: Vec<&str> = ids.iter().map(String::as_str).collect();
            let views = self.look(queue, &refs).await?;
            let chosen: Vec<String> = views
                .into_iter()
                .flatten()
                .filter(|view: &TaskView| filter.admits(view))
                .map(|view| view.id)
                .collect();
            let again = if chosen.is_empty() {
                0
            } else {
                count(&self.retry(queue, &chosen).await?)
            };
            retried += again;
            kept += ids.len() as u64 - again;
        }
        Ok(retried)
    }

    /// Deletes finished tasks and dead letters.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn delete(&self, queue: &QueueName, ids: &[String]) -> Result<Vec<Deleted>, Error> {
        let calls = self.queue(queue);
        let mut answers = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CALL_IDS) {
            answers.extend(self.patiently(|| calls.delete(chunk)).await?);
        }
        Ok(answers)
    }

    /// How many tasks (or raw items of the inbox) a purge of this place would remove now.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn count_in(&self, queue: &QueueName, place: PurgePlace) -> Result<u64, Error> {
        let calls = self.queue(queue);
        if place == PurgePlace::Inbox {
            return self.patiently(|| calls.inbox_len()).await;
        }
        let overview = self.patiently(|| calls.overview()).await?;
        Ok(match place {
            PurgePlace::Pending => overview.pending,
            PurgePlace::Scheduled => overview.scheduled,
            PurgePlace::Failed => overview.failed,
            _ => overview.results,
        })
    }

    /// Removes all tasks that are in a place now, for good; returns how many went.
    ///
    /// # Errors
    /// [`Error::Call`]; what went before stays gone.
    pub async fn purge(&self, queue: &QueueName, place: PurgePlace) -> Result<u64, Error> {
        let calls = self.queue(queue);
        let there = self.count_in(queue, place).await?;
        let mut gone = 0;
        while gone < there {
            match self.patiently(|| calls.purge_step(place)).await? {
                0 => break,
                step => gone += step,
            }
        }
        Ok(gone)
    }

    /// Removes a queue in which nothing is left, with its settings, counters and results; what operators did stays for 90 days.
    /// One whose name was mistyped need not stand in every table for ever.
    ///
    /// # Errors
    /// [`Error::Call`], of [`workyard_shared::Error::Invalid`] with what is still there: tasks (dead letters included), items of the inbox, jobs, consumers.
    pub async fn delete_queue(&self, queue: &QueueName) -> Result<(), Error> {
        let calls = self.queue(queue);
        self.patiently(|| calls.retire()).await?;
        self.patiently(|| self.broker().forget(queue)).await?;
        // Who used it between the two calls finds it among the queues again.
        if !self.stats(queue).await?.is_untouched() {
            self.patiently(|| self.broker().announce(queue)).await?;
        }
        Ok(())
    }

    /// Pauses the queue: nothing more is claimed, what runs goes on.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn pause(&self, queue: &QueueName) -> Result<(), Error> {
        self.set_paused(queue, true).await
    }

    /// Lets a paused queue go on.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn resume(&self, queue: &QueueName) -> Result<(), Error> {
        self.set_paused(queue, false).await
    }

    async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        self.set(queue, &[Setting::Paused(paused)]).await
    }

    /// Changes settings of a queue, all of them or none; they hold at once.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn set(&self, queue: &QueueName, settings: &[Setting]) -> Result<(), Error> {
        let gate = self.gate(queue);
        self.announce(&gate).await;
        self.patiently(|| gate.queue.set(settings)).await
    }

    /// The settings of a queue.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn settings(&self, queue: &QueueName) -> Result<Settings, Error> {
        let calls = self.queue(queue);
        self.patiently(|| calls.settings()).await
    }

    /// What operators did to a queue: the last `most` acts, newest first.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn audit(&self, queue: &QueueName, most: u64) -> Result<Vec<AuditEntry>, Error> {
        let calls = self.queue(queue);
        self.patiently(|| calls.audit(most)).await
    }

    /// What operators did behind the act with this id, oldest first, at most 1,000 acts.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn audit_after(&self, queue: &QueueName, id: &str) -> Result<Vec<AuditEntry>, Error> {
        let calls = self.queue(queue);
        self.patiently(|| calls.audit_after(id)).await
    }

    /// Loads the functions library, replacing the same version of it.
    ///
    /// # Errors
    /// [`Error::Call`], `Denied` if this user may not.
    pub async fn install(&self) -> Result<(), Error> {
        self.patiently(|| self.inner.broker.link().load_library()).await
    }
}

fn count(answers: &[bool]) -> u64 {
    answers.iter().filter(|answer| **answer).count() as u64
}

/// Ids of a queue's tasks in some states, page by page, without the steps of jobs.
struct Singles<'a> {
    client: &'a Client,
    queue: &'a QueueName,
    filter: Filter,
    from: Option<Cursor>,
    /// Those that are not walked through, the present one first.
    states: VecDeque<State>,
    /// Of the present one about as many as were there when it began: it ends, whoever adds more. `None`: it has not begun.
    left: Option<u64>,
}

impl<'a> Singles<'a> {
    fn of(client: &'a Client, queue: &'a QueueName, filter: &Filter, states: Vec<State>) -> Self {
        Self {
            client,
            queue,
            filter: filter.clone(),
            from: None,
            states: states.into(),
            left: None,
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<String>>, Error> {
        while let Some(state) = self.states.front().copied() {
            let left = match self.left {
                Some(left) => left,
                None => self.there(state).await?,
            };
            if left == 0 {
                self.states.pop_front();
                (self.from, self.left) = (None, None);
                continue;
            }
            self.filter.state = Some(state);
            let page = self
                .client
                .list(self.queue, &self.filter, self.from.as_ref(), CALL_IDS)
                .await?;
            self.left = Some(match page.next {
                Some(_) => left.saturating_sub(page.tasks.len() as u64),
                None => 0,
            });
            self.from = page.next;
            let is_step = |view: &TaskView| view.task_type.is_some_and(|of| of != TaskType::Single.as_str());
            let ids = page.tasks.into_iter().filter(|view| !is_step(view)).map(|view| view.id);
            return Ok(Some(ids.collect()));
        }
        Ok(None)
    }

    async fn there(&self, state: State) -> Result<u64, Error> {
        let calls = self.client.queue(self.queue);
        let there = self.client.patiently(|| calls.overview()).await?;
        Ok(match state {
            State::Pending => there.pending,
            State::Scheduled | State::Retrying => there.scheduled,
            State::Running => there.running,
            State::Failed => there.failed,
            State::Completed | State::Cancelled | State::Expired => there.results,
        })
    }
}

/// The states that a filter means of those that are `meant`. Tasks that wait come before those that run: else they would start.
fn chosen(filter: &Filter, meant: impl Fn(State) -> bool, why_not: &str) -> Result<Vec<State>, Error> {
    const ALL: [State; 8] = [
        State::Pending,
        State::Scheduled,
        State::Retrying,
        State::Running,
        State::Failed,
        State::Completed,
        State::Cancelled,
        State::Expired,
    ];
    match filter.state {
        Some(state) if meant(state) => Ok(vec![state]),
        Some(state) => Err(Error::invalid(format!("a task that is {} {why_not}", state.as_str()))),
        None => Ok(ALL.into_iter().filter(|state| meant(*state)).collect()),
    }
}
