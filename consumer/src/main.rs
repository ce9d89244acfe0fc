//! `workyard-consumer`: see `daemon.rs`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    workyard_consumer::daemon::main(&workyard_consumer::daemon::Cli::read())
}
