//! One connection after another to one server, each shared by all calls.
//!
//! Invariant: a connection on which a call got no answer in time, or an attempt to connect that failed, carries no later
//! call; whoever hears the pushes is told that what was subscribed there is lost.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, Pipeline, RedisError, Value};

use super::config::LinkConfig;
use super::freshness::Feed;
use crate::error::Error;

/// Pauses between attempts to connect.
const RECONNECT: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// The connections.
pub(super) struct Line {
    client: Client,
    settings: ConnectionManagerConfig,
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
            feed,
            current: Mutex::new(Current { manager, number: 0 }),
        })
    }

    /// Sends one command.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Error> {
        let Current { mut manager, number } = self.current().clone();
        let answer = manager.send_packed_command(cmd).await;
        answer.map_err(|error| self.note(error, number))
    }

    /// Sends several commands in one round trip.
    pub(super) async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        let Current { mut manager, number } = self.current().clone();
        let answers = manager.req_packed_commands(pipeline, 0, pipeline.len()).await;
        answers.map_err(|error| self.note(error, number))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call on connection `number` failed: replaces what its manager would keep although it is of no use.
    fn note(&self, error: RedisError, number: u64) -> Error {
        if is_stuck(&error) {
            self.replace(number);
        }
        Error::from(error).at(self.client.get_connection_info().addr())
    }

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
