//! Connections of one caller's own, for what must not share one: a blocking wait, a write with the WAIT behind it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use redis::{AsyncConnectionConfig, ConnectionInfo};

use super::{Answer, Link, LinkConfig, tls};
use crate::error::{Error, Outage};

/// Servers whose idle connections are kept.
const MOST_POOLS: usize = 64;

/// A pool of them per server. Replies are waited for as long as they take, so bound each wait on the server's side.
#[derive(Debug)]
pub struct OwnConnections {
    link: Link,
    size: usize,
    pools: Mutex<HashMap<String, Pool>>,
}

impl OwnConnections {
    pub(super) fn new(link: Link, size: usize) -> Self {
        Self {
            link,
            size,
            pools: Mutex::default(),
        }
    }

    /// A connection to the server that has `key`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none in time.
    pub async fn get(&self, key: &str) -> Result<Connection, Error> {
        let getting: Answer<'_, Connection> = Box::pin(self.try_get(key));
        getting.await.inspect_err(|error| self.link.heed(error))
    }

    async fn try_get(&self, key: &str) -> Result<Connection, Error> {
        let info = self.link.place(key).await?;
        let pool = self.pool(&info)?;
        let away = || Error::Unavailable {
            outage: Outage::Away,
            detail: "no connection in time".to_owned(),
        };
        // The wait for a free one, and its making.
        let got = tokio::time::timeout(self.link.config().connect_timeout * 2, pool.get()).await;
        let got = got.map_err(|_| away()).and_then(|got| {
            got.map_err(|error| match error {
                // Nothing of the caller's was sent: to it, this is no lost reply.
                PoolError::Backend(error) => match error.into() {
                    Error::Unknown(detail) => Error::Unavailable {
                        outage: Outage::Away,
                        detail,
                    },
                    other => other,
                },
                _ => away(),
            })
        });
        got.map_err(|error| error.at(info.addr()))
    }

    fn pool(&self, info: &ConnectionInfo) -> Result<Pool, Error> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let address = info.addr().to_string();
        if let Some(pool) = pools.get(&address) {
            return Ok(pool.clone());
        }
        if pools.len() >= MOST_POOLS {
            // Addresses change with failovers; a server that is still there gets a new pool.
            pools.clear();
        }
        let pool = new_pool(info, self.link.config(), self.size)?;
        pools.insert(address, pool.clone());
        Ok(pool)
    }
}

fn new_pool(info: &ConnectionInfo, config: &LinkConfig, size: usize) -> Result<Pool, Error> {
    let mut settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(None);
    if let Some(file) = config.password_file() {
        settings = settings.set_credentials_provider(file.clone());
    }
    let manager = Manager::new_with_config(tls::trusting(info), settings)?;
    Pool::builder(manager)
        .max_size(size)
        .build()
        .map_err(|e| Error::Invalid(format!("connection pool: {e}")))
}
