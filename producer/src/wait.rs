//! Waiting for the end of a task: woken, not polled.
//!
//! Invariant: the ask for the message and the look at the task are one step in Redis, so no end
//! falls in between; with [`Client::enqueue_and_wait`] the ask is part of the enqueue itself, so
//! that even a result that is kept for no time arrives. The rest is in `board.rs`.

use std::time::Duration;

use tokio::sync::oneshot;
use workyard_shared::broker::{Accepted, Queue, Waited};
use workyard_shared::envelope::NewTask;
use workyard_shared::name::QueueName;
use workyard_shared::outage::Patience;
use workyard_shared::record::Ended;

use crate::board::Ask;
use crate::client::Client;
use crate::enqueue::Receipt;
use crate::error::Error;
use crate::inbox::{self, InboxPlace};

/// How long the look at the end of a wait may take.
const LAST_LOOK: Duration = Duration::from_secs(1);

impl Client {
    /// Waits until the task has ended, and says how. An outage only makes it later, unless [`ClientConfig::wait_patience`](crate::ClientConfig::wait_patience) bounds it.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `timeout`: the task goes on. [`Error::NotFound`] if no task of this
    /// id is in the queue or among the first 1,000 items of its inbox, or it has ended and its result is not kept. [`Error::Call`] if Redis
    /// refuses, or is away for longer than the waits of this client may. [`Error::Sealed`] if this client has keys, and they do not open the result.
    pub async fn wait(&self, queue: &QueueName, id: &str, timeout: Duration) -> Result<Ended, Error> {
        let waiting = self.taken_in(queue, id);
        let ended = match tokio::time::timeout(timeout, waiting).await {
            Ok(answer) => answer?,
            Err(_) => {
                let (id, after) = (id.to_owned(), timeout);
                self.last_look(queue, Error::Timeout { id, after }).await?
            }
        };
        self.opened(queue, id, ended)
    }

    /// The end of the task, also of one that is still in the inbox: that is looked at until it has been taken in.
    async fn taken_in(&self, queue: &QueueName, id: &str) -> Result<Ended, Error> {
        let calls = self.queue(queue);
        let mut pause = Patience::default();
        let mut has_left = false;
        loop {
            let unknown = match self.ended(&calls, id).await {
                Err(unknown @ Error::NotFound { .. }) if !has_left => unknown,
                other => return other,
            };
            match inbox::place(&calls, id).await {
                Ok(InboxPlace::Behind(_)) => pause.wait().await,
                // It may be a task by now.
                Ok(_) => has_left = true,
                // The next ask waits until Redis is back.
                Err(error) if error.is_temporary() => pause.wait().await,
                // A user that may not look there.
                Err(_) => return Err(unknown),
            }
        }
    }

    async fn ended(&self, calls: &Queue, id: &str) -> Result<Ended, Error> {
        let (end, ended) = oneshot::channel();
        self.inner.board.ask(Ask::Wait {
            queue: calls.clone(),
            id: id.to_owned(),
            look: true,
            ready: None,
            end,
        })?;
        self.heard(ended).await
    }

    /// To wait is to write one's name down, which a Redis that refuses writes refuses: what is there to be read still is.
    async fn last_look(&self, queue: &QueueName, late: Error) -> Result<Ended, Error> {
        let Error::Timeout { id, .. } = &late else {
            return Err(late);
        };
        let calls = self.queue(queue);
        let ids = [id.as_str()];
        match tokio::time::timeout(LAST_LOOK, calls.inspect(&ids)).await {
            Ok(Ok(mut seen)) => match seen.pop().map(Waited::from) {
                Some(Waited::Ended(ended)) => Ok(ended),
                // It may be in the inbox; with more time the wait itself would know.
                Some(Waited::Unknown) if self.is_in_inbox(&calls, id).await => Err(late),
                Some(Waited::Unknown) => Err(Error::NotFound {
                    queue: queue.to_string(),
                    id: id.clone(),
                }),
                Some(Waited::Waiting) | None => Err(late),
            },
            Ok(Err(error)) => {
                if error.is_temporary() {
                    self.inner.outages.failed(&error);
                }
                Err(late)
            }
            Err(_) => Err(late),
        }
    }

    /// Enqueues a task and waits until it has ended. The second value is an error when the waiting
    /// failed; the task is accepted all the same.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub async fn enqueue_and_wait(
        &self,
        queue: &QueueName,
        task: NewTask,
        timeout: Duration,
    ) -> Result<(Receipt, Result<Ended, Error>), Error> {
        let gate = self.gate(queue);
        let (tasks, fresh) = self.prepare(queue, vec![task])?;
        let id = tasks.first().map(|(id, _)| id.to_string()).unwrap_or_default();
        let (end, ended) = oneshot::channel();
        let (ready, subscribed) = oneshot::channel();
        self.inner.board.ask(Ask::Wait {
            queue: gate.queue.clone(),
            id: id.clone(),
            look: false,
            ready: Some(ready),
            end,
        })?;
        // First the channel, then the task: its end may come before the enqueue's answer.
        let patience = self.inner.config.patience;
        let away = || workyard_shared::Error::Unavailable {
            outage: workyard_shared::Outage::Away,
            detail: "the channel for results could not be subscribed in time".to_owned(),
        };
        let limit = patience + self.inner.config.link.response_timeout;
        match tokio::time::timeout(limit, subscribed).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) | Err(_) => return Err(away().into()),
        }
        let receipts = self
            .add(&gate, tasks, fresh, Some(self.inner.board.session.clone()))
            .await?;
        let receipt = receipts.into_iter().next();
        let receipt = receipt.ok_or_else(|| workyard_shared::Error::Protocol("no answer for the task".to_owned()))?;
        // A duplicate was enqueued by somebody else, without our name on it.
        let unheard = receipt.accepted == Accepted::Duplicate;
        self.inner.board.ask(Ask::Look {
            queue: gate.queue.clone(),
            id: id.clone(),
            unheard,
        })?;
        let ended = self.within(&id, timeout, ended).await;
        let ended = ended.and_then(|ended| self.opened(queue, &id, ended));
        Ok((receipt, ended))
    }

    async fn within(
        &self,
        id: &str,
        timeout: Duration,
        ended: oneshot::Receiver<Result<Ended, Error>>,
    ) -> Result<Ended, Error> {
        tokio::time::timeout(timeout, self.heard(ended))
            .await
            .unwrap_or_else(|_| {
                let (id, after) = (id.to_owned(), timeout);
                Err(Error::Timeout { id, after })
            })
    }

    /// What the board tells, through outages.
    async fn heard(&self, ended: oneshot::Receiver<Result<Ended, Error>>) -> Result<Ended, Error> {
        let gone = |_| workyard_shared::Error::Unknown("the client has ended".to_owned());
        self.inner.outages.outlast(ended).await?.map_err(gone)?
    }

    async fn is_in_inbox(&self, calls: &Queue, id: &str) -> bool {
        let look = tokio::time::timeout(LAST_LOOK, inbox::place(calls, id)).await;
        matches!(look, Ok(Ok(InboxPlace::Behind(_))))
    }
}
