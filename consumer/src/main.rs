//! `workyard-consumer`: see `daemon.rs`.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    workyard_consumer::daemon::main(&workyard_consumer::daemon::Cli::parse())
}
