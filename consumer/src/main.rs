//! `workyard-consumer`: see `daemon.rs`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    workyard_consumer::daemon::main(&workyard_consumer::daemon::Cli::parse())
}
