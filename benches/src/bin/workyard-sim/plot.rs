//! The plot of a scenario: for each figure one bar per policy.

use workyard_bench::svg::{Bar, Group, plot};

use crate::scenario::Scenario;
use crate::tally::Tally;

/// A figure of a tally.
type Of = fn(&Tally) -> f64;

const FIGURES: [(&str, Of); 4] = [
    ("makespan, s", |t| t.makespan_s),
    ("p99 from arrival to first start, s", |t| t.wait_p99_s),
    ("p99 from arrival to end, s", |t| t.total_p99_s),
    ("wasted runs, %", |t| t.wasted_share * 100.0),
];

/// The plot of one scenario.
pub(crate) fn svg(scenario: &Scenario, tallies: &[Tally]) -> String {
    let groups = FIGURES.map(|(title, of)| Group {
        title: title.to_owned(),
        bars: tallies.iter().map(|tally| bar(tally, of)).collect(),
    });
    let (consumers, tasks) = (scenario.consumers.len(), scenario.tasks);
    let title = format!("{}: {consumers} consumers, {tasks} tasks", scenario.name);
    plot(&title, &groups)
}

fn bar(tally: &Tally, of: Of) -> Bar {
    let value = of(tally);
    Bar {
        label: tally.policy.to_owned(),
        value,
        number: format!("{value:.2}"),
    }
}
