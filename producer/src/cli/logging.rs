//! Log lines on stderr: what happens below, for those who ask with `-v`.
//!
//! Invariant: stdout never gets a log line. Errors of a command are not logged but reported once, by
//! `exit.rs`.

use tracing::level_filters::LevelFilter;

use super::args::{Global, LogFormat};

/// Starts logging; warnings only, unless `-v` asks for more.
pub(crate) fn start(global: &Global) {
    let level = match global.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    match global.log_format {
        LogFormat::Human => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => lines.json().init(),
    }
}
