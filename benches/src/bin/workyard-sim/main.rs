//! `workyard-sim`: the balancing policies in virtual time, over fleets that no test machine could hold.
//!
//! It runs the very functions that consumers and the maintainer run (`workyard_shared::balance`), so what
//! it shows of a formula holds for the real thing; what Redis and the network cost it does not show.
//! Same seed, same figures.

mod consumer;
mod dispatch;
mod plot;
mod scenario;
mod table;
mod tally;
mod world;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use dispatch::Dispatch;
use scenario::Scenario;
use tally::{Raw, Tally};

/// Simulates the balancing policies and prints a table.
#[derive(Debug, Parser)]
struct Cli {
    /// One of paper-even, paper-burst, mixed-even, mixed-burst, dead-kind; all of them if absent.
    #[arg(long)]
    scenario: Option<String>,
    /// Consumers of the mixed scenarios.
    #[arg(long, default_value_t = 100)]
    consumers: usize,
    /// Tasks of all but the paper's scenarios, which have 300.
    #[arg(long, default_value_t = 50_000)]
    tasks: usize,
    /// Rounds of the paper's scenarios; the others run once.
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// Where all draws begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON, one line per scenario.
    #[arg(long)]
    json: bool,
    /// Also write a plot per scenario into this folder.
    #[arg(long)]
    images: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let names = cli
        .scenario
        .as_deref()
        .map_or(Scenario::NAMES.to_vec(), |name| vec![name]);
    for name in names {
        let scenario = Scenario::of(name, cli.consumers.max(1), cli.tasks.max(1))
            .with_context(|| format!("no scenario \"{name}\"; there are {}", Scenario::NAMES.join(", ")))?;
        let rounds = if name.starts_with("paper") {
            cli.rounds.max(1)
        } else {
            1
        };
        let tallies = compare(&scenario, cli.seed, rounds);
        if cli.json {
            println!(
                "{}",
                serde_json::json!({ "scenario": scenario.name, "seed": cli.seed, "policies": tallies })
            );
        } else {
            table::print(&scenario, rounds, &tallies);
        }
        if let Some(folder) = &cli.images {
            let file = folder.join(format!("sim-{name}.svg"));
            std::fs::write(&file, plot::svg(&scenario, &tallies))
                .with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(())
}

/// All policies in one scenario.
fn compare(scenario: &Scenario, seed: u64, rounds: u64) -> Vec<Tally> {
    Dispatch::ALL
        .into_iter()
        .map(|dispatch| run(scenario, dispatch, seed, rounds))
        .collect()
}

/// One policy in one scenario; each round has a seed of its own.
fn run(scenario: &Scenario, dispatch: Dispatch, seed: u64, rounds: u64) -> Tally {
    let raw = (0..rounds).fold(Raw::default(), |raw, round| {
        world::simulate(scenario, dispatch, seed + round, raw)
    });
    raw.tally(dispatch.name())
}
