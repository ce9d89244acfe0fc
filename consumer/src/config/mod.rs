//! The daemon's TOML file, parsed once into types that later code can trust.
//!
//! Invariant: text becomes a [`DaemonConfig`] or a [`ConfigError`] that names file, line and field,
//! says what is wrong and what would be right. Unknown fields are errors, since a typo that is
//! ignored is a setting that silently does not hold. Relative paths are below the file's folder.
//!
//! It does not look at the machine, save for secrets in variables and files: whether a program
//! exists is found out when its handler is built.
//!
//! ```
//! let text = r#"
//! [[queues]]
//! name = "emails"
//!
//! [handlers.count]
//! type = "command"
//! argv = ["wc", "-w"]
//! timeout = "30s"
//! "#;
//! let config = workyard_consumer::config::parse(text, "example.toml".as_ref())?;
//! assert_eq!(config.queues[0].name.as_str(), "emails");
//!
//! let error = workyard_consumer::config::parse("leese = \"3s\"\n[handlers]", "x.toml".as_ref());
//! assert!(error.is_err());
//! # Ok::<(), workyard_consumer::config::ConfigError>(())
//! ```

mod builtin;
mod checks;
mod command;
mod concurrency;
mod daemon;
mod error;
mod handler;
#[cfg(test)]
mod handler_tests;
mod http;
mod jobs;
mod keys;
mod log;
mod problem;
mod process;
mod reference;
mod secret;
mod telemetry;
#[cfg(test)]
mod tests;
mod worker;

use std::path::Path;

pub use crate::slots::QueueOrder;
pub use builtin::{BuiltinConfig, Function};
pub(crate) use command::EX_TEMPFAIL;
pub use command::{Arg, CommandConfig, Output, Records};
pub use daemon::{DaemonConfig, QueueConfig};
pub use error::ConfigError;
pub use handler::{Action, HandlerConfig};
pub use http::HttpConfig;
pub use jobs::{JobsConfig, Place};
pub use keys::KeysConfig;
pub use log::LogFilter;
pub use process::ProcessConfig;
pub use reference::schema;
pub use secret::Secret;
pub use telemetry::TelemetryConfig;
pub(crate) use telemetry::endpoint as otlp_endpoint;
pub use worker::WorkerConfig;

/// Reads and checks the configuration in the file `path`.
///
/// # Errors
/// A [`ConfigError`] says what is wrong and what would be right.
pub fn load(path: &Path) -> Result<DaemonConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, path)
}

/// Checks `text` as if it stood in the file `path`, which gives errors a name and relative paths a
/// folder; the file itself is not read.
///
/// # Errors
/// A [`ConfigError`] says what is wrong and what would be right.
pub fn parse(text: &str, path: &Path) -> Result<DaemonConfig, ConfigError> {
    // Absolute, since a command may run in another folder than the daemon.
    let path_in_full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = path_in_full.parent().unwrap_or(Path::new("/"));
    daemon::parse(text, base).map_err(|problem| problem.in_file(&path.display().to_string(), text))
}
