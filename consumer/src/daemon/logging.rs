//! The log of the daemon, and its filter, which a reload can change.

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{FormatFields, debug_fn};
use workyard_shared::Error;
use workyard_shared::one_line::one_line;

use super::Cli;
use super::cli::LogFormat;
use crate::config::LogFilter;

type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The running log.
pub(super) struct Logging {
    change: Change,
    /// A flag or the environment says the filter, and goes before the file.
    fixed: bool,
}

impl Logging {
    /// Starts the log on standard error.
    pub(super) fn start(cli: &Cli) -> Self {
        let filter = cli.log.clone().unwrap_or_default().to_filter();
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(colours);
        let change: Change = match cli.log_format {
            LogFormat::Human => {
                // Last: its type names the form of the log.
                let log = log.with_target(false).fmt_fields(fields()).with_filter_reloading();
                let handle = log.reload_handle();
                log.init();
                Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
            }
            LogFormat::Json => {
                let log = log.json().flatten_event(true).with_filter_reloading();
                let handle = log.reload_handle();
                log.init();
                Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
            }
        };
        Self {
            change,
            fixed: cli.log.is_some(),
        }
    }

    /// Logs what the file says from now on, unless a flag says it.
    pub(super) fn apply(&self, file: Option<&LogFilter>) {
        if self.fixed {
            return;
        }
        let filter = file.cloned().unwrap_or_default().to_filter();
        if let Err(error) = (self.change)(filter) {
            let error = Error::Invalid(error);
            error!(%error, "the log level stays as it is");
        }
    }
}

/// Message and fields of an event, on one line whatever is in them: the errors of handlers are text of others.
fn fields() -> impl for<'a> FormatFields<'a> + 'static {
    debug_fn(|out, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(out, "{}", one_line(&text)),
            name => write!(out, "{name}={}", one_line(&text)),
        }
    })
    .delimited(" ")
}
