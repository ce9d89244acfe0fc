//! Handlers that need no Rust: configured in the daemon's TOML.
//!
//! [`build`] turns one `[handlers.KIND]` into a [`Handler`]. Invariant, for all of
//! them: dropping the future of a run ends what it started, and the text of a payload never
//! decides which program runs or which address is called.

pub mod command;
mod group;
mod interrupt;
mod launch;
mod result;
mod tail;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use command::CommandHandler;

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
        _ => return Err(refuse("not built yet".to_owned())),
    })
}
