//! `workyard-bench`: figures of this build on this machine, on a Redis of its own.
//!
//! Called by `scripts/bench`. It asserts nothing: it measures, and prints what it measured with.

mod balance;
mod daemon;
mod jobs;
mod measure;
mod overhead;
mod server;

use std::path::PathBuf;

use clap::Parser;

use daemon::Daemon;
use measure::Figure;
use server::Server;

/// Measures this build of Workyard and prints a table.
#[derive(Debug, Parser)]
struct Cli {
    /// Fewer tasks: about half a minute.
    #[arg(long)]
    quick: bool,
    /// Rounds; each figure is printed with its spread.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tasks in one bulk round.
    #[arg(long)]
    tasks: Option<usize>,
    /// Tasks at once in the daemon.
    #[arg(long, default_value_t = 100)]
    concurrency: usize,
    /// The server to start.
    #[arg(long, default_value = "redis-server")]
    server: String,
    /// The daemon that drains; by default the one that was built with this.
    #[arg(long)]
    consumer: Option<PathBuf>,
    /// Only this: singles, throughput, latency, jobs, cores, adaptive (its cost beside pull), or balance, which all the
    /// others leave out: the paper's four workers under each policy, each round with another seed, about a minute a round.
    #[arg(long)]
    only: Option<String>,
    /// Chunks of the map-reduce job.
    #[arg(long, default_value_t = 100_000)]
    chunks: u64,
    /// Be a consumer of the CPU-bound job on this Redis; the benchmark starts itself so.
    #[arg(long, hide = true, value_name = "URL")]
    as_consumer: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(url) = &cli.as_consumer {
        return jobs::consumer(url).await;
    }
    let tasks = cli.tasks.unwrap_or(if cli.quick { 200_000 } else { 1_000_000 });
    let consumer = cli.consumer.map_or_else(Daemon::beside_us, Ok)?;
    if cli.only.as_deref() == Some("balance") {
        return balance::run(&Server::start(&cli.server).await?, cli.rounds.max(1)).await;
    }
    let mut rounds: Vec<Vec<Figure>> = Vec::new();
    for _ in 0..cli.rounds.max(1) {
        let server = Server::start(&cli.server).await?;
        let wanted = |name: &str| cli.only.as_deref().is_none_or(|only| only == name);
        let mut figures = Vec::new();
        if wanted("singles") {
            figures.extend(measure::singles(&server, if cli.quick { 20_000 } else { 100_000 }).await?);
        }
        if wanted("throughput") {
            figures.extend(measure::throughput(&server, &consumer, tasks, cli.concurrency).await?);
            figures.extend(measure::bare(&server, tasks).await?);
        }
        if wanted("adaptive") {
            figures.extend(overhead::adaptive(&server, &consumer, tasks / 2, cli.concurrency).await?);
        }
        if wanted("latency") {
            figures.extend(measure::latency(&server, if cli.quick { 1000 } else { 5000 }).await?);
        }
        if wanted("jobs") {
            figures.extend(jobs::chunks(&server, &consumer, cli.chunks, cli.concurrency).await?);
        }
        if wanted("cores") {
            figures.extend(jobs::cores(&server).await?);
        }
        rounds.push(figures);
    }
    print(&rounds, cli.json);
    Ok(())
}

/// The median of all rounds, with the lowest and the highest.
fn print(rounds: &[Vec<Figure>], json: bool) {
    let Some(first) = rounds.first() else { return };
    if !json {
        println!(
            "{:<28} {:>12} {:<8} {:>25}  note",
            "figure", "median", "unit", "lowest .. highest"
        );
    }
    for (i, figure) in first.iter().enumerate() {
        let mut values: Vec<f64> = rounds
            .iter()
            .filter_map(|round| round.get(i))
            .map(|f| f.value)
            .collect();
        values.sort_unstable_by(f64::total_cmp);
        let (low, median, high) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        if json {
            let line = serde_json::json!({
                "figure": figure.name, "median": median, "lowest": low, "highest": high,
                "unit": figure.unit, "note": figure.note, "rounds": values.len(),
            });
            println!("{line}");
        } else {
            let digits = usize::from(median < 1000.0);
            let spread = format!("{low:.digits$} .. {high:.digits$}");
            println!(
                "{:<28} {median:>12.digits$} {:<8} {spread:>25}  {}",
                figure.name, figure.unit, figure.note
            );
        }
    }
}
