//! `workyard-bench`: figures of this build on this machine, and of its peers, on a Redis of its own.
//!
//! Called by `scripts/bench`. It asserts nothing: it measures, and prints what it measured with.

mod balance;
mod bare;
mod cli;
mod collector;
mod compare;
mod daemon;
mod drain;
mod figures;
mod harness;
mod jobs;
mod measure;
mod overhead;
mod peers;
mod plan;
mod proxy;
mod report;
mod server;
mod side;
mod sweep;
mod tables;
mod us;

use clap::Parser;

use cli::Cli;
use figures::{Figure, Summary, summarize};
use plan::Plan;
use server::Server;
use side::Field;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(url) = &cli.as_consumer {
        return jobs::consumer(url).await;
    }
    if !cli.as_worker.is_empty() {
        return balance::worker(&cli.as_worker).await;
    }
    if !cli.as_peer.is_empty() {
        return us::peer(&cli.as_peer).await;
    }
    if let Some(theirs) = &cli.compare_with {
        let revision = cli.revision.as_deref().unwrap_or("before");
        return compare::compare(theirs, revision, cli.rounds(), &cli.compared());
    }
    if cli.only == ["balance"] {
        let consumer = cli.consumer.clone().map_or_else(daemon::Daemon::beside_us, Ok)?;
        return balance::run(&Server::start(&cli.server).await?, &consumer, cli.rounds()).await;
    }
    let plan = Plan::of(&cli)?;
    eprintln!("# {}", plan.announcement());
    let server = Server::start(&cli.server).await?;
    let mut field = match plan.peers() {
        Some(wanted) => Some(Field::install(cli.peers_dir()?, &cli.sources, server.url(), wanted).await?),
        None => None,
    };
    let figures = measure_all(&plan, &server, field.as_mut()).await?;
    drop(server);
    let summaries = summarize(&figures);
    print(&summaries, field.as_ref(), cli.json);
    if let Some(file) = &cli.figures {
        let lines: Vec<serde_json::Value> = summaries.iter().map(Summary::json).collect();
        std::fs::write(file, serde_json::to_string_pretty(&lines)?)?;
    }
    if let Some(docs) = &cli.docs {
        report::write(docs, &cli.server, &plan.settings(), &summaries, field.as_ref())?;
        eprintln!("# written: {}/benchmarks.md", docs.display());
    }
    Ok(())
}

/// All rounds. One that fails ends the run: a figure of a broken run would mislead.
async fn measure_all(plan: &Plan, server: &Server, mut field: Option<&mut Field>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for round in 0..plan.rounds {
        for part in plan.parts(round) {
            eprintln!("# round {} of {}: {}", round + 1, plan.rounds, part.name());
            figures.extend(plan.measure(part, server, field.as_deref_mut()).await?);
        }
    }
    Ok(figures)
}

fn print(summaries: &[Summary], field: Option<&Field>, json: bool) {
    if json {
        for summary in summaries {
            println!("{}", summary.json());
        }
        return;
    }
    print!("{}", tables::all(summaries));
    if let Some(field) = field {
        print!("{}", report::who(field));
    }
}
