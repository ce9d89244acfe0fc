//! How to reach Redis, read from a URL once.
//!
//! Invariant: what every connection of a link has in common (user, database, protocol, TCP settings) stands here
//! once, whichever server it goes to. It connects to nothing.

use std::time::Duration;

use redis::{Client, ConnectionInfo, ProtocolVersion};

use super::address::Address;
use super::password::PasswordFile;
use super::{tls, url};
use crate::error::Error;

/// Where Redis is when nobody says: the usual port of this machine.
pub const DEFAULT_URL: &str = "redis://127.0.0.1:6379/";

/// Silence after which a connection is probed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// Pause between such probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
/// How long sent bytes may stay unacknowledged before the connection counts as dead.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_FOR: Duration = Duration::from_secs(10);

/// What stands behind a URL, and how the server for a call is found.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    /// One server.
    Single,
    /// A cluster; these nodes are asked who has which slots.
    Cluster {
        /// Where to ask first.
        seeds: Vec<Address>,
    },
    /// A master and its replicas, watched by sentinels.
    Sentinel {
        /// How to reach those.
        sentinels: Vec<ConnectionInfo>,
        /// Its name.
        master: String,
    },
}

/// How to reach Redis.
#[derive(Clone)]
pub struct LinkConfig {
    engine: Engine,
    /// What each connection begins with; its address is that of the first server named.
    info: ConnectionInfo,
    /// Asked for the password of each new connection, if it is not always the same.
    password_file: Option<PasswordFile>,
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
    /// Reads `redis://[user:password@]host:port/db`, `unix:///path/to.sock`,
    /// `redis-cluster://[user:password@]host:port,host:port` or
    /// `redis-sentinel://[user:password@]host:port,host:port/master/db`; `rediss` in place of `redis` is TLS.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none of these; the text shows the URL without its password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        tls::prepare();
        let (engine, info) = url::parse(url)?;
        Ok(Self {
            engine,
            info: tuned(info),
            password_file: None,
            response_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        })
    }

    /// Where it goes, without user or password.
    #[must_use]
    pub fn address(&self) -> String {
        let db = self.info.redis_settings().db();
        match &self.engine {
            Engine::Single => format!("{} db {db}", self.info.addr()),
            Engine::Cluster { seeds } => format!("cluster {}", listed(seeds)),
            Engine::Sentinel { sentinels, master } => {
                let sentinels: Vec<_> = sentinels.iter().map(ConnectionInfo::addr).collect();
                format!("master {master} by sentinels {} db {db}", listed(&sentinels))
            }
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn info_mut(&mut self) -> &mut ConnectionInfo {
        &mut self.info
    }

    pub(super) fn password_file(&self) -> Option<&PasswordFile> {
        self.password_file.as_ref()
    }

    pub(super) fn password_file_mut(&mut self) -> &mut Option<PasswordFile> {
        &mut self.password_file
    }

    /// The server to connect to, and as whom.
    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

fn listed<T: ToString>(servers: &[T]) -> String {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    servers.join(",")
}

/// A client of the redis crate for one server.
pub(super) fn client(info: &ConnectionInfo) -> Result<Client, Error> {
    Ok(Client::open(tls::trusting(info))?)
}

/// With what all connections of Workyard have.
fn tuned(info: ConnectionInfo) -> ConnectionInfo {
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
    info.set_redis_settings(settings).set_tcp_settings(tcp)
}
