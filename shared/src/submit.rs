//! The way in: tasks from many callers, coalesced into few calls, repeated until they are kept.
//!
//! Whatever arrives while calls are under way goes with the next (no timer: an idle submitter sends at once). There
//! are two ways to Redis, so that it works on one call while this side reads the other's answer; the second is taken
//! only by a call about as large, because many small calls cost more than they win. Invariant: a way has one call under
//! way, with the next number of the way's own session, and a repeat has the same number, so a lost reply never adds a
//! task twice. If we die between call and answer, the caller never got its receipt; the tasks may or may not be there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use crate::broker::{Accepted, Batch, Queue};
use crate::envelope::NewTask;
use crate::error::Error;
use crate::limits::{MAX_BATCH, MAX_CLAIM_BYTES};
use crate::name::{SessionId, TaskId};
use crate::outage::Patience;

/// Callers that may wait in line before [`Submitter::submit`] itself waits.
const LINE: usize = 4096;
/// Up to so many tasks go in one call, however busy the other way is.
const FEW: usize = 16;
/// Payload bytes in one call, about: keeps a call short for everybody else.
const CALL_BYTES: usize = 4 * MAX_CLAIM_BYTES;

struct Order {
    tasks: Arc<[(TaskId, NewTask)]>,
    unique: bool,
    waiter: Option<SessionId>,
    give_up: Instant,
    answer: oneshot::Sender<Result<Vec<Accepted>, Error>>,
}

