//! Waiting for the end of a task: woken, not polled.
//!
//! Invariant: the ask for the message and the look at the task are one step in Redis, so no end
//! falls in between; with [`Client::enqueue_and_wait`] the ask is part of the enqueue itself, so
//! that even a result that is kept for no time arrives. The rest is in `board.rs`.

use std::time::Duration;

use tokio::sync::oneshot;
use workyard_shared::broker::{Accepted, Waited};
use workyard_shared::envelope::NewTask;
use workyard_shared::name::QueueName;
use workyard_shared::record::Ended;

use crate::board::Ask;
use crate::client::Client;
use crate::enqueue::Receipt;
use crate::error::Error;

/// How long the look at the end of a wait may take.
const LAST_LOOK: Duration = Duration::from_secs(1);

impl Client {
    /// Waits until the task has ended, and says how. An outage only makes it later.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `timeout`: the task goes on. [`Error::NotFound`] if no task of this
    /// id is in the queue, or it has ended and its result is not kept. [`Error::Call`] if Redis
    /// refuses. [`Error::Sealed`] if this client has keys, and they do not open the result.
    pub async fn wait(&self, queue: &QueueName, id: &str, timeout: Duration) -> Result<Ended, Error> {
        let (end, ended) = oneshot::channel();
        let ask = Ask::Wait {
            queue: self.queue(queue),
            id: id.to_owned(),
            look: true,
            ready: None,
            end,
        };
        self.inner.board.ask(ask)?;
        let ended = match self.within(id, timeout, ended).await {
            Err(late @ Error::Timeout { .. }) => self.last_look(queue, id, late).await?,
            other => other?,
        };
        self.opened(queue, id, ended)
    }

    /// To wait is to write one's name down, which a Redis that refuses writes refuses: what is there to be read still is.
    async fn last_look(&self, queue: &QueueName, id: &str, late: Error) -> Result<Ended, Error> {
        let calls = self.queue(queue);
        let ids = [id];
        match tokio::time::timeout(LAST_LOOK, calls.inspect(&ids)).await {
            Ok(Ok(mut seen)) => match seen.pop().map(Waited::from) {
                Some(Waited::Ended(ended)) => Ok(ended),
                Some(Waited::Unknown) => Err(Error::NotFound {
                    queue: queue.to_string(),
                    id: id.to_owned(),
                }),
                Some(Waited::Waiting) | None => Err(late),
            },
            Ok(Err(error)) if error.is_temporary() => Err(error.into()),
            Ok(Err(_)) | Err(_) => Err(late),
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
        match tokio::time::timeout(timeout, ended).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(workyard_shared::Error::Unknown("the client has ended".to_owned()).into()),
            Err(_) => Err(Error::Timeout {
                id: id.to_owned(),
                after: timeout,
            }),
        }
    }
}
