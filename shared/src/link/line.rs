//! One connection after another to one server, each shared by all calls.
//!
//! Invariant: a connection on which a call got no answer in time, or an attempt to connect that failed, carries no later
//! call; whoever hears the pushes is told that what was subscribed there is lost.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ConnectionAddr, Pipeline, RedisError, Value};

use super::config::LinkConfig;
use super::freshness::Feed;
use crate::duration;
use crate::error::{Error, Outage};

/// Pauses between attempts to connect.
const RECONNECT: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// The connections.
pub(super) struct Line {
    client: Client,
    settings: ConnectionManagerConfig,
    connect_timeout: Duration,
    response_timeout: Duration,
    feed: Feed,
    current: Mutex<Current>,
}

/// The connection that calls go over now, with how many came before it.
#[derive(Clone)]
struct Current {
    manager: ConnectionManager,
    number: u64,
}

impl Line {
    /// Makes a line without connecting: the first call does.
    pub(super) fn new(client: Client, config: &LinkConfig, feed: Feed) -> Result<Self, Error> {
        let hears = feed.clone();
        let mut settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout))
            .set_number_of_retries(0)
            .set_min_delay(RECONNECT[0])
            .set_max_delay(RECONNECT[1])
            .set_push_sender(move |push| hears.push(push));
        if let Some(file) = config.password_file() {
            settings = settings.set_credentials_provider(file.clone());
        }
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), settings.clone())?;
        Ok(Self {
            client,
            settings,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            feed,
            current: Mutex::new(Current { manager, number: 0 }),
        })
    }

    /// Sends one command.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Error> {
        let Current { mut manager, number } = self.current().clone();
        let begun = Instant::now();
        let answer = manager.send_packed_command(cmd).await;
        answer.map_err(|error| self.sorted(error, number, begun))
    }

    /// Sends several commands in one round trip.
    pub(super) async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        let Current { mut manager, number } = self.current().clone();
        let begun = Instant::now();
        let answers = manager.req_packed_commands(pipeline, 0, pipeline.len()).await;
        answers.map_err(|error| self.sorted(error, number, begun))
    }

    /// What an error of connection `number` means for a call that began then.
    fn sorted(&self, error: RedisError, number: u64, begun: Instant) -> Error {
        if is_stuck(&error) {
            self.replace(number);
        }
        // Who has waited for less than a reply may take has not waited for a reply: there was no connection to send over. A
        // timeout of the system's, which names its number, is one of a connection that stood.
        let no_connection =
            error.is_timeout() && !error.to_string().contains("os error") && begun.elapsed() < self.response_timeout;
        let address = self.client.get_connection_info().addr();
        if !no_connection {
            return Error::from(error).at(address);
        }
        let is_tls = matches!(address, ConnectionAddr::TcpTls { .. });
        let question = if is_tls {
            "; is that a port for TLS, as rediss:// says?"
        } else {
            ""
        };
        let error = Error::Unavailable {
            outage: Outage::Away,
            detail: format!(
                "nobody answered within {}{question}",
                duration::format(self.connect_timeout)
            ),
        };
        error.at(address)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call on connection `number` failed: replaces what its manager would keep although it is of no use.
    fn replace(&self, number: u64) {
        let mut current = self.current();
        // Many calls time out together on one connection: the first replaces it.
        if current.number != number {
            return;
        }
        match ConnectionManager::new_lazy_with_config(self.client.clone(), self.settings.clone()) {
            Ok(manager) => {
                *current = Current {
                    manager,
                    number: number + 1,
                };
            }
            Err(error) => return tracing::debug!(%error, "the connection stays"),
        }
        drop(current);
        // What was subscribed there is lost, and nobody else says so.
        self.feed.lost();
    }
}

/// Whether the manager keeps a connection after this error that answers no later call either. It replaces one that was
/// closed. But to one that is silent (the peer vanished, the network swallows) every call goes and waits for its whole
/// timeout; and an attempt to connect that failed in other ways than closing (cut in a frame, a wrong password, Redis busy
/// with a script when the database was to be chosen) is remembered for ever.
fn is_stuck(error: &RedisError) -> bool {
    let refused = matches!(error.code(), Some("WRONGPASS" | "NOAUTH")) || error.to_string().contains("switch database");
    error.is_timeout() || refused || (error.is_unrecoverable_error() && !error.is_io_error())
}
