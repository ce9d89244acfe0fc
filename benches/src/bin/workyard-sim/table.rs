//! The figures as a Markdown table, as they stand in docs/balancing.md.

use crate::scenario::Scenario;
use crate::tally::Tally;

/// Prints the table of one scenario.
pub(crate) fn print(scenario: &Scenario, rounds: u64, tallies: &[Tally]) {
    println!(
        "\n{}: {} consumers, {} tasks, {rounds} round(s)\n",
        scenario.name,
        scenario.consumers.len(),
        scenario.tasks
    );
    println!(
        "| policy | makespan s | wait p50 s | wait p99 s | total p50 s | total p99 s | wasted | of runs | failed | shares of runs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for tally in tallies {
        println!("{}", row(tally));
    }
}

/// The row of one policy.
pub(crate) fn row(t: &Tally) -> String {
    let shares: Vec<String> = t
        .shares
        .iter()
        .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
        .collect();
    format!(
        "| {} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.1} % | {:.1} | {} |",
        t.policy,
        t.makespan_s,
        t.wait_p50_s,
        t.wait_p99_s,
        t.total_p50_s,
        t.total_p99_s,
        t.wasted,
        t.wasted_share * 100.0,
        t.failed,
        shares.join(", "),
    )
}
