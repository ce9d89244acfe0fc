//! The shared connection to one server: reconnects, loads the functions where they are missing, sorts errors.
//!
//! Invariant: a call is sent once. Only when the server answers that the library is not loaded (so that nothing ran)
//! is it loaded there and the call sent again.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, ConnectionInfo, Pipeline, PushInfo, Value};
use tokio::sync::mpsc::UnboundedSender;

use super::config::{LinkConfig, client};
use super::library;
use crate::error::Error;

/// Pauses between attempts to connect.
const RECONNECT: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// Where the pushes of connections go.
pub(super) type Pushes = Option<UnboundedSender<PushInfo>>;

/// One server. Cheap to clone; all clones send over one socket.
#[derive(Clone)]
pub(super) struct Node {
    manager: ConnectionManager,
}

impl Node {
    /// Makes a node without connecting: the first call does.
    pub(super) fn new(info: &ConnectionInfo, config: &LinkConfig, pushes: Pushes) -> Result<Self, Error> {
        let mut settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout))
            .set_number_of_retries(0)
            .set_min_delay(RECONNECT[0])
            .set_max_delay(RECONNECT[1]);
        if let Some(pushes) = pushes {
            settings = settings.set_push_sender(pushes);
        }
        Ok(Self {
            manager: ConnectionManager::new_lazy_with_config(client(info)?, settings)?,
        })
    }

    /// Sends one command.
    pub(super) async fn call(&self, cmd: &Cmd) -> Result<Value, Error> {
        match self.send(cmd).await {
            Err(error) if library::is_lacking(&error) => {
                library::load(self).await?;
                self.send(cmd).await
            }
            other => other,
        }
    }

    /// Sends one command as it is.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Error> {
        let value = self.manager.clone().send_packed_command(cmd).await?;
        value.extract_error().map_err(Error::from)
    }

    /// Sends several commands in one round trip; each has its own answer.
    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let answers = self.send_all(pipeline).await?;
        if !answers.iter().any(|a| a.as_ref().is_err_and(library::is_lacking)) {
            return Ok(answers);
        }
        // No function of the library ran, and plain commands beside them may be repeated.
        library::load(self).await?;
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
}
