//! The connection to Redis that a process shares: reconnects, knows the functions, sorts errors.
//!
//! Invariant: a call is sent once. Only when Redis answers that the library is not loaded (so that
//! nothing ran) is it loaded and the call sent again. Waiting and repeating is the caller's: it
//! knows what may be repeated and how long it has.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, Value};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::Error;
use crate::functions;

/// Where Redis is when nobody says: the usual port of this machine.
pub const DEFAULT_URL: &str = "redis://127.0.0.1:6379/";

/// Silence after which a connection is probed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// Pause between such probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
/// How long sent bytes may stay unacknowledged before the connection counts as dead.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_FOR: Duration = Duration::from_secs(10);

/// How to reach Redis.
#[derive(Clone)]
pub struct LinkConfig {
    info: ConnectionInfo,
    /// Longest wait for a reply before it counts as lost; 5 s by default.
    pub response_timeout: Duration,
    /// Longest wait for a connection; 2 s by default.
    pub connect_timeout: Duration,
}

impl std::fmt::Debug for LinkConfig {
    // The URL may hold a password: only where it goes is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkConfig")
            .field("addr", &self.address())
            .finish_non_exhaustive()
    }
}

impl LinkConfig {
    /// Reads `redis://[user:password@]host:port/db`, `rediss://...` or `unix:///path/to.sock`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none of these; the URL is not repeated, it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let info = url.into_connection_info().map_err(|e| {
            Error::Invalid(format!(
                "Redis URL must be like redis://user:password@host:6379/0 or unix:///path ({})",
                e.category()
            ))
        })?;
        // RESP3: wake-ups come as pushes on the connection that the calls use.
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("workyard", env!("CARGO_PKG_VERSION"));
        // A peer that vanished without a word must not hold a call for ever.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY);
        let tcp = redis::io::tcp::TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(UNACKNOWLEDGED_FOR);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        Ok(Self {
            info,
            response_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        })
    }

    /// Where it goes, without user or password.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{} db {}", self.info.addr(), self.info.redis_settings().db())
    }

    /// The user of Redis.
    #[must_use]
    pub fn user(&self) -> &str {
        self.info.redis_settings().username().unwrap_or("default")
    }

    /// The number of the database.
    #[must_use]
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// A pool of connections of their own, for what must not share one: a blocking wait, a long
    /// scan. Replies are waited for as long as they take, so bound each wait on the server's side.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the crate cannot use the address.
    pub fn pool(&self, size: usize) -> Result<deadpool_redis::Pool, Error> {
        let settings = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None);
        let manager = deadpool_redis::Manager::new_with_config(self.info.clone(), settings)?;
        deadpool_redis::Pool::builder(manager)
            .max_size(size)
            .build()
            .map_err(|e| Error::Invalid(format!("connection pool: {e}")))
    }

    /// A client of the redis crate with these settings, for calls outside the protocol.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the crate cannot use the address.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(Client::open(self.info.clone())?)
    }
}

/// A shared connection. Cheap to clone; all clones send over one socket.
#[derive(Clone)]
pub struct Link {
    manager: ConnectionManager,
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
        let mut settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout))
            .set_number_of_retries(0)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500));
        if let Some(pushes) = pushes {
            settings = settings.set_push_sender(pushes);
        }
        let manager = ConnectionManager::new_lazy_with_config(config.client()?, settings)?;
        Ok(Self {
            manager,
            config: Arc::new(config),
        })
    }

    /// The settings of this link.
    #[must_use]
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Sends one command.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn call(&self, cmd: &Cmd) -> Result<Value, Error> {
        match self.send(cmd).await {
            Err(error) if lacks_library(&error) => {
                self.load_library().await?;
                self.send(cmd).await
            }
            other => other,
        }
    }

    async fn send(&self, cmd: &Cmd) -> Result<Value, Error> {
        let value = self.manager.clone().send_packed_command(cmd).await?;
        value.extract_error().map_err(Error::from)
    }

    /// Sends several commands in one round trip; each has its own answer.
    ///
    /// # Errors
    /// Of the connection only: what Redis refuses stands in its place.
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let answers = self.send_all(pipeline).await?;
        if !answers.iter().any(|a| a.as_ref().is_err_and(lacks_library)) {
            return Ok(answers);
        }
        // No function of the library ran, and plain commands beside them may be repeated.
        self.load_library().await?;
        self.send_all(pipeline).await
    }

    async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let values = self
            .manager
            .clone()
            .req_packed_commands(pipeline, 0, pipeline.len())
            .await?;
        Ok(values
            .into_iter()
            .map(|value| value.extract_error().map_err(Error::from))
            .collect())
    }

    /// Loads the functions library, replacing the same version of it.
    ///
    /// # Errors
    /// [`Error::Denied`] if this user may not: then `workyard install` must be run by one who may.
    pub async fn load_library(&self) -> Result<(), Error> {
        let mut cmd = redis::cmd("FUNCTION");
        cmd.arg("LOAD").arg("REPLACE").arg(functions::library());
        match self.send(&cmd).await {
            Ok(_) => Ok(()),
            Err(Error::Denied(text)) => Err(Error::Denied(format!(
                "the functions of Workyard are not loaded and this user may not load them; run `workyard install` as one who may ({text})"
            ))),
            Err(error) => Err(error),
        }
    }

    /// Loads the library if it is missing or is another build of the same version.
    ///
    /// # Errors
    /// As [`Self::load_library`]; a user who may not look is served by what is loaded.
    pub async fn ensure_library(&self) -> Result<(), Error> {
        let mut cmd = redis::cmd("FUNCTION");
        cmd.arg("LIST")
            .arg("LIBRARYNAME")
            .arg(functions::LIBRARY)
            .arg("WITHCODE");
        match self.send(&cmd).await {
            Ok(found) if holds(&found, functions::library().as_bytes()) => Ok(()),
            Ok(_) => self.load_library().await,
            Err(Error::Denied(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Subscribes this connection to a shard channel; messages come as pushes. Lost with the
    /// connection: the owner of the pushes hears of that and asks again.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn subscribe(&self, channel: &str) -> Result<(), Error> {
        let mut cmd = redis::cmd("SSUBSCRIBE");
        cmd.arg(channel);
        self.send(&cmd).await.map(|_| ())
    }
}

fn lacks_library(error: &Error) -> bool {
    matches!(error, Error::Protocol(text) if text.contains("Function not found"))
}

/// Whether `text` stands anywhere in a nested answer.
fn holds(value: &Value, text: &[u8]) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Map(pairs) => pairs.iter().any(|(_, item)| holds(item, text)),
        _ => false,
    }
}
