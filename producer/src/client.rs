//! The client: one shared connection, what is known per queue, and how outages are waited out.
//!
//! Invariant: cloning is cheap and clones share everything but the durability level. Every call
//! that fails for a temporary reason is sent again until the client's patience ends; all calls of
//! the protocol are safe to repeat. The other modules add its methods.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;
use workyard_shared::Error as CallError;
use workyard_shared::broker::{Broker, Queue};
use workyard_shared::link::Link;
use workyard_shared::name::QueueName;
use workyard_shared::outage::Patience;
use workyard_shared::submit::Submitter;

use crate::board::Board;
use crate::config::ClientConfig;
use crate::durability::Durability;
use crate::durable::Lanes;
use crate::error::Error;
use crate::outages::Outages;

/// A producer: enqueues tasks, waits for their ends, looks and operates.
///
/// ```no_run
/// use std::time::Duration;
/// use workyard_producer::{Client, ClientConfig, QueueName, task};
///
/// # async fn example() -> Result<(), workyard_producer::Error> {
/// let client = Client::new(ClientConfig::from_url("redis://127.0.0.1/")?)?;
/// let emails = QueueName::new("emails")?;
/// let receipt = client.enqueue(&emails, task("mail:send").payload("ada@example.com").build()?).await?;
/// let ended = client.wait(&emails, receipt.id.as_str(), Duration::from_secs(30)).await?;
/// println!("{} {:?}", ended.state.as_str(), ended.body);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    pub(crate) durability: Durability,
}

/// What the clones of a client share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) broker: Broker,
    pub(crate) config: ClientConfig,
    pub(crate) board: Board,
    pub(crate) outages: Arc<Outages>,
    pub(crate) lanes: Lanes,
    gates: Mutex<HashMap<QueueName, Arc<Gate>>>,
}

/// The way into one queue.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) queue: Queue,
    pub(crate) submitter: Submitter,
    announced: AtomicBool,
}

impl Client {
    /// Makes a client without connecting: the first call does. Must be called inside a tokio
    /// runtime, in which it keeps small tasks of its own.
    ///
    /// # Errors
    /// [`CallError::Invalid`] if the settings cannot work.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        let (push_in, pushes) = mpsc::unbounded_channel();
        let link = Link::new(config.link.clone(), Some(push_in))?;
        let outages = Arc::new(Outages::new(config.wait_patience));
        let inner = Inner {
            broker: Broker::new(link, config.prefix.clone()).acting_as(&config.operator),
            board: Board::start(pushes, Arc::clone(&outages)),
            outages,
            lanes: Lanes::new(&config)?,
            gates: Mutex::default(),
            config,
        };
        Ok(Self {
            inner: Arc::new(inner),
            durability: Durability::Memory,
        })
    }

    /// The same client, whose enqueues wait for this level.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            durability,
        }
    }

    /// The calls below this client, for what it has no method for.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    pub(crate) fn queue(&self, name: &QueueName) -> Queue {
        self.inner.broker.queue(name)
    }

    pub(crate) fn gate(&self, name: &QueueName) -> Arc<Gate> {
        let mut gates = self.inner.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(name.clone()).or_insert_with(|| {
            let queue = self.inner.broker.queue(name);
            let submitter = Submitter::start(queue.clone());
            Arc::new(Gate {
                queue,
                submitter,
                announced: AtomicBool::new(false),
            })
        });
        Arc::clone(gate)
    }

    /// Makes the queue known to `workyard queues`, once per client. Never an obstacle: a queue that
    /// cannot be announced now is announced with the next enqueue.
    pub(crate) async fn announce(&self, gate: &Gate) {
        if gate.announced.load(Ordering::Relaxed) {
            return;
        }
        match self.inner.broker.announce(gate.queue.name()).await {
            Ok(()) => gate.announced.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::debug!(%error, queue = %gate.queue.name(), "the queue is not announced yet")
            }
        }
    }

    /// Repeats a call while it fails for a temporary reason and patience lasts.
    pub(crate) async fn patiently<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let give_up = Instant::now() + self.inner.config.patience;
        let mut patience = Patience::default();
        let mut unknown = None;
        loop {
            let error = match call().await {
                Err(error) if error.is_temporary() => error,
                other => return Ok(other?),
            };
            if let CallError::Unknown(text) = &error {
                unknown = Some(text.clone());
            }
            if Instant::now() >= give_up {
                // A call whose reply was lost may have been applied, whatever came after it.
                return Err(unknown.map_or(error, CallError::Unknown).into());
            }
            // The last pause ends when the patience does, and one more call is made.
            tokio::time::timeout_at(give_up.into(), patience.wait()).await.ok();
        }
    }
}
