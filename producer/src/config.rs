//! What a client needs to know.
//!
//! Invariant: a value of this type can be used as it is; what could be wrong (the URL) was checked
//! when it was made. It reads no environment: the binary does.

use std::sync::Arc;
use std::time::Duration;

use workyard_shared::Error;
use workyard_shared::crypto::KeyRing;
use workyard_shared::link::LinkConfig;
use workyard_shared::name::Prefix;

/// Settings of a [`Client`](crate::Client).
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How to reach Redis.
    pub link: LinkConfig,
    /// What the keys of the installation begin with; `workyard` by default.
    pub prefix: Prefix,
    /// How long a call waits out an outage before it fails; 10 s by default, zero does not wait.
    pub patience: Duration,
    /// How long an outage may last that begins while somebody waits for an end or follows, before that wait fails; `None`,
    /// the default, waits until Redis is back, as long as the wait itself may.
    pub wait_patience: Option<Duration>,
    /// How long an enqueue waits for room in a full queue whose policy is `block`, since its last task went in;
    /// 30 s by default, zero does not wait.
    pub block_timeout: Duration,
    /// How long replicas or the disk may take to confirm a durable enqueue; 5 s by default.
    pub confirm_within: Duration,
    /// Keys: those that `encrypt` seal every payload and open payloads and results, those that `sign` sign every task. None by
    /// default. Map-reduce jobs are sealed, too, and never signed.
    pub keys: Option<Arc<KeyRing>>,
    /// Who operates through this client, as the audit will show it; `library` by default.
    pub operator: String,
}

impl ClientConfig {
    /// Defaults for this link.
    #[must_use]
    pub fn new(link: LinkConfig) -> Self {
        Self {
            link,
            prefix: Prefix::default(),
            patience: Duration::from_secs(10),
            wait_patience: None,
            block_timeout: Duration::from_secs(30),
            confirm_within: Duration::from_secs(5),
            keys: None,
            operator: "library".to_owned(),
        }
    }

    /// Defaults for `redis://[user:password@]host:port/db` or `unix:///path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the URL is none of these.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Ok(Self::new(LinkConfig::from_url(url)?))
    }
}
