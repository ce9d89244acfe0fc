//! A plot as SVG text: for each figure one bar per policy. Bars need rectangles and text, no plotting library.

use crate::scenario::Scenario;
use crate::tally::Tally;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 150.0;
const NUMBER: f64 = 70.0;
const BAR: f64 = 18.0;
const COLOURS: [&str; 6] = ["#4c78a8", "#72b7b2", "#54a24b", "#e45756", "#b0b0b0", "#f2a65a"];

/// One group of bars.
struct Group {
    title: &'static str,
    of: fn(&Tally) -> f64,
}

const GROUPS: [Group; 4] = [
    Group {
        title: "makespan, s",
        of: |t| t.makespan_s,
    },
    Group {
        title: "p99 from arrival to first start, s",
        of: |t| t.wait_p99_s,
    },
    Group {
        title: "p99 from arrival to end, s",
        of: |t| t.total_p99_s,
    },
    Group {
        title: "wasted runs, %",
        of: |t| t.wasted_share * 100.0,
    },
];

/// The plot of one scenario.
pub(crate) fn svg(scenario: &Scenario, tallies: &[Tally]) -> String {
    let mut body = String::new();
    let mut y = 28.0;
    for group in &GROUPS {
        y += 24.0;
        text(&mut body, 8.0, y - 6.0, "font-weight=\"bold\"", group.title);
        let most = tallies.iter().map(group.of).fold(f64::MIN_POSITIVE, f64::max);
        for (tally, colour) in tallies.iter().zip(COLOURS) {
            let value = (group.of)(tally);
            let width = (WIDTH - LABEL - NUMBER) * value / most;
            text(&mut body, 8.0, y + 13.0, "", tally.policy);
            body.push_str(&format!(
                "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\n",
                BAR - 4.0
            ));
            text(&mut body, LABEL + width + 6.0, y + 12.0, "", &format!("{value:.2}"));
            y += BAR;
        }
    }
    let title = format!(
        "{}: {} consumers, {} tasks",
        scenario.name,
        scenario.consumers.len(),
        scenario.tasks
    );
    let height = y + 12.0;
    let mut head = String::new();
    text(&mut head, 8.0, 22.0, "font-size=\"15\"", &title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{head}{body}</svg>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, style: &str, words: &str) {
    out.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>\n"));
}
