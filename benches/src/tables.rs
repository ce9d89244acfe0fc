//! The figures as Markdown tables, as they stand in docs/benchmarks.md and on the terminal.

use crate::figures::{MAIN, Summary, short};

/// Every table of a run, each under its headline.
pub(crate) fn all(summaries: &[Summary]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for summary in summaries {
        if !names.contains(&summary.figure.table) {
            names.push(summary.figure.table);
        }
    }
    names
        .iter()
        .map(|name| format!("## {name}\n\n{}\n", one(name, summaries)))
        .collect()
}

/// The summaries of one table.
pub(crate) fn of<'a>(name: &str, summaries: &'a [Summary]) -> Vec<&'a Summary> {
    summaries
        .iter()
        .filter(|summary| summary.figure.table == name)
        .collect()
}

fn one(name: &str, summaries: &[Summary]) -> String {
    let cells = of(name, summaries);
    if name == MAIN { list(&cells) } else { matrix(&cells) }
}

/// One value per row.
fn list(cells: &[&Summary]) -> String {
    let mut out = "| figure | median | unit | lowest .. highest | note |\n|---|---|---|---|---|\n".to_owned();
    for cell in cells {
        out += &format!(
            "| {} | {} | {} | {} .. {} | {} |\n",
            cell.figure.row,
            short(cell.median),
            cell.figure.unit,
            short(cell.low),
            short(cell.high),
            cell.figure.note
        );
    }
    out
}

/// Rows and columns; each cell a median with its spread.
fn matrix(cells: &[&Summary]) -> String {
    let (mut rows, mut columns): (Vec<&str>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
    for cell in cells {
        let column = (cell.figure.column, cell.figure.unit);
        if !columns.contains(&column) {
            columns.push(column);
        }
        if !rows.contains(&cell.figure.row.as_str()) {
            rows.push(&cell.figure.row);
        }
    }
    let head: Vec<String> = columns
        .iter()
        .map(|(column, unit)| format!("{column}, {unit}"))
        .collect();
    let mut out = format!("| | {} |\n|---|{}\n", head.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let texts: Vec<String> = columns
            .iter()
            .map(|(column, _)| {
                let found = cells
                    .iter()
                    .find(|cell| cell.figure.row == row && cell.figure.column == *column);
                found.map_or("-".to_owned(), |cell| spread(cell))
            })
            .collect();
        out += &format!("| {row} | {} |\n", texts.join(" | "));
    }
    out
}

fn spread(cell: &Summary) -> String {
    if cell.rounds == 1 {
        return short(cell.median);
    }
    format!("{} ({} .. {})", short(cell.median), short(cell.low), short(cell.high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{cell, figure, summarize};

    #[test]
    fn a_cell_that_nobody_measured_is_a_dash() {
        let figures = [
            cell("T", "a", "one", "/s", 1.0),
            cell("T", "b", "two", "us", 2000.0),
            cell("T", "b", "two", "us", 4000.0),
            cell("T", "b", "two", "us", 3000.0),
            figure("x", 123_456.0, "/s", "why"),
        ];
        let text = all(&summarize(&figures));
        assert!(text.contains("| | one, /s | two, us |"), "{text}");
        assert!(text.contains("| a | 1.00 | - |"), "{text}");
        assert!(text.contains("| b | - | 3.0k (2.0k .. 4.0k) |"), "{text}");
        assert!(text.contains("| x | 123k | /s | 123k .. 123k | why |"), "{text}");
    }
}
