//! `doctor`: what is wrong in Redis, why, and what was mended.
//!
//! Invariant: exit code 1 means that something is wrong still. Each sort of finding is explained once.

use std::collections::BTreeSet;

use serde_json::json;
use workyard_producer::{Ailment, Diagnosis, Finding};

use super::args::DoctorArgs;
use super::exit::{CliError, Exit};
use super::output::{clean, counted};
use super::session::Session;
use super::table::Grid;

/// Findings of one sort that are listed; the rest is counted.
const LISTED: usize = 20;

/// Runs `doctor`.
pub(crate) async fn run(args: &DoctorArgs, session: &mut Session) -> Result<Exit, CliError> {
    let queue = session.named.then(|| session.queue.clone());
    let diagnosis = session.client.doctor(queue.as_ref(), args.repair).await?;
    if session.out.json {
        document(&diagnosis, session)?;
    } else {
        table(&diagnosis, args.repair, session)?;
    }
    Ok(if diagnosis.findings.is_empty() {
        Exit::Done
    } else {
        Exit::TaskFailed
    })
}

fn document(diagnosis: &Diagnosis, session: &mut Session) -> Result<(), CliError> {
    let explanations: serde_json::Map<String, serde_json::Value> = sorts(diagnosis)
        .into_iter()
        .map(|ailment| {
            let words = json!({ "what": ailment.what(), "cause": ailment.cause(), "repair": ailment.repair() });
            (ailment.word().to_owned(), words)
        })
        .collect();
    session.out.document(&json!({
        "findings": diagnosis.findings,
        "repaired": diagnosis.repaired,
        "looked_at": diagnosis.looked_at,
        "explanations": explanations,
    }))
}

fn sorts(diagnosis: &Diagnosis) -> BTreeSet<Ailment> {
    let all = diagnosis.findings.iter().chain(&diagnosis.repaired);
    all.map(|finding| finding.ailment).collect()
}

fn table(diagnosis: &Diagnosis, repair: bool, session: &mut Session) -> Result<(), CliError> {
    let mut grid = Grid::new(session.out.terminal, &["finding", "queue", "subject", "repair"]);
    for ailment in sorts(diagnosis) {
        rows(&mut grid, ailment, &diagnosis.repaired, "repaired");
        let state = match (ailment.is_curable(), repair) {
            (true, false) => "with --repair",
            (true, true) => "not repaired",
            (false, _) => "by hand",
        };
        rows(&mut grid, ailment, &diagnosis.findings, state);
    }
    let looked = &diagnosis.looked_at;
    if !sorts(diagnosis).is_empty() {
        session.out.line(&grid.text())?;
        for ailment in sorts(diagnosis) {
            let (what, cause, mends) = (ailment.what(), ailment.cause(), ailment.repair());
            session.out.line(&format!(
                "\n{}: {what}.\n  How: {cause}.\n  Repair: {mends}.",
                ailment.word()
            ))?;
        }
        session.out.line("")?;
    }
    session.out.line(&format!(
        "{} wrong, {} repaired; looked at {}, {}, {}, {}, {}",
        diagnosis.findings.len(),
        diagnosis.repaired.len(),
        counted(looked.keys, "key"),
        counted(looked.queues, "queue"),
        counted(looked.ids, "id"),
        counted(looked.consumers, "consumer"),
        counted(looked.jobs, "job")
    ))
}

fn rows(grid: &mut Grid, ailment: Ailment, findings: &[Finding], state: &str) {
    let of_sort = || findings.iter().filter(|finding| finding.ailment == ailment);
    for finding in of_sort().take(LISTED) {
        let subject = String::from_utf8_lossy(&finding.subject);
        let queue = finding.queue.as_deref().unwrap_or("-");
        grid.row([ailment.word(), queue, &clean(&subject, 120), state]);
    }
    let more = of_sort().count().saturating_sub(LISTED);
    if more > 0 {
        grid.row([ailment.word(), "", &format!("and {more} more"), state]);
    }
}
