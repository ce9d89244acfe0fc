//! Handlers that need no Rust: configured in the daemon's TOML.
//!
//! [`build`] turns one `[handlers.KIND]` into a [`Handler`]. Invariant, for all of
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

use std::sync::Arc;

pub use builtin::BuiltinHandler;
pub use command::CommandHandler;
pub use http::HttpHandler;
pub use worker::WorkerHandler;

use crate::Handler;
use crate::config::{Action, ConfigError, HandlerConfig};

/// Builds the handler that `config` describes, and checks that this machine has what it needs.
///
/// # Errors
/// [`ConfigError::Handler`] if, say, the program is missing.
pub fn build(config: &HandlerConfig) -> Result<Arc<dyn Handler>, ConfigError> {
    let refuse = |problem| ConfigError::Handler {
        kind: config.kind.clone(),
        problem,
    };
    Ok(match &config.action {
        Action::Command(command) => {
            launch::check(&command.program, &command.process).map_err(refuse)?;
            Arc::new(CommandHandler::new(command.clone(), config.timeout))
        }
        Action::Worker(worker) => {
            launch::check(&worker.program, &worker.process).map_err(refuse)?;
            Arc::new(WorkerHandler::new(
                &config.kind,
                worker.clone(),
                config.timeout,
            ))
        }
        Action::Http(http) => {
            Arc::new(HttpHandler::new(http.clone(), config.timeout).map_err(refuse)?)
        }
        Action::Builtin(builtin) => {
            if let Some(root) = builtin.root.as_ref().filter(|root| !root.is_dir()) {
                let root = root.display();
                return Err(refuse(format!(
                    "root {root} is no folder; create it or correct the path"
                )));
            }
            Arc::new(BuiltinHandler::new(builtin.clone(), config.timeout))
        }
    })
}
