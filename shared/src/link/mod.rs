//! The connection to Redis that a process shares: reconnects, finds the right server, knows the functions, sorts errors.
//!
//! Three engines behind one face: a single server, a cluster, a master that Sentinel watches. Invariant: a call is
//! sent once. Only when a server answers that nothing ran (the library is not loaded there, so it is loaded; the slot
//! is another's) is the call sent again. Waiting and repeating is the caller's: it knows what may be repeated and how
//! long it has.

mod access;
mod address;
mod cluster;
mod config;
mod forms;
mod freshness;
mod library;
mod login;
mod line;
mod node;
mod own;
mod password;
mod tls;
mod redirect;
mod sentinel;
mod slot;
mod switches;
mod topology;
mod url;

use std::pin::Pin;
use std::sync::Arc;

use redis::{Cmd, ConnectionInfo, Pipeline, PushInfo, Value};
use tokio::sync::mpsc::UnboundedSender;

pub use access::{Access, PASSWORD_VARIABLE, note_on_arguments};
pub use config::{DEFAULT_URL, LinkConfig};
pub use own::OwnConnections;

use crate::error::{Error, Outage};
use cluster::Cluster;
use config::Engine;
use freshness::Freshness;
use node::Node;
use sentinel::Sentinel;

/// A shared connection. Cheap to clone; all clones send over one socket to each server.
#[derive(Clone)]
pub struct Link {
    way: Way,
    config: Arc<LinkConfig>,
}

#[derive(Clone)]
enum Way {
    Single(Node),
    Cluster(Arc<Cluster>),
    Sentinel(Arc<Sentinel>),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// An answer under way. Its type hides what is below: spelled out, the futures of a cluster were deeper than the compiler lets a
/// program go that only awaits an enqueue.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl Link {
    /// Makes a link without connecting: the first call does. `pushes` gets what Redis sends unasked.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the settings cannot work.
    pub fn new(config: LinkConfig, pushes: Option<UnboundedSender<PushInfo>>) -> Result<Self, Error> {
        let config = Arc::new(config);
        let way = match config.engine() {
            Engine::Single => {
                let feed = Freshness::default().feed(pushes);
                Way::Single(Node::new(config.info(), &config, feed)?)
            }
            Engine::Cluster { seeds } => {
                Way::Cluster(Arc::new(Cluster::new(Arc::clone(&config), seeds.clone(), pushes)))
            }
            Engine::Sentinel { sentinels, master } => {
                let (sentinels, master) = (sentinels.clone(), master.clone());
                Way::Sentinel(Arc::new(Sentinel::new(Arc::clone(&config), sentinels, master, pushes)))
            }
        };
        Ok(Self { way, config })
    }