/// Enqueues into one queue partition. Cheap to clone; clones share the line.
#[derive(Debug, Clone)]
pub struct Submitter {
    line: mpsc::Sender<Order>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Submitter {
    /// Starts a submitter for `queue`; it ends when the last clone is dropped.
    #[must_use]
    pub fn start(queue: Queue) -> Self {
        let (line, orders) = mpsc::channel(LINE);
        let ways = [Way::new(queue.clone()), Way::new(queue)];
        tokio::spawn(Line::new(orders).run(Vec::from(ways)));
        Self { line }
    }

    /// Adds tasks (at most 1,000), and answers when Redis has them. `unique`: the ids come from
    /// [`TaskId::fresh`]. Outages are waited out for `patience`; for room in a full queue nobody waits here.
    ///
    /// # Errors
    /// [`Error::Invalid`] for bad input; [`Error::Full`] if the queue has no room for all of them; [`Error::Unavailable`] if nothing was added in time;
    /// [`Error::Unknown`] if it may have been.
    pub async fn submit(
        &self,
        tasks: impl Into<Arc<[(TaskId, NewTask)]>>,
        unique: bool,
        waiter: Option<SessionId>,
        patience: Duration,
    ) -> Result<Vec<Accepted>, Error> {
        let tasks: Arc<[(TaskId, NewTask)]> = tasks.into();
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        if tasks.len() > MAX_BATCH {
            return Err(Error::Invalid(format!(
                "at most {MAX_BATCH} tasks in one call, not {}",
                tasks.len()
            )));
        }
        for (id, task) in tasks.iter() {
            task.options.validate()?;
            task.extra()?;
            task.check_step(id)?;
        }
        let (answer, answered) = oneshot::channel();
        let order = Order {
            tasks,
            unique,
            waiter,
            give_up: Instant::now() + patience,
            answer,
        };
        let gone = || Error::Unknown("the submitter has ended".to_owned());
        self.line.send(order).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Order {
    fn bytes(&self) -> usize {
        self.tasks.iter().map(|(_, task)| task.payload.len()).sum()
    }
}

/// The orders that wait, and the rule when they go.
struct Line {
    orders: mpsc::Receiver<Order>,
    waiting: VecDeque<Order>,
    /// Tasks in `waiting`.
    tasks: usize,
    /// Tasks in the calls under way.
    under_way: usize,
}

impl Line {
    fn new(orders: mpsc::Receiver<Order>) -> Self {
        Self {
            orders,
            waiting: VecDeque::new(),
            tasks: 0,
            under_way: 0,
        }
    }

    async fn run(mut self, mut ways: Vec<Way>) {
        let mut sending = FuturesUnordered::new();
        let mut open = true;
        while open || !sending.is_empty() || !self.waiting.is_empty() {
            while self.tasks < MAX_BATCH
                && let Ok(order) = self.orders.try_recv()
            {
                self.push(order);
            }
            if self.is_due()
                && let Some(mut way) = ways.pop()
            {
                let batch = self.gather();
                let count: usize = batch.iter().map(|order| order.tasks.len()).sum();
                self.under_way += count;
                sending.push(async move {
                    way.send(batch).await;
                    (way, count)
                });
                continue;
            }
            tokio::select! {
                Some((way, count)) = sending.next() => {
                    self.under_way -= count;
                    ways.push(way);
                }
                order = self.orders.recv(), if open && self.tasks < MAX_BATCH => match order {
                    Some(order) => self.push(order),
                    None => open = false,
                },
            }
        }
    }

    fn push(&mut self, order: Order) {
        self.tasks += order.tasks.len();
        self.waiting.push_back(order);
    }

    /// Whether what waits is worth a call beside the one under way.
    fn is_due(&self) -> bool {
        let worth = if self.under_way == 0 {
            1
        } else {
            FEW.max(self.under_way) / 2
        };
        self.tasks >= worth
    }

    /// Takes from the front what fits into the same call; half of it, if the other way is free and it is much.
    fn gather(&mut self) -> Vec<Order> {
        let most = match self.under_way {
            0 if self.tasks > FEW => self.tasks.div_ceil(2),
            _ => MAX_BATCH,
        };
        let (mut batch, mut count, mut size) = (Vec::<Order>::new(), 0, 0);
        while let Some(next) = self.waiting.front() {
            let (tasks, bytes) = (next.tasks.len(), next.bytes());
            let alike = batch
                .first()
                .is_none_or(|first| next.unique == first.unique && next.waiter == first.waiter);
            let fits = count + tasks <= most.min(MAX_BATCH) && size + bytes <= CALL_BYTES;
            if !(batch.is_empty() || alike && fits) {
                break;
            }
            batch.extend(self.waiting.pop_front());
            count += tasks;
            size += bytes;
        }
        self.tasks -= count;
        batch
    }
}

/// One way to Redis: a producer's session, one call at a time.
struct Way {
    queue: Queue,
    session: SessionId,
    number: u64,
}

impl Way {
    fn new(queue: Queue) -> Self {
        Self {
            queue,
            session: SessionId::fresh(),
            number: 0,
        }
    }

    async fn send(&mut self, orders: Vec<Order>) {
        let answer = self.call(&orders).await;
        if orders.len() == 1 || !matches!(answer, Err(Error::Full { .. })) {
            return deliver(orders, answer);
        }
        // What went together by chance is not refused together: in a full queue each asks for itself.
        for order in orders {
            let answer = self.call(std::slice::from_ref(&order)).await;
            deliver(vec![order], answer);
        }
    }

    /// One call for all these orders, repeated until it is answered.
    async fn call(&mut self, orders: &[Order]) -> Result<Vec<Accepted>, Error> {
        self.number += 1;
        let give_up = orders.iter().map(|order| order.give_up).max();
        let batch = Batch {
            session: &self.session,
            number: self.number,
            waiter: orders[0].waiter.as_ref(),
        };
        let tasks = orders.iter().flat_map(|order| order.tasks.iter());
        let cmd = self.queue.enqueue_cmd(batch, orders[0].unique, tasks)?;
        until_kept(&self.queue, &cmd, give_up.unwrap_or_else(Instant::now)).await
    }
}

/// Sends one enqueue until it is answered or it is `give_up`. The batch number inside `cmd` makes the
/// repeats harmless.
///
/// # Errors
/// As [`Submitter::submit`].
pub async fn until_kept(queue: &Queue, cmd: &redis::Cmd, give_up: Instant) -> Result<Vec<Accepted>, Error> {
    let mut patience = Patience::default();
    let mut unknown = None;
    loop {
        let error = match queue.enqueue(cmd).await {
            Err(error) if error.is_temporary() => error,
            other => return other,
        };
        if let Error::Unknown(text) = &error {
            unknown = Some(text.clone());
        }
        if Instant::now() >= give_up {
            // A call whose reply was lost may have been applied, whatever came after it.
            return Err(unknown.map_or(error, Error::Unknown));
        }
        patience.wait().await;
    }
}

/// Gives each caller its part of the answer. One that has gone away is no error: its tasks are kept.
fn deliver(orders: Vec<Order>, answer: Result<Vec<Accepted>, Error>) {
    let mut rest = match answer {
        Ok(accepted) => accepted.into_iter(),
        Err(error) => {
            for order in orders {
                order.answer.send(Err(error.clone())).ok();
            }
            return;
        }
    };
    for order in orders {
        let part: Vec<Accepted> = rest.by_ref().take(order.tasks.len()).collect();
        order.answer.send(Ok(part)).ok();
    }
}
