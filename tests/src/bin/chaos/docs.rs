//! The table of figures in a document: one row a run, between two marks.
//!
//! Invariant: a run takes the place of an earlier one of the same profile and seed; all other rows stay.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::report::Report;

const BEGIN: &str = "<!-- chaos figures -->";
const END: &str = "<!-- end of chaos figures -->";
const HEAD: &str = "\
| profile | seed | minutes, cores | accepted | ended | lost | taken before it was kept (up to so long before) | two ends | ends rolled back | executed too often | stale writes refused | stale writes accepted | jobs | slowest recovery | accepted at a covering level | slowest failover |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Puts the figures of a run into the table.
///
/// # Errors
/// If the document cannot be read or written, has no marks, or the run broke a promise: those figures are for mending.
pub(crate) fn record(path: &Path, report: &Report) -> anyhow::Result<()> {
    if !report.violations.is_empty() {
        bail!("a run with violations has no figures");
    }
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("no mark for the table")?;
    let (table, after) = rest.split_once(END).context("no mark for the end of the table")?;
    let mut rows: BTreeMap<(String, u64), String> = table
        .lines()
        .filter_map(|row| Some((key(row)?, row.to_owned())))
        .collect();
    rows.insert((report.profile.to_owned(), report.seed), row(report));
    let rows: String = rows.into_values().map(|row| row + "\n").collect();
    std::fs::write(path, format!("{before}{BEGIN}\n{HEAD}{rows}{END}{after}"))?;
    Ok(())
}

/// Profile and seed of a row; `None` for the head.
fn key(row: &str) -> Option<(String, u64)> {
    let mut cells = row.split('|').map(str::trim).skip(1);
    Some((cells.next()?.to_owned(), cells.next()?.parse().ok()?))
}

fn row(report: &Report) -> String {
    let ended: usize = report.terminal.values().sum();
    let slowest = report
        .slowest()
        .and_then(|recovery| Some((recovery.ms?, &recovery.fault)));
    let mut slowest = slowest.map_or_else(|| "-".to_owned(), |(ms, fault)| format!("{ms} ms ({fault})"));
    if report.unseen() > 0 {
        slowest += &format!("; {} of {} not seen", report.unseen(), report.recoveries.len());
    }
    let reasons: Vec<String> = report
        .duplicates
        .iter()
        .map(|(reason, n)| format!("{n}: {reason}"))
        .collect();
    let duplicated = match &reasons[..] {
        [] => report.duplicated.to_string(),
        reasons => format!("{} ({})", report.duplicated, reasons.join("; ")),
    };
    let failover = report.slowest_failover();
    let failover = failover.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    format!(
        "| {} | {} | {}, {} | {} | {ended} | {} | {} ({} ms) | {} | {} | {} | {} | {} | {} | {slowest} | {} | {failover} |",
        report.profile,
        report.seed,
        report.minutes,
        report.cores,
        report.accepted,
        report.lost,
        report.lost_unsynced,
        report.loss_window_ms,
        report.two_ends,
        report.rolled_back,
        duplicated,
        report.stale_refused,
        report.stale_accepted,
        report.jobs,
        report.covered,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seed: u64, accepted: usize) -> Report {
        Report {
            profile: "always",
            seed,
            accepted,
            ..Report::default()
        }
    }

    #[test]
    fn a_run_takes_the_place_of_its_earlier_self_and_of_no_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("text\n{BEGIN}\n{END}\nmore\n")).unwrap();
        for (seed, accepted) in [(2, 20), (1, 10), (2, 21)] {
            record(file.path(), &report(seed, accepted)).unwrap();
        }
        let text = std::fs::read_to_string(file.path()).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| always")).collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(rows[0].contains("| 1 |") && rows[1].contains("| 21 |"), "{text}");
        assert!(text.starts_with("text\n") && text.ends_with("\nmore\n"), "{text}");
    }

    #[test]
    fn a_run_that_broke_a_promise_is_no_figure() {
        let broken = Report {
            violations: vec!["lost: 1".to_owned()],
            ..report(1, 1)
        };
        assert!(record(Path::new("unused"), &broken).is_err());
    }
}
