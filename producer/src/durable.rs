//! Durable enqueues: the write and the wait for its confirmation, on one connection of their own.
//!
//! WAIT blocks its connection, so it must not be on the shared one; and it speaks for the writes of
//! its own connection only, so write and WAIT go out in one pipeline: if the connection is lost
//! between them, both are repeated. A repeat of a batch that was applied writes nothing, yet its
//! WAIT still covers the first write, because Redis waits for the log's end at the time of the
//! connection's last command. Invariant: each lane has one call under way, numbered one by one.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use deadpool_redis::Connection;
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::Semaphore;
use workyard_shared::Error as CallError;
use workyard_shared::broker::{Accepted, Batch, Queue};
use workyard_shared::envelope::NewTask;
use workyard_shared::link::{Link, OwnConnections};
use workyard_shared::name::{SessionId, TaskId};
use workyard_shared::outage::Patience;

use crate::client::Client;
use crate::config::ClientConfig;
use crate::durability::{Durability, Kept};
use crate::error::Error;

/// Durable enqueues under way at once; more wait in line.
const LANES: usize = 8;

/// A producer session with its last batch number.
#[derive(Debug)]
struct Numbering {
    session: SessionId,
    number: u64,
}

#[derive(Debug)]
pub(crate) struct Lanes {
    pool: OnceLock<OwnConnections>,
    config: ClientConfig,
    free: Mutex<Vec<Numbering>>,
    permits: Semaphore,
    /// Whether the server knows WAITAOF, once asked.
    waitaof: OnceLock<bool>,
}

impl Lanes {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, Error> {
        Ok(Self {
            pool: OnceLock::new(),
            config: config.clone(),
            free: Mutex::default(),
            permits: Semaphore::new(LANES),
            waitaof: OnceLock::new(),
        })
    }

    fn pool(&self, link: &Link) -> &OwnConnections {
        self.pool.get_or_init(|| link.own_connections(LANES))
    }

    /// Adds tasks and waits for the confirmation of `level`.
    pub(crate) async fn enqueue(
        &self,
        queue: &Queue,
        tasks: &[(TaskId, NewTask)],
        fresh: bool,
        waiter: Option<&SessionId>,
        level: Durability,
    ) -> Result<(Vec<Accepted>, Kept), Error> {
        let closed = |_| CallError::Unknown("the client has ended".to_owned());
        let _permit = self.permits.acquire().await.map_err(closed)?;
        let mut lane = self.take();
        lane.number += 1;
        let batch = Batch {
            session: &lane.session,
            number: lane.number,
            waiter,
        };
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(queue.enqueue_cmd(batch, fresh, tasks)?);
        pipeline.add_command(self.confirm_cmd(level));
        let answer = self.until_kept(queue, &pipeline, level).await;
        // A lane whose caller went away meanwhile is not returned, so no number is used twice.
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        Ok(answer?)
    }

