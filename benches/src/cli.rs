//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures this build of Workyard, and its peers, and prints tables.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    /// Fewer tasks, and Workyard's main figures alone: within two minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds; each figure is printed with its spread [default: 3].
    #[arg(long)]
    rounds: Option<usize>,
    /// With --quick: the peers too.
    #[arg(long)]
    pub(crate) peers: bool,
    /// Only these parts: singles, throughput, latency, jobs, cores, peers, varied (the peers with one thing varied), bulk (by tasks a call), aof, round-trip, payload, consumers, adaptive (its
    /// cost beside pull), backlog, or names of peers. Or, alone: balance, the paper's four workers as daemons under each policy, each
    /// round with another seed, about 35 s a round.
    #[arg(long, value_delimiter = ',', value_name = "NAME[,NAME]")]
    pub(crate) only: Vec<String>,
    /// Tasks in one bulk round.
    #[arg(long)]
    pub(crate) tasks: Option<usize>,
    /// Tasks at once in the daemon.
    #[arg(long, default_value_t = 100)]
    pub(crate) concurrency: usize,
    /// The server to start.
    #[arg(long, default_value = "redis-server")]
    pub(crate) server: String,
    /// The daemon that drains; by default the one that was built with this.
    #[arg(long)]
    pub(crate) consumer: Option<PathBuf>,
    /// Chunks of the map-reduce job.
    #[arg(long)]
    pub(crate) chunks: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write benchmarks.md and its plots into this folder.
    #[arg(long)]
    pub(crate) docs: Option<PathBuf>,
    /// Write the figures as JSON into this file.
    #[arg(long)]
    pub(crate) figures: Option<PathBuf>,
    /// Where the peers' harnesses are.
    #[arg(long, default_value = "benches/peers")]
    pub(crate) sources: PathBuf,
    /// Where the peers are installed; by default beside this build.
    #[arg(long)]
    install_dir: Option<PathBuf>,
    /// Take turns with this benchmark program of another revision, and print ratios.
    #[arg(long, hide = true)]
    pub(crate) compare_with: Option<PathBuf>,
    /// What the other revision is called.
    #[arg(long, hide = true)]
    pub(crate) revision: Option<String>,
    /// Be a consumer of the CPU-bound job on this Redis; the benchmark starts itself so.
    #[arg(long, hide = true, value_name = "URL")]
    pub(crate) as_consumer: Option<String>,
    /// Be a process that runs tasks as one of the paper's workers does; the daemons of the benchmark start it so.
    #[arg(long, hide = true, num_args = 3, value_names = ["PROFILE", "LUCK", "FILE"])]
    pub(crate) as_worker: Vec<String>,
    /// Be the harness of Workyard; the benchmark starts itself so.
    #[arg(long, hide = true, num_args = 1.., value_name = "MODE")]
    pub(crate) as_peer: Vec<String>,
}

impl Cli {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(3).max(1)
    }

    /// Where the peers are installed: target/peers.
    pub(crate) fn peers_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.install_dir {
            return Ok(folder.clone());
        }
        let us = std::env::current_exe()?;
        let target = us
            .ancestors()
            .nth(2)
            .map_or_else(PathBuf::new, std::path::Path::to_owned);
        Ok(target.join("peers"))
    }

    /// What both programs of a comparison are told; older ones know no other words.
    pub(crate) fn compared(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(tasks) = self.tasks {
            words.extend(["--tasks".to_owned(), tasks.to_string()]);
        }
        if let Some(chunks) = self.chunks {
            words.extend(["--chunks".to_owned(), chunks.to_string()]);
        }
        words.extend(["--concurrency".to_owned(), self.concurrency.to_string()]);
        words.extend(["--server".to_owned(), self.server.clone()]);
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
