//! What a run measures, how large, and how long that takes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use crate::cli::Cli;
use crate::daemon::Daemon;
use crate::drain::{Load, throughput};
use crate::figures::Figure;
use crate::peers::PEERS;
use crate::server::Server;
use crate::side::Field;
use crate::sweep::Sweep;
use crate::{bare, jobs, measure, overhead};

/// One part of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Singles,
    Throughput,
    Latency,
    Jobs,
    Cores,
    Peers,
    Varied,
    Bulk,
    Aof,
    RoundTrip,
    Payload,
    Consumers,
    Adaptive,
    Extras,
    Backlog,
}

/// Each part, its name, and about how long it takes: in a full round, and in a quick one.
const PARTS: [(Part, &str, u64, u64); 15] = [
    (Part::Singles, "singles", 10, 3),
    (Part::Throughput, "throughput", 30, 6),
    (Part::Latency, "latency", 15, 3),
    (Part::Jobs, "jobs", 12, 3),
    (Part::Cores, "cores", 10, 10),
    (Part::Peers, "peers", 235, 235),
    (Part::Varied, "varied", 300, 300),
    (Part::Bulk, "bulk", 30, 12),
    (Part::Aof, "aof", 30, 12),
    (Part::RoundTrip, "round-trip", 25, 15),
    (Part::Payload, "payload", 20, 8),
    (Part::Consumers, "consumers", 30, 12),
    (Part::Adaptive, "adaptive", 35, 20),
    (Part::Extras, "extras", 30, 12),
    (Part::Backlog, "backlog", 80, 15),
];

/// A run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    quick: bool,
    chosen: Vec<Part>,
    /// Names of peers; empty is all.
    names: Vec<String>,
    tasks: usize,
    concurrency: usize,
    chunks: u64,
    consumer: PathBuf,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        PARTS
            .iter()
            .find(|(part, ..)| *part == self)
            .map_or("", |(_, name, ..)| name)
    }
}

impl Plan {
    pub(crate) fn of(cli: &Cli) -> anyhow::Result<Self> {
        let (parts, names) = split(&cli.only)?;
        let everything = cli.only.is_empty();
        let chosen = |part: Part| match part {
            Part::Peers => parts.contains(&part) || !names.is_empty() || everything && (cli.peers || !cli.quick),
            Part::Varied
            | Part::Bulk
            | Part::Aof
            | Part::RoundTrip
            | Part::Payload
            | Part::Consumers
            | Part::Adaptive
            | Part::Extras
            | Part::Backlog => parts.contains(&part) || everything && !cli.quick,
            _ => parts.contains(&part) || everything,
        };
        Ok(Self {
            rounds: cli.rounds(),
            quick: cli.quick,
            chosen: PARTS
                .iter()
                .map(|(part, ..)| *part)
                .filter(|part| chosen(*part))
                .collect(),
            names,
            tasks: cli.tasks.unwrap_or(if cli.quick { 200_000 } else { 1_000_000 }),
            concurrency: cli.concurrency,
            chunks: cli.chunks.unwrap_or(if cli.quick { 20_000 } else { 100_000 }),
            consumer: cli.consumer.clone().map_or_else(Daemon::beside_us, Ok)?,
        })
    }

    /// The parts of a round. With one thing varied the peers are measured in the first round alone: it takes longest.
    pub(crate) fn parts(&self, round: usize) -> Vec<Part> {
        let all = self.chosen.iter().copied();
        all.filter(|part| round == 0 || *part != Part::Varied).collect()
    }

    /// Which peers are wanted, if any.
    pub(crate) fn peers(&self) -> Option<impl Fn(&str) -> bool> {
        let names = self.names.clone();
        let wanted = move |name: &str| names.is_empty() || names.iter().any(|known| known == name);
        let asked = self.chosen.contains(&Part::Peers) || self.chosen.contains(&Part::Varied);
        asked.then_some(wanted)
    }

    fn duration(&self) -> Duration {
        let all = PARTS.iter().filter(|(part, ..)| self.chosen.contains(part));
        let seconds = all.map(|(part, _, full, quick)| {
            let rounds = if *part == Part::Varied { 1 } else { self.rounds as u64 };
            let each = if self.quick { *quick } else { *full };
            match part {
                Part::Peers | Part::Varied if !self.names.is_empty() => {
                    each * rounds * self.names.len() as u64 / PEERS.len() as u64
                }
                _ => each * rounds,
            }
        });
        Duration::from_secs(seconds.sum())
    }

    /// The first line of a run.
    pub(crate) fn announcement(&self) -> String {
        let names: Vec<&str> = self.chosen.iter().map(|part| part.name()).collect();
        let minutes = self.duration().as_secs().div_ceil(60);
        format!(
            "{}: {} rounds, about {minutes} min, installing not counted",
            names.join(", "),
            self.rounds
        )
    }

