//! A plot as SVG text: groups of horizontal bars. Bars need rectangles and text, no plotting library.
//!
//! Each group has a scale of its own, so that figures of different units stand in one picture.

const WIDTH: f64 = 760.0;
const LABEL: f64 = 150.0;
const NUMBER: f64 = 70.0;
const BAR: f64 = 18.0;
const COLOURS: [&str; 6] = ["#4c78a8", "#72b7b2", "#54a24b", "#e45756", "#b0b0b0", "#f2a65a"];

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What stands left of it.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// What stands behind it.
    pub number: String,
}

/// Bars on one scale, under a headline.
#[derive(Debug, Clone)]
pub struct Group {
    /// The headline.
    pub title: String,
    /// The bars, from above.
    pub bars: Vec<Bar>,
}

/// The whole plot.
#[must_use]
pub fn plot(title: &str, groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 28.0;
    for group in groups {
        y += 24.0;
        text(&mut body, 8.0, y - 6.0, "font-weight=\"bold\"", &group.title);
        let most = group.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for (bar, colour) in group.bars.iter().zip(COLOURS.iter().cycle()) {
            let width = (WIDTH - LABEL - NUMBER) * bar.value / most;
            text(&mut body, 8.0, y + 13.0, "", &bar.label);
            body.push_str(&format!(
                "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\n",
                BAR - 4.0
            ));
            text(&mut body, LABEL + width + 6.0, y + 12.0, "", &bar.number);
            y += BAR;
        }
    }
    let height = y + 12.0;
    let mut head = String::new();
    text(&mut head, 8.0, 22.0, "font-size=\"15\"", title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{head}{body}</svg>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    out.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>\n"));
}
