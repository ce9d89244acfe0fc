//! docs/benchmarks.md and its plots: written by a full run, never by hand.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use workyard_bench::svg::{Bar, Group, plot};

use crate::figures::{Summary, short};
use crate::peers::{Peer, output};
use crate::side::{COSTS, Field, HALF, IDLE, RATES};
use crate::sweep::{AOF, BACKLOG, CONSUMERS, PAYLOAD, ROUND_TRIP};
use crate::tables;

const HEAD: &str = "# Benchmarks

Written by `scripts/bench`; do not edit. What each harness does is in `benches/peers/README.md`.

Everything ran in one run on one Redis of its own, over the loopback, append-only file off unless said, rounds interleaved: each round goes through
everything once. A figure is the median of the rounds, with the lowest and the highest. Producers, workers and Redis share the machine's cores. Tasks do
nothing and have 100 bytes of payload; results are kept only in the full cycle. Rates of a drain run from the first task's start to the last one's, in
the tables of Workyard alone from the release of a paused queue until it is empty. Half load is half of what one producer and one worker reach together.
";

/// The plots: file, title, tables and columns that become groups of bars.
type Picture = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static [&'static str])],
);

const PICTURES: [Picture; 3] = [
    (
        "bench-rates.svg",
        "Side by side: tasks per second",
        &[(
            RATES,
            &[
                "drain",
                "enqueue in bulk",
                "enqueue, 64 callers",
                "enqueue one by one",
                "full cycle, 64 callers",
            ],
        )],
    ),
    (
        "bench-costs.svg",
        "Side by side: what a task costs, and how late it starts",
        &[
            (COSTS, &["Redis CPU, drain", "worker CPU, drain", "bytes queued"]),
            (IDLE, &["p50", "p99"]),
            (HALF, &["p50", "p99"]),
        ],
    ),
    (
        "bench-workyard.svg",
        "Workyard: drain, tasks per second",
        &[
            (AOF, &["drain"]),
            (ROUND_TRIP, &["drain"]),
            (PAYLOAD, &["drain"]),
            (BACKLOG, &["drain"]),
            (CONSUMERS, &["drain"]),
        ],
    ),
];

/// Writes everything below `docs`.
pub(crate) fn write(
    docs: &Path,
    server: &str,
    settings: &str,
    summaries: &[Summary],
    field: Option<&Field>,
) -> anyhow::Result<()> {
    let images = docs.join("images");
    std::fs::create_dir_all(&images)?;
    let mut text = format!("{HEAD}\n{}\n{settings}\n", machine(server));
    for (file, title, parts) in PICTURES {
        let groups = groups(parts, summaries);
        if !groups.is_empty() {
            std::fs::write(images.join(file), plot(title, &groups))?;
            text += &format!("\n![{title}](images/{file})\n");
        }
    }
    text += "\n";
    text += &tables::all(summaries);
    if let Some(field) = field {
        text += &who(field);
    }
    let file = docs.join("benchmarks.md");
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

fn groups(parts: &[(&str, &[&str])], summaries: &[Summary]) -> Vec<Group> {
    let mut groups = Vec::new();
    for (table, columns) in parts {
        for column in *columns {
            let cells = tables::of(table, summaries);
            let cells: Vec<_> = cells.iter().filter(|cell| cell.figure.column == *column).collect();
            let Some(first) = cells.first() else { continue };
            groups.push(Group {
                title: format!("{table}: {column}, {}", first.figure.unit),
                bars: cells
                    .iter()
                    .map(|cell| Bar {
                        label: cell.figure.row.clone(),
                        value: cell.median,
                        number: short(cell.median),
                    })
                    .collect(),
            });
        }
    }
    groups
}

/// Who was measured, and who not.
pub(crate) fn who(field: &Field) -> String {
    let mut out = "## Who was measured, and how\n\n| name | version | task of a killed worker | retries | settings | tasks: drain, 64 callers, bulk | what failed, and why |\n|---|---|---|---|---|---|---|\n".to_owned();
    for peer in &field.peers {
        let Peer {
            name,
            claim,
            retries,
            settings,
            tasks,
            many,
            bulk,
            ..
        } = peer;
        let version = field.versions.get(name).map_or("", String::as_str);
        let reason = field.reason(name).replace('|', "/");
        out += &format!(
            "| {name} | {version} | {claim} | {retries} | {settings} | {tasks}, {many}, {bulk} | {reason} |\n"
        );
    }
    out
}

/// The machine and the programs, in one paragraph.
fn machine(server: &str) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory: u64 = memory
        .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let ask = |program: &str, words: &[&str]| output(Command::new(program).args(words)).unwrap_or_default();
    let (redis, kernel) = (ask(server, &["--version"]), ask("uname", &["-sr"]));
    let redis = redis.split(" sha=").next().unwrap_or_default().to_owned();
    let (commit, day) = (
        ask("git", &["rev-parse", "--short", "HEAD"]),
        ask("date", &["-u", "+%Y-%m-%d"]),
    );
    format!(
        "{day}, revision {commit}: {cores} cores of {}, {} GB, {kernel}, {redis}.",
        model.unwrap_or("an unnamed processor"),
        memory / 1_000_000
    )
}
