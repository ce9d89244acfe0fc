//! The connection to Redis that a process shares: reconnects, knows the functions, sorts errors.
//!
//! Invariant: a call is sent once. Only when Redis answers that nothing ran (the library is not loaded, so it is
//! loaded) is the call sent again. Waiting and repeating is the caller's: it knows what may be repeated and how long
//! it has.

mod config;
mod library;
mod login;
mod line;
mod node;
mod own;
mod url;

use std::sync::Arc;

use redis::{Cmd, Pipeline, PushInfo, Value};
use tokio::sync::mpsc::UnboundedSender;

pub use config::{DEFAULT_URL, LinkConfig};
pub use own::OwnConnections;

use crate::error::Error;
use node::Node;

/// A shared connection. Cheap to clone; all clones send over one socket.
#[derive(Clone)]
pub struct Link {
    node: Node,
    config: Arc<LinkConfig>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Makes a link without connecting: the first call does. `pushes` gets what Redis sends unasked.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the settings cannot work.
    pub fn new(config: LinkConfig, pushes: Option<UnboundedSender<PushInfo>>) -> Result<Self, Error> {
        Ok(Self {
            node: Node::new(config.info(), &config, pushes)?,
            config: Arc::new(config),
        })
    }

    /// The settings of this link.
    #[must_use]
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Connections of the caller's own, at most `size` at once to each server.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the crate cannot use the address.
    pub fn own_connections(&self, size: usize) -> Result<OwnConnections, Error> {
        OwnConnections::new(&self.config, size)
    }

    /// Sends one command to the server that has its key, or to any if it has none.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn call(&self, cmd: &Cmd) -> Result<Value, Error> {
        self.node.call(cmd).await
    }

    /// Sends a command without a key to the server that has `key`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn call_at(&self, _key: &str, cmd: &Cmd) -> Result<Value, Error> {
        self.node.call(cmd).await
    }

    /// Sends several commands in one round trip per server; each has its own answer.
    ///
    /// # Errors
    /// Of the connection only: what Redis refuses stands in its place.
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        self.node.pipeline(pipeline).await
    }

    /// One link per server that takes writes: what looks at servers, not at keys, goes round these.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn servers(&self) -> Result<Vec<Self>, Error> {
        Ok(vec![self.clone()])
    }

    /// Loads the functions library, replacing the same version of it.
    ///
    /// # Errors
    /// [`Error::Denied`] if this user may not: then `workyard install` must be run by one who may.
    pub async fn load_library(&self) -> Result<(), Error> {
        library::load(&self.node).await
    }

    /// Loads the library if it is missing or is another build of the same version.
    ///
    /// # Errors
    /// As [`Self::load_library`]; a user who may not look is served by what is loaded.
    pub async fn ensure_library(&self) -> Result<(), Error> {
        library::ensure(&self.node).await
    }

    /// Subscribes the connection of its server to a shard channel; messages come as pushes. Lost with the
    /// connection: the owner of the pushes hears of that and asks again.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn subscribe(&self, channel: &str) -> Result<(), Error> {
        let mut cmd = redis::cmd("SSUBSCRIBE");
        cmd.arg(channel);
        self.node.send(&cmd).await.map(|_| ())
    }
}
