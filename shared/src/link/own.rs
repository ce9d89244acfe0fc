//! Connections of one caller's own, for what must not share one: a blocking wait, a write with the WAIT behind it.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use redis::AsyncConnectionConfig;

use super::config::LinkConfig;
use crate::error::{Error, Outage};

/// A pool of them. Replies are waited for as long as they take, so bound each wait on the server's side.
#[derive(Debug)]
pub struct OwnConnections {
    pool: Pool,
    connect_timeout: Duration,
}

impl OwnConnections {
    pub(super) fn new(config: &LinkConfig, size: usize) -> Result<Self, Error> {
        Ok(Self {
            pool: pool(config, size)?,
            connect_timeout: config.connect_timeout,
        })
    }

    /// A connection to the server that has `key`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none in time.
    pub async fn get(&self, _key: &str) -> Result<Connection, Error> {
        let away = || Error::Unavailable {
            outage: Outage::Away,
            detail: "no connection in time".to_owned(),
        };
        // Both the wait for a free one and its making are bounded by this.
        let got = tokio::time::timeout(self.connect_timeout * 2, self.pool.get()).await;
        got.map_err(|_| away())?.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            _ => away(),
        })
    }
}

fn pool(config: &LinkConfig, size: usize) -> Result<Pool, Error> {
    let mut settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(None);
    if let Some(file) = config.password_file() {
        settings = settings.set_credentials_provider(file.clone());
    }
    let manager = Manager::new_with_config(config.info().clone(), settings)?;
    Pool::builder(manager)
        .max_size(size)
        .build()
        .map_err(|e| Error::Invalid(format!("connection pool: {e}")))
}
