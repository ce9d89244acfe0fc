//! `workyard`: the command line of the Workyard task queue.
//!
//! Everything is in `cli/`: arguments, one file per group of commands, output, exit codes.

mod cli;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
