//! Many tasks, in order, with flat memory: calls of about 500, two under way.
//!
//! While Redis works on one call, the next is encoded and sent behind it on the same connection.
//! Invariant: without an outage and with room in the queue, tasks get their places in the order of [`Bulk::push`], because each
//! call is sent before the next is made. Each of the two calls has a session of its own, so a repeat
//! is recognised. If we die in between, what Redis answered for is there and the rest is not.

use std::collections::VecDeque;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use workyard_shared::Error as CallError;
use workyard_shared::broker::Batch;
use workyard_shared::envelope::NewTask;
use workyard_shared::name::{QueueName, SessionId};
use workyard_shared::submit;

use crate::client::{Client, Gate};
use crate::durability::{Durability, Kept};
use crate::enqueue::{Receipt, receipts};
use crate::error::Error;
use crate::full::{Stopped, until_room};

/// Tasks in one call: more gains nothing, and Redis serves others in between.
const CALL_TASKS: usize = 500;
/// Payload bytes in one call, about.
const CALL_BYTES: usize = 1 << 20;
/// Calls under way: one that Redis works on, one on its way to it.
const UNDER_WAY: usize = 2;
/// Batch numbers that a call may use: one per task is more than enough.
const NUMBERS_PER_CALL: u64 = 1000;

type Call = Pin<Box<dyn Future<Output = Result<Vec<Receipt>, Stopped<Receipt>>> + Send>>;

/// A bulk enqueue into one queue; see [`Client::bulk`].
pub struct Bulk {
    client: Client,
    gate: Arc<Gate>,
    sessions: [SessionId; UNDER_WAY],
    calls: u64,
    tasks: Vec<NewTask>,
    bytes: usize,
    under_way: VecDeque<Call>,
    /// Receipts that nobody was given yet.
    received: Vec<Receipt>,
    /// A call ended so that nobody knows what became of it.
    lost: bool,
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bulk")
            .field("queue", self.gate.queue.name())
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

impl Bulk {
    /// Takes a task; sends when there are enough. Returns the receipts that came in meanwhile, in the
    /// order of the tasks.
    ///
    /// # Errors
    /// As [`Client::enqueue`], of any earlier task. Then stop: [`Self::remains`] says what is known of the rest.
    pub async fn push(&mut self, task: NewTask) -> Result<Vec<Receipt>, Error> {
        task.options.validate()?;
        self.bytes += task.payload.len();
        self.tasks.push(task);
        if self.tasks.len() < CALL_TASKS && self.bytes < CALL_BYTES {
            return Ok(Vec::new());
        }
        self.send().await?;
        Ok(std::mem::take(&mut self.received))
    }

    /// Sends what is left and waits for all answers.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub async fn finish(&mut self) -> Result<Vec<Receipt>, Error> {
        if !self.tasks.is_empty() {
            self.send().await?;
        }
        while let Some(call) = self.under_way.pop_front() {
            self.answer(call).await?;
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// After an error: the receipts of tasks that are in nevertheless, and whether others may be, without one. What a full
    /// queue refused is not.
    #[must_use]
    pub fn remains(self) -> (Vec<Receipt>, bool) {
        (self.received, self.lost || !self.under_way.is_empty())
    }

    async fn answer(&mut self, call: Call) -> Result<(), Error> {
        match call.await {
            Ok(receipts) => self.received.extend(receipts),
            Err(Stopped { error, received }) => {
                self.received.extend(received);
                self.lost |= !matches!(error, Error::Call(CallError::Full { .. }));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Error> {
        // The first call may have to load the functions and come again: none may overtake it. Durable
        // calls go out on connections of their own: one at a time keeps their order.
        let alone = self.calls <= 1 || self.client.durability != Durability::Memory;
        let most = if alone { 1 } else { UNDER_WAY };
        if self.under_way.len() >= most
            && let Some(call) = self.under_way.pop_front()
        {
            self.answer(call).await?;
        }
        self.client.announce(&self.gate).await;
        self.bytes = 0;
        let tasks = std::mem::replace(&mut self.tasks, Vec::with_capacity(CALL_TASKS));
        let mut call = self.call(tasks)?;
        // Polled once, the call is in the connection's line; only then may the next one follow.
        if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            call = Box::pin(ready(answer));
        }
        self.under_way.push_back(call);
        Ok(())
    }

    fn call(&mut self, tasks: Vec<NewTask>) -> Result<Call, Error> {
        let (tasks, fresh) = self.client.prepare(self.gate.queue.name(), tasks)?;
        let (client, gate) = (self.client.clone(), Arc::clone(&self.gate));
        if client.durability != Durability::Memory {
            return Ok(Box::pin(async move { client.add(&gate, tasks, fresh, None).await }));
        }
        // The call before the last, the other user of this session, has been answered.
        let session = self.sessions[usize::from(self.calls % 2 == 1)].clone();
        self.calls += 1;
        // Pieces of a call, where a full queue takes it so, count on from its number.
        let number = self.calls * NUMBERS_PER_CALL;
        let config = &client.inner.config;
        let (patience, block) = (config.patience, config.block_timeout);
        Ok(Box::pin(async move {
            let (gate, session, tasks) = (&gate, &session, &tasks);
            until_room(block, tasks.len(), |piece| async move {
                let batch = Batch {
                    session,
                    number: number + piece.start as u64,
                    waiter: None,
                };
                let part = &tasks[piece];
                let cmd = gate.queue.enqueue_cmd(batch, fresh, part)?;
                let accepted = submit::until_kept(&gate.queue, &cmd, Instant::now() + patience).await?;
                Ok(receipts(part.iter().map(|(id, _)| id.clone()), accepted, Kept::Memory))
            })
            .await
        }))
    }
}

impl Client {
    /// Begins a bulk enqueue: push tasks as they come, memory stays flat.
    ///
    /// ```no_run
    /// # use workyard_producer::{Client, Error, QueueName, task};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let mut bulk = client.bulk(&QueueName::new("thumbnails")?);
    /// let mut accepted = 0;
    /// for n in 0..1_000_000 {
    ///     accepted += bulk.push(task("resize").payload(&n).build()?).await?.len();
    /// }
    /// accepted += bulk.finish().await?.len();
    /// assert_eq!(accepted, 1_000_000);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bulk(&self, queue: &QueueName) -> Bulk {
        Bulk {
            client: self.clone(),
            gate: self.gate(queue),
            sessions: [SessionId::fresh(), SessionId::fresh()],
            calls: 0,
            tasks: Vec::new(),
            bytes: 0,
            under_way: VecDeque::new(),
            received: Vec::new(),
            lost: false,
        }
    }

    /// Adds many tasks; receipts in their order.
    ///
    /// # Errors
    /// As [`Self::enqueue`]. Some of the tasks may have been added then: give them ids of their own
    /// to make a second call harmless.
    pub async fn enqueue_many(&self, queue: &QueueName, tasks: Vec<NewTask>) -> Result<Vec<Receipt>, Error> {
        let mut bulk = self.bulk(queue);
        let mut received = Vec::with_capacity(tasks.len());
        for task in tasks {
            received.extend(bulk.push(task).await?);
        }
        received.extend(bulk.finish().await?);
        Ok(received)
    }
}
