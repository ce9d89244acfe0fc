//! The shared connection to one server: reconnects, loads the functions where they are missing, sorts errors.
//!
//! Invariant: a call is sent once. Only when the server answers that the library is not loaded (so that nothing ran)
//! is it loaded there and the call sent again.

use std::sync::Arc;

use redis::{Cmd, ConnectionInfo, Pipeline, Value};

use super::config::{LinkConfig, client};
use super::freshness::Feed;
use super::library;
use super::line::Line;
use crate::error::Error;

/// How often the functions are loaded for one call: somebody may remove them again before it comes to its turn.
const LOADS: usize = 3;

/// One server. Cheap to clone; all clones send over one socket.
#[derive(Clone)]
pub(super) struct Node {
    line: Arc<Line>,
}

impl Node {
    /// Makes a node without connecting: the first call does. `feed` gets what the server sends unasked, and the end of
    /// each connection.
    pub(super) fn new(info: &ConnectionInfo, config: &LinkConfig, feed: Feed) -> Result<Self, Error> {
        Ok(Self {
            line: Arc::new(Line::new(client(info)?, config, feed)?),
        })
    }

    /// Sends one command.
    pub(super) async fn call(&self, cmd: &Cmd) -> Result<Value, Error> {
        let mut answer = self.send(cmd).await;
        for _ in 0..LOADS {
            if !answer.as_ref().is_err_and(library::is_lacking) {
                break;
            }
            library::load(self).await?;
            answer = self.send(cmd).await;
        }
        answer
    }

    /// Sends one command for a slot that is on its way to this server.
    pub(super) async fn call_asking(&self, cmd: &Cmd) -> Result<Value, Error> {
        let mut pipeline = Pipeline::with_capacity(2);
        // Good for the next command only; nothing comes between the commands of a pipeline.
        pipeline.cmd("ASKING").add_command(cmd.clone());
        let mut answers = self.pipeline(&pipeline).await?;
        answers
            .pop()
            .unwrap_or_else(|| Err(Error::Protocol("no answer behind ASKING".to_owned())))
    }

    /// Sends one command as it is.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Error> {
        let value = self.line.send(cmd).await?;
        value.extract_error().map_err(Error::from)
    }

    /// Sends several commands in one round trip; each has its own answer.
    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let mut answers = self.send_all(pipeline).await?;
        for _ in 0..LOADS {
            if !answers.iter().any(|a| a.as_ref().is_err_and(library::is_lacking)) {
                break;
            }
            // No function of the library ran, and plain commands beside them may be repeated.
            library::load(self).await?;
            answers = self.send_all(pipeline).await?;
        }
        Ok(answers)
    }

    async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let values = self.line.send_all(pipeline).await?;
        Ok(values
            .into_iter()
            .map(|value| value.extract_error().map_err(Error::from))
            .collect())
    }
}