    fn take(&self) -> Numbering {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Numbering {
            session: SessionId::fresh(),
            number: 0,
        })
    }

    fn confirm_cmd(&self, level: Durability) -> Cmd {
        let ms = u64::try_from(self.config.confirm_within.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let mut cmd = match level {
            Durability::Replicas(n) => {
                let mut cmd = redis::cmd("WAIT");
                cmd.arg(n);
                cmd
            }
            Durability::Fsync | Durability::Memory => {
                let mut cmd = redis::cmd("WAITAOF");
                cmd.arg(1).arg(0);
                cmd
            }
        };
        cmd.arg(ms);
        cmd
    }

    async fn until_kept(
        &self,
        queue: &Queue,
        pipeline: &Pipeline,
        level: Durability,
    ) -> Result<(Vec<Accepted>, Kept), CallError> {
        let give_up = Instant::now() + self.config.patience;
        let mut patience = Patience::default();
        let mut unknown = None;
        loop {
            let error = match self.once(queue, pipeline, level).await {
                Err(error) if error.is_temporary() => error,
                other => return other,
            };
            queue.link().heed(&error);
            if let CallError::Unknown(text) = &error {
                unknown = Some(text.clone());
            }
            if Instant::now() >= give_up {
                return Err(unknown.map_or(error, CallError::Unknown));
            }
            patience.wait().await;
        }
    }

    async fn once(
        &self,
        queue: &Queue,
        pipeline: &Pipeline,
        level: Durability,
    ) -> Result<(Vec<Accepted>, Kept), CallError> {
        let mut answers = self.send(queue, pipeline).await?.into_iter();
        let mut next = || {
            answers
                .next()
                .unwrap_or(Value::Nil)
                .extract_error()
                .map_err(CallError::from)
        };
        let added = match next() {
            Err(CallError::Protocol(text)) if text.contains("Function not found") => {
                queue.link().load_library().await?;
                return Err(CallError::Unknown(
                    "the functions were not loaded; sending again".to_owned(),
                ));
            }
            other => Queue::read_enqueue(other?)?,
        };
        Ok((added, confirmed(next(), level)))
    }

    async fn send(&self, queue: &Queue, pipeline: &Pipeline) -> Result<Vec<Value>, CallError> {
        let mut connection = self.pool(queue.link()).get(&queue.keys().shared()[0]).await?;
        let limit = self.config.confirm_within + self.config.link.response_timeout;
        let answer = tokio::time::timeout(limit, connection.req_packed_commands(pipeline, 0, 2)).await;
        match answer {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(error)) => {
                drop(Connection::take(connection));
                Err(error.into())
            }
            Err(_) => {
                // Its replies are still to come: not a connection for the next caller.
                drop(Connection::take(connection));
                Err(CallError::Unknown("no answer to a durable enqueue in time".to_owned()))
            }
        }
    }
}

/// What the confirmation proves.
fn confirmed(answer: Result<Value, CallError>, level: Durability) -> Kept {
    match (level, answer) {
        (Durability::Replicas(n), Ok(Value::Int(count))) if count >= i64::from(n) => Kept::Replicas(n),
        (Durability::Replicas(_), _) => Kept::Unknown,
        (Durability::Fsync, Ok(Value::Array(counts))) if matches!(counts.first(), Some(Value::Int(1..))) => Kept::Fsync,
        // Also when the server has no append-only file and WAITAOF says so.
        (Durability::Fsync | Durability::Memory, _) => Kept::Memory,
    }
}

impl Client {
    /// Whether the server knows WAITAOF (Redis 7.2 and newer).
    pub(crate) async fn has_waitaof(&self) -> Result<bool, Error> {
        if let Some(known) = self.inner.lanes.waitaof.get() {
            return Ok(*known);
        }
        let mut cmd = redis::cmd("COMMAND");
        cmd.arg("INFO").arg("WAITAOF");
        let link = self.inner.broker.link();
        let known = match self.patiently(|| link.call(&cmd)).await {
            Ok(Value::Array(items)) => matches!(items.first(), Some(Value::Array(_))),
            // A user that may not ask gets what the settings say instead.
            Ok(_) | Err(Error::Call(CallError::Denied(_) | CallError::Protocol(_))) => false,
            Err(error) => return Err(error),
        };
        Ok(*self.inner.lanes.waitaof.get_or_init(|| known))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_receipt_never_claims_more_than_was_confirmed() {
        let int = |n| Ok(Value::Int(n));
        let pair = |n| Ok(Value::Array(vec![Value::Int(n), Value::Int(0)]));
        let refused = || Err(CallError::Protocol("ERR unknown command".to_owned()));
        assert_eq!(confirmed(int(2), Durability::Replicas(2)), Kept::Replicas(2));
        assert_eq!(confirmed(int(1), Durability::Replicas(2)), Kept::Unknown);
        assert_eq!(confirmed(refused(), Durability::Replicas(1)), Kept::Unknown);
        assert_eq!(confirmed(pair(1), Durability::Fsync), Kept::Fsync);
        assert_eq!(confirmed(pair(0), Durability::Fsync), Kept::Memory);
        assert_eq!(confirmed(refused(), Durability::Fsync), Kept::Memory);
    }

    #[test]
    fn the_wait_for_replicas_is_bounded_by_the_server() {
        let mut config = ClientConfig::from_url("redis://127.0.0.1/").unwrap();
        config.confirm_within = Duration::from_millis(250);
        let cmd = Lanes::new(&config).unwrap().confirm_cmd(Durability::Replicas(1));
        let text = String::from_utf8(cmd.get_packed_command()).unwrap();
        assert!(text.contains("WAIT") && text.contains("250"), "{text}");
    }
}