    /// The settings, for the document.
    pub(crate) fn settings(&self) -> String {
        format!(
            "{} rounds; {} tasks in the main drain, {} in the others; daemon with concurrency {} and all else default; {} chunks.",
            self.rounds,
            self.tasks,
            self.varied(),
            self.concurrency,
            self.chunks
        )
    }

    /// Tasks of a drain where something is varied.
    fn varied(&self) -> usize {
        self.tasks * 2 / 5
    }

    pub(crate) async fn measure(
        &self,
        part: Part,
        server: &Server,
        field: Option<&mut Field>,
    ) -> anyhow::Result<Vec<Figure>> {
        let less = |full, quick| if self.quick { quick } else { full };
        let consumer = self.consumer.as_path();
        let sweep = Sweep {
            server,
            consumer,
            tasks: self.varied(),
            concurrency: self.concurrency,
        };
        match part {
            Part::Singles => measure::singles(server, less(100_000, 20_000)).await,
            Part::Throughput => {
                let load = Load::new(server, consumer, self.tasks, self.concurrency);
                let mut figures = throughput(server, &load).await?;
                figures.extend(bare::bare(server, &load).await?);
                Ok(figures)
            }
            Part::Latency => measure::latency(server, less(5000, 1000)).await,
            Part::Jobs => jobs::chunks(server, consumer, self.chunks, self.concurrency).await,
            Part::Cores => jobs::cores(server).await,
            Part::Peers => match field {
                Some(field) => field.round(server).await,
                None => Ok(Vec::new()),
            },
            Part::Varied => match field {
                Some(field) => field.varied(server).await,
                None => Ok(Vec::new()),
            },
            Part::Bulk => sweep.bulk().await,
            Part::Aof => sweep.aof().await,
            Part::RoundTrip => sweep.round_trip().await,
            Part::Payload => sweep.payload().await,
            Part::Consumers => sweep.consumers().await,
            Part::Adaptive => {
                let load = Load::new(server, consumer, self.varied(), self.concurrency);
                overhead::adaptive(server, &load).await
            }
            Part::Extras => sweep.extras().await,
            Part::Backlog if self.quick => sweep.backlog(&[("10k", 10_000), ("1M", 1_000_000)]).await,
            Part::Backlog => {
                sweep
                    .backlog(&[("10k", 10_000), ("1M", 1_000_000), ("5M", 5_000_000)])
                    .await
            }
        }
    }
}

/// The words of `--only`: parts, and names of peers.
fn split(words: &[String]) -> anyhow::Result<(Vec<Part>, Vec<String>)> {
    let (mut parts, mut names) = (Vec::new(), Vec::new());
    for word in words {
        if let Some((part, ..)) = PARTS.iter().find(|(_, name, ..)| name == word) {
            parts.push(*part);
        } else {
            let known: Vec<&str> = PARTS
                .iter()
                .map(|(_, name, ..)| *name)
                .chain(PEERS.iter().map(|p| p.name))
                .collect();
            ensure!(
                known.contains(&word.as_str()),
                "--only knows no {word:?}; it knows {}",
                known.join(", ")
            );
            names.push(word.clone());
        }
    }
    Ok((parts, names))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(words: &[&str]) -> anyhow::Result<Plan> {
        Plan::of(&Cli::parse_from(
            [&["workyard-bench", "--consumer", "x"], words].concat(),
        ))
    }

    #[test]
    fn quick_leaves_the_peers_and_what_is_varied_out_and_stays_within_two_minutes() {
        let quick = plan(&["--quick"]).unwrap();
        assert!(quick.peers().is_none() && !quick.chosen.contains(&Part::Aof));
        assert!(quick.duration() <= Duration::from_secs(120), "{:?}", quick.duration());
        assert!(plan(&["--quick", "--peers"]).unwrap().peers().is_some());
    }

    #[test]
    fn a_full_run_has_everything_and_stays_below_35_minutes() {
        let full = plan(&[]).unwrap();
        assert_eq!(full.parts(0).len(), PARTS.len());
        assert!(!full.parts(1).contains(&Part::Varied));
        assert!(full.duration() < Duration::from_secs(35 * 60), "{:?}", full.duration());
    }

    #[test]
    fn only_takes_parts_and_names_of_peers_and_refuses_others() {
        let some = plan(&["--only", "aof,bullmq"]).unwrap();
        assert_eq!(some.chosen, [Part::Peers, Part::Aof]);
        let wanted = some.peers().unwrap();
        assert!(wanted("bullmq") && !wanted("rq"));
        assert!(
            plan(&["--only", "nonsense"])
                .unwrap_err()
                .to_string()
                .contains("bullmq")
        );
    }
}
