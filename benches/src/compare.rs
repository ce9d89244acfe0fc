//! Two revisions in one run: their programs take turns, and each figure is shown with its ratio.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::figures::{percentile, short};

/// Runs a benchmark program once; its figures by name, with the unit.
fn figures(program: &Path, words: &[String]) -> anyhow::Result<BTreeMap<String, (f64, String)>> {
    let mut command = Command::new(program);
    let output = command
        .args(["--quick", "--json", "--rounds", "1"])
        .args(words)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {complaint}", program.display());
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<(String, (f64, String))> {
    let json: serde_json::Value = serde_json::from_str(line).ok()?;
    let unit = json["unit"].as_str().unwrap_or_default().to_owned();
    Some((json["figure"].as_str()?.to_owned(), (json["median"].as_f64()?, unit)))
}

/// Runs both `rounds` times in turns and prints the ratios of what both know.
pub(crate) fn compare(theirs: &Path, revision: &str, rounds: usize, words: &[String]) -> anyhow::Result<()> {
    let ours = std::env::current_exe()?;
    let mut seen: BTreeMap<String, (Vec<f64>, Vec<f64>, String)> = BTreeMap::new();
    for round in 1..=rounds {
        eprintln!("# round {round} of {rounds}");
        let (before, after) = (figures(theirs, words)?, figures(&ours, words)?);
        for (name, (old, unit)) in before {
            if let Some((new, _)) = after.get(&name) {
                let entry = seen.entry(name).or_insert((Vec::new(), Vec::new(), unit));
                entry.0.push(old);
                entry.1.push(*new);
            }
        }
    }
    print!("{}", table(revision, seen));
    Ok(())
}

fn table(revision: &str, seen: BTreeMap<String, (Vec<f64>, Vec<f64>, String)>) -> String {
    let mut out =
        format!("| figure | unit | {revision} | here | here / {revision} | lowest .. highest of the rounds |\n");
    out += "|---|---|---|---|---|---|\n";
    for (name, (mut old, mut new, unit)) in seen {
        let mut ratios: Vec<f64> = old.iter().zip(&new).map(|(old, new)| new / old).collect();
        let ratio = percentile(&mut ratios, 0.5);
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        let (old, new) = (short(percentile(&mut old, 0.5)), short(percentile(&mut new, 0.5)));
        out += &format!("| {name} | {unit} | {old} | {new} | {ratio:.2} | {low:.2} .. {high:.2} |\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let seen = BTreeMap::from([(
            "drain".to_owned(),
            (vec![10.0, 10.0, 10.0], vec![20.0, 5.0, 15.0], "/s".to_owned()),
        )]);
        let text = table("v1", seen);
        assert!(
            text.contains("| drain | /s | 10.0 | 15.0 | 1.50 | 0.50 .. 2.00 |"),
            "{text}"
        );
    }

    #[test]
    fn lines_that_are_no_figures_are_passed_over() {
        assert_eq!(parse("# 2 cores"), None);
        assert_eq!(
            parse(r#"{"figure":"drain","median":2.5,"unit":"/s"}"#),
            Some(("drain".to_owned(), (2.5, "/s".to_owned())))
        );
    }
}
