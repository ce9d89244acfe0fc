//! How to reach Redis, read from a URL once.
//!
//! Invariant: what every connection of a link has in common (user, database, protocol, TCP settings) stands here
//! once, whichever server it goes to. It connects to nothing.

use std::time::Duration;

use redis::{Client, ConnectionInfo, ProtocolVersion};

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

/// How to reach Redis.
#[derive(Clone)]
pub struct LinkConfig {
    /// What each connection begins with; its address is that of the first server.
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
    /// Reads `redis://[user:password@]host:port/db`, `rediss://...` or `unix:///path/to.sock`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none of these; the URL is not repeated, it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        tls::prepare();
        Ok(Self {
            info: tuned(url::parse(url)?),
            password_file: None,
            response_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        })
    }

    /// Where it goes, without user or password.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{} db {}", self.info.addr(), self.info.redis_settings().db())
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

/// A client of the redis crate for one server.
pub(super) fn client(info: &ConnectionInfo) -> Result<Client, Error> {
    Ok(Client::open(info.clone())?)
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
