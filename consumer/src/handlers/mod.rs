//! Handlers that need no Rust: configured in the daemon's TOML.
//!
//! [`build`] turns one `[handlers.KIND]` into a [`Handler`], most also into a [`Stage`] of jobs. Invariant, for all of
//! them: dropping the future of a run ends what it started, and the text of a payload never
//! decides which program runs or which address is called.

pub mod builtin;
pub mod command;
#[cfg(test)]
mod example_tests;
mod group;
pub mod http;
mod interrupt;
mod launch;
mod result;
mod tail;
#[cfg(test)]
mod testing;
pub mod worker;

use std::fmt;
use std::sync::Arc;

pub use builtin::BuiltinHandler;
pub use command::CommandHandler;
pub(crate) use group::kill_all;
pub use http::HttpHandler;
pub use worker::WorkerHandler;

use crate::config::{Action, ConfigError, HandlerConfig};
use crate::{Handler, Stage};

/// What a table of the configuration becomes.
#[derive(Clone)]
pub struct Built {
    /// Runs tasks of the kind.
    pub handler: Arc<dyn Handler>,
    /// Runs it as a function of map-reduce jobs, if it can.
    pub stage: Option<Arc<dyn Stage>>,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").finish_non_exhaustive()
    }
}

impl Built {
    fn both<H: Handler + Stage + Clone>(handler: &H) -> Self {
        Self {
            handler: Arc::new(handler.clone()),
            stage: Some(Arc::new(handler.clone())),
        }
    }
}

/// Builds what `config` describes, and checks that this machine has what it needs.
///
/// # Errors
/// [`ConfigError::Handler`] if, say, the program is missing.
pub fn build(config: &HandlerConfig) -> Result<Built, ConfigError> {
    let refuse = |problem| ConfigError::Handler {
        kind: config.kind.clone(),
        problem,
    };
    Ok(match &config.action {
        Action::Command(command) => {
            launch::check(&command.program, &command.process).map_err(refuse)?;
            Built::both(&CommandHandler::new(command.clone(), config.timeout))
        }
        Action::Worker(worker) => {
            launch::check(&worker.program, &worker.process).map_err(refuse)?;
            Built::both(&WorkerHandler::new(&config.kind, worker.clone(), config.timeout))
        }
        Action::Http(http) => Built::both(&HttpHandler::new(http.clone(), config.timeout).map_err(refuse)?),
        Action::Builtin(builtin) => {
            if let Some(root) = builtin.root.as_ref().filter(|root| !root.is_dir()) {
                let root = root.display();
                return Err(refuse(format!(
                    "root {root} is no folder; create it or correct the path"
                )));
            }
            Built {
                handler: Arc::new(BuiltinHandler::new(builtin.clone(), config.timeout)),
                // A kind of this name may be a built-in function of jobs, which has other arguments.
                stage: None,
            }
        }
    })
}
