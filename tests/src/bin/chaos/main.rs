//! The chaos runner: real consumers, a real Redis (or several, as `store` says), a load, and faults from a seed; then a checker reads what is left.
//!
//! Reading order: `plan` says when which fault comes, `world` makes it happen to what `fleet` and the server are,
//! `load` writes down what was accepted, `watch` what was seen to end; `check` compares all that with what Redis says, and
//! `report` tells. `mutant` breaks the protocol on purpose, to show that the checker finds it.
//!
//! Invariant: it ends with 0 only if every promise held, and the same seed gives the same faults at the same times.

mod args;
mod check;
mod docs;
mod evidence;
mod failover;
mod faults;
mod fleet;
mod inbox;
mod ledger;
mod load;
mod mutant;
mod plan;
mod profile;
mod recovery;
mod repeat;
mod report;
mod runs;
mod store;
mod watch;
mod world;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::Args;
use crate::report::Report;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::checked();
    let plan = args.plan();
    if args.schedule {
        for step in &plan {
            println!("{step}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = world::run(&args, plan).await?;
    println!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?).context("the report cannot be written")?;
    }
    if let Some(path) = &args.docs {
        docs::record(path, &report).context("the figures cannot be written")?;
    }
    Ok(exit_code(&report))
}

fn exit_code(report: &Report) -> ExitCode {
    if report.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
