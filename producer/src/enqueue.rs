//! Enqueue: one task, or one call's worth of them, at the client's durability level.
//!
//! Invariant: a receipt is given only for a task that Redis answered for. Single tasks of many
//! callers are coalesced by [`workyard_shared::submit`]. Bulk is in `bulk.rs`, the confirmation of
//! durable enqueues in `durable.rs`.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use workyard_shared::broker::Accepted;
use workyard_shared::check;
use workyard_shared::envelope::NewTask;
use workyard_shared::name::{QueueName, SessionId, TaskId};

use crate::client::{Client, Gate};
use crate::durability::{Durability, Kept};
use crate::error::Error;
use crate::full::{Stopped, until_room};
use crate::trace::inject_current;

/// The proof that a task was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Receipt {
    /// Its id.
    #[serde(serialize_with = "as_text")]
    pub id: TaskId,
    /// Whether it is new, or one of this id was here already and nothing was added.
    #[serde(serialize_with = "accepted_name")]
    pub accepted: Accepted,
    /// How safe it is known to be.
    pub durability: Kept,
}

fn as_text<S: Serializer>(id: &TaskId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn accepted_name<S: Serializer>(accepted: &Accepted, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match accepted {
        Accepted::Created => "created",
        Accepted::Duplicate => "duplicate",
    })
}

/// Gives every task an id. True if all ids are fresh, so that Redis need not look for them.
fn identify(tasks: Vec<NewTask>) -> (Vec<(TaskId, NewTask)>, bool) {
    let fresh = tasks.iter().all(|task| task.id.is_none());
    let with_id = |mut task: NewTask| (task.id.take().unwrap_or_else(TaskId::fresh), task);
    (tasks.into_iter().map(with_id).collect(), fresh)
}

pub(crate) fn receipts(
    ids: impl IntoIterator<Item = TaskId>,
    accepted: Vec<Accepted>,
    durability: Kept,
) -> Vec<Receipt> {
    let receipt = |(id, accepted)| Receipt {
        id,
        accepted,
        durability,
    };
    ids.into_iter().zip(accepted).map(receipt).collect()
}

impl Client {
    /// Tasks as they go to Redis: each with an id, in the current trace, sealed and signed if this client has keys. The second value says that all
    /// ids are fresh.
    pub(crate) fn prepare(
        &self,
        queue: &QueueName,
        tasks: Vec<NewTask>,
    ) -> Result<(Vec<(TaskId, NewTask)>, bool), Error> {
        let (mut tasks, fresh) = identify(tasks);
        for (_, task) in &mut tasks {
            inject_current(&mut task.headers);
        }
        if let Some(keys) = &self.inner.config.keys {
            for (id, task) in &mut tasks {
                keys.protect(queue, id, task)?;
            }
        }
        Ok((tasks, fresh))
    }

    /// Adds a task and returns when Redis has it, at this client's durability level. Without an id
    /// of its own the task gets a UUIDv7. Outages are waited out as long as the client's patience.
    ///
    /// # Errors
    /// [`Error::Call`]: the task breaks a rule (`Invalid`), nothing was added (`Unavailable`,
    /// `Denied`), or the reply was lost (`Unknown`: it may have been added; a task with an id of its
    /// own may be enqueued again without harm). `Full`: the queue has a limit, is at it, and either refuses what is new
    /// or made this wait for [`ClientConfig::block_timeout`](crate::ClientConfig::block_timeout); nothing was added.
    pub async fn enqueue(&self, queue: &QueueName, task: NewTask) -> Result<Receipt, Error> {
        let (tasks, fresh) = self.prepare(queue, vec![task])?;
        let receipts = self.add(&self.gate(queue), tasks, fresh, None).await?;
        let none = || workyard_shared::Error::Protocol("no answer for the task".to_owned());
        Ok(receipts.into_iter().next().ok_or_else(none)?)
    }

    /// Adds at most 1,000 tasks in one call; all of them or none, unless a full queue makes them wait: then piece by piece.
    pub(crate) async fn add(
        &self,
        gate: &Gate,
        tasks: Vec<(TaskId, NewTask)>,
        fresh: bool,
        waiter: Option<SessionId>,
    ) -> Result<Vec<Receipt>, Stopped<Receipt>> {
        let tasks: Arc<[(TaskId, NewTask)]> = tasks.into();
        let adding = until_room(self.inner.config.block_timeout, tasks.len(), |piece| {
            let part = if piece.len() == tasks.len() {
                Arc::clone(&tasks)
            } else {
                tasks[piece].into()
            };
            self.add_part(gate, part, fresh, waiter.clone())
        });
        let ((), added) = tokio::join!(self.announce(gate), adding);
        added
    }

    async fn add_part(
        &self,
        gate: &Gate,
        tasks: Arc<[(TaskId, NewTask)]>,
        fresh: bool,
        waiter: Option<SessionId>,
    ) -> Result<Vec<Receipt>, Error> {
        let ids = Arc::clone(&tasks);
        let (accepted, durability) = match self.durability {
            Durability::Memory => (self.submit(gate, tasks, fresh, waiter).await?, Kept::Memory),
            level => self.add_durably(gate, tasks, fresh, waiter, level).await?,
        };
        Ok(receipts(ids.iter().map(|(id, _)| id.clone()), accepted, durability))
    }

    async fn submit(
        &self,
        gate: &Gate,
        tasks: Arc<[(TaskId, NewTask)]>,
        fresh: bool,
        waiter: Option<SessionId>,
    ) -> Result<Vec<Accepted>, Error> {
        Ok(gate
            .submitter
            .submit(tasks, fresh, waiter, self.inner.config.patience)
            .await?)
    }

    async fn add_durably(
        &self,
        gate: &Gate,
        tasks: Arc<[(TaskId, NewTask)]>,
        fresh: bool,
        waiter: Option<SessionId>,
        level: Durability,
    ) -> Result<(Vec<Accepted>, Kept), Error> {
        if level == Durability::Fsync && !self.has_waitaof().await? {
            let accepted = self.submit(gate, tasks, fresh, waiter).await?;
            // The task is accepted, whatever this question answers.
            let always = check::syncs_always(gate.queue.link()).await.unwrap_or(false);
            return Ok((accepted, if always { Kept::Fsync } else { Kept::Memory }));
        }
        self.inner
            .lanes
            .enqueue(&gate.queue, &tasks, fresh, waiter.as_ref(), level)
            .await
    }
}
