//! What every command that talks to Redis has: the client, the queue, the output.
//!
//! Invariant: a queue named with `--queue` that nobody ever used is told as bad use by the commands
//! that only look, instead of an empty answer that hides a typing error.

use std::sync::Arc;
use std::time::Duration;

use workyard_producer::{Client, ClientConfig, KeyRing, LinkConfig, QueueName};
use workyard_shared::near::nearest;
use workyard_shared::{Error as CallError, Outage, duration};

use super::args::Global;
use super::away::Notes;
use super::exit::CliError;
use super::managed::{self, MANAGED};
use super::output::Out;
use super::time::Clock;
use super::typist;

/// Queues that a note names.
const NAMED: usize = 20;

/// Which queues there are instead of one that nobody ever used, and which of them was probably meant.
pub(crate) fn known(unknown: &QueueName, queues: &[QueueName]) -> String {
    let names = || queues.iter().map(QueueName::as_str);
    let listed: Vec<&str> = names().take(NAMED).collect();
    match nearest(unknown.as_str(), names()) {
        _ if listed.is_empty() => "there are none yet".to_owned(),
        Some(meant) => format!("did you mean {meant}? There are {}", listed.join(", ")),
        None => format!("there are {}", listed.join(", ")),
    }
}

/// One run of a command.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Payloads are sealed on their way out.
    pub(crate) seals: bool,
    pub(crate) queue: QueueName,
    /// The queue was named, not left to its default.
    pub(crate) named: bool,
    /// It was named by the flag, not by the environment.
    typed: bool,
    pub(crate) out: Out,
    /// Where to tell what is no data while something may be drawn.
    pub(crate) notes: Notes,
}

impl Session {
    /// Reads the settings; nothing connects yet, but a managed Redis is started if need be.
    pub(crate) async fn open(global: &Global, block_timeout: Option<Duration>) -> Result<Self, CliError> {
        let link = if global.redis_url == MANAGED {
            managed::link().await?
        } else {
            LinkConfig::from_url(&global.redis_url)?.with_access(&global.access.clone().with_variable())?
        };
        let mut config = ClientConfig::new(link);
        if let Some(path) = &global.keys {
            config.keys = Some(Arc::new(KeyRing::read(path)?));
        }
        config.patience = global.patience;
        // Who says nothing of it wants no long wait to end by a restart of Redis.
        config.wait_patience = global.patience_given.then_some(global.patience);
        config.block_timeout = block_timeout.unwrap_or(config.block_timeout);
        config.operator = global.operator.clone().unwrap_or_else(typist::whoever_types);
        if let Some(prefix) = &global.prefix {
            config.prefix = prefix.clone();
        }
        let (queue, named) = match &global.queue {
            Some(queue) => (queue.clone(), true),
            None => (QueueName::new("default")?, false),
        };
        Ok(Self {
            seals: config.keys.as_ref().is_some_and(|keys| keys.seals()),
            client: Client::new(config)?,
            queue,
            named,
            typed: global.queue_typed,
            out: Out::new(global.json),
            notes: Notes::default(),
        })
    }

    /// Redis' time.
    pub(crate) async fn clock(&self) -> Result<Clock, CliError> {
        Ok(Clock {
            now: self.client.now().await?,
        })
    }

    /// Asks whether Redis is there, before a wait and for as long as that may take at most. One that is away now is told;
    /// one that goes away later is waited out.
    pub(crate) async fn is_there(&self, limit: Option<Duration>) -> Result<(), CliError> {
        match tokio::time::timeout(limit.unwrap_or(Duration::MAX), self.client.now()).await {
            Ok(now) => Ok(now.map(drop)?),
            Err(_) => {
                let detail = format!("no answer within {}", duration::format(limit.unwrap_or_default()));
                let outage = Outage::Away;
                Err(CallError::Unavailable { outage, detail }.into())
            }
        }
    }

    /// From now on the queue is the one that stands without a flag, if there is one: it goes before the environment.
    pub(crate) fn take(&mut self, name: Option<QueueName>) -> Result<(), CliError> {
        let Some(name) = name else { return Ok(()) };
        if self.typed && name != self.queue {
            let message = format!("two queues are named: {name}, and {} by --queue", self.queue);
            return Err(CliError::usage(message, Some("name one of them")));
        }
        (self.queue, self.named) = (name, true);
        Ok(())
    }

    /// Known queues besides the one that is looked at, as many as a note can name.
    pub(crate) async fn other_queues(&self) -> Result<Vec<String>, CliError> {
        let known = self.client.queues().await?;
        let others = known.iter().filter(|name| **name != self.queue);
        Ok(others.map(ToString::to_string).take(NAMED).collect())
    }

    /// Refuses a named queue that Redis knows nothing of.
    pub(crate) async fn known_queue(&self) -> Result<(), CliError> {
        if !self.named {
            return Ok(());
        }
        let queues = self.client.queues().await?;
        if self.is_used(&queues).await? {
            return Ok(());
        }
        Err(CliError::usage(
            format!("no queue \"{}\" has ever been used here", self.queue),
            Some(&known(&self.queue, &queues)),
        ))
    }

    /// After a list that is empty: which queue was looked at, if none was named and there are others.
    pub(crate) async fn note_other_queues(&self) -> Result<(), CliError> {
        if self.named || self.out.json {
            return Ok(());
        }
        let names = self.other_queues().await?;
        if !names.is_empty() {
            let looked_at = &self.queue;
            self.out.note(&format!(
                "note: this is queue {looked_at}; --queue names another: {}",
                names.join(", ")
            ));
        }
        Ok(())
    }

    /// Whether anybody ever used the queue, as far as Redis knows.
    pub(crate) async fn is_used(&self, queues: &[QueueName]) -> Result<bool, CliError> {
        Ok(queues.contains(&self.queue) || !self.client.stats(&self.queue).await?.is_untouched())
    }

    /// The named queue, or else all that are known.
    pub(crate) async fn queues(&self) -> Result<Vec<QueueName>, CliError> {
        if self.named {
            self.known_queue().await?;
            return Ok(vec![self.queue.clone()]);
        }
        Ok(self.client.queues().await?)
    }
}