    /// The settings of this link.
    #[must_use]
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Whether keys are spread over several servers by slots, which can move.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.config.engine(), Engine::Cluster { .. })
    }

    /// Connections of the caller's own, at most `size` at once to each server.
    #[must_use]
    pub fn own_connections(&self, size: usize) -> OwnConnections {
        OwnConnections::new(self.clone(), size)
    }

    /// Learns from an error on a connection of the caller's own that another server may be the right one now.
    pub fn heed(&self, error: &Error) {
        match &self.way {
            Way::Single(_) => {}
            Way::Cluster(cluster) => cluster.heed(error),
            Way::Sentinel(sentinel) => sentinel.heed(error),
        }
    }

    /// Sends one command to the server that has its key, or to any if it has none.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub fn call<'a>(&'a self, cmd: &'a Cmd) -> Answer<'a, Value> {
        Box::pin(async move {
            match &self.way {
                Way::Single(node) => node.call(cmd).await.map_err(one_of_a_cluster),
                Way::Cluster(cluster) => cluster.call(slot::of_command(cmd), cmd).await,
                Way::Sentinel(sentinel) => sentinel.call(cmd).await,
            }
        })
    }

    /// Sends a command without a key to the server that has `key`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn call_at(&self, key: &str, cmd: &Cmd) -> Result<Value, Error> {
        match &self.way {
            Way::Cluster(cluster) => cluster.call(Some(slot::of_key(key.as_bytes())), cmd).await,
            Way::Single(_) | Way::Sentinel(_) => self.call(cmd).await,
        }
    }

    /// Sends several commands in one round trip per server; each has its own answer. One without a key goes where the
    /// first with one goes.
    ///
    /// # Errors
    /// Of the connection only, if there is just one: what else goes wrong stands in its place.
    pub fn pipeline<'a>(&'a self, pipeline: &'a Pipeline) -> Answer<'a, Vec<Result<Value, Error>>> {
        Box::pin(async move {
            match &self.way {
                Way::Single(node) => {
                    let answers = node.pipeline(pipeline).await?.into_iter();
                    Ok(answers.map(|answer| answer.map_err(one_of_a_cluster)).collect())
                }
                Way::Cluster(cluster) => cluster.pipeline(pipeline).await,
                Way::Sentinel(sentinel) => sentinel.pipeline(pipeline).await,
            }
        })
    }

    /// One link per server that takes writes: what looks at servers, not at keys, goes round these.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn servers(&self) -> Result<Vec<Self>, Error> {
        if !self.is_cluster() {
            return Ok(vec![self.clone()]);
        }
        let nodes = self.nodes().await?.into_iter();
        Ok(nodes
            .map(|node| Self {
                way: Way::Single(node),
                config: Arc::clone(&self.config),
            })
            .collect())
    }

    /// Loads the functions library on every server that takes writes, replacing the same version of it.
    ///
    /// # Errors
    /// [`Error::Denied`] if this user may not: then `workyard install` must be run by one who may.
    pub async fn load_library(&self) -> Result<(), Error> {
        for node in self.nodes().await? {
            library::load(&node).await.inspect_err(|error| self.heed(error))?;
        }
        Ok(())
    }

    /// Loads the library where it is missing or is another build of the same version.
    ///
    /// # Errors
    /// As [`Self::load_library`]; a user who may not look is served by what is loaded.
    pub async fn ensure_library(&self) -> Result<(), Error> {
        for node in self.nodes().await? {
            library::ensure(&node).await.inspect_err(|error| self.heed(error))?;
        }
        Ok(())
    }

    /// Subscribes the connection of its server to a shard channel; messages come as pushes. Lost with the
    /// connection, or when the slot moves: the owner of the pushes hears of that and asks again.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn subscribe(&self, channel: &str) -> Result<(), Error> {
        let mut cmd = redis::cmd("SSUBSCRIBE");
        cmd.arg(channel);
        self.call(&cmd).await.map(|_| ())
    }

    /// Takes a subscription of [`Self::subscribe`] back.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn unsubscribe(&self, channel: &str) -> Result<(), Error> {
        let mut cmd = redis::cmd("SUNSUBSCRIBE");
        cmd.arg(channel);
        self.call(&cmd).await.map(|_| ())
    }

    fn nodes(&self) -> Answer<'_, Vec<Node>> {
        Box::pin(async move {
            match &self.way {
                Way::Single(node) => Ok(vec![node.clone()]),
                Way::Cluster(cluster) => cluster.masters().await,
                Way::Sentinel(sentinel) => Ok(vec![sentinel.node().await?]),
            }
        })
    }

    /// How to reach the server that has `key`.
    fn place<'a>(&'a self, key: &'a str) -> Answer<'a, ConnectionInfo> {
        Box::pin(async move {
            match &self.way {
                Way::Single(_) => Ok(self.config.info().clone()),
                Way::Cluster(cluster) => cluster.place(slot::of_key(key.as_bytes())).await,
                Way::Sentinel(sentinel) => sentinel.place().await,
            }
        })
    }
}

/// A single server that sends us elsewhere will do so for ever: the URL is wrong.
fn one_of_a_cluster(error: Error) -> Error {
    match error {
        Error::Unavailable {
            outage: Outage::ClusterDown,
            detail,
        } if detail.starts_with("MOVED ") => Error::Invalid(format!(
            "this Redis is a node of a cluster: use redis-cluster://host:port,host:port ({detail})"
        )),
        other => other,
    }
}
