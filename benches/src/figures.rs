//! What a measurement gives, and what becomes of it over several rounds: median, lowest, highest.

use std::time::Duration;

/// One measured value: a cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// The table, by its headline.
    pub(crate) table: &'static str,
    pub(crate) row: String,
    /// Empty in a table of one value per row.
    pub(crate) column: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) note: String,
}

/// The table of one value per row.
pub(crate) const MAIN: &str = "Workyard";

/// A row of the main table.
pub(crate) fn figure(name: &str, value: f64, unit: &'static str, note: impl Into<String>) -> Figure {
    let note = note.into();
    Figure {
        note,
        ..cell(MAIN, name, "", unit, value)
    }
}

/// A cell of another table.
pub(crate) fn cell(
    table: &'static str,
    row: impl Into<String>,
    column: &'static str,
    unit: &'static str,
    value: f64,
) -> Figure {
    let (row, note) = (row.into(), String::new());
    Figure {
        table,
        row,
        column,
        unit,
        value,
        note,
    }
}

/// A figure over all rounds.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) figure: Figure,
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
    pub(crate) rounds: usize,
}

impl Summary {
    /// What no other figure is called.
    pub(crate) fn name(&self) -> String {
        let Figure { table, row, column, .. } = &self.figure;
        if column.is_empty() {
            row.clone()
        } else {
            format!("{table}: {row}: {column}")
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "figure": self.name(), "table": self.figure.table, "row": self.figure.row, "column": self.figure.column,
            "median": self.median, "lowest": self.low, "highest": self.high, "rounds": self.rounds,
            "unit": self.figure.unit, "note": self.figure.note,
        })
    }
}

/// All rounds' figures by cell, in the order of first sight.
pub(crate) fn summarize(figures: &[Figure]) -> Vec<Summary> {
    let mut cells: Vec<(Figure, Vec<f64>)> = Vec::new();
    for new in figures {
        let same = |known: &Figure| (known.table, &known.row, known.column) == (new.table, &new.row, new.column);
        match cells.iter_mut().find(|(known, _)| same(known)) {
            Some((_, values)) => values.push(new.value),
            None => cells.push((new.clone(), vec![new.value])),
        }
    }
    cells
        .into_iter()
        .map(|(figure, mut values)| {
            values.sort_unstable_by(f64::total_cmp);
            Summary {
                low: values[0],
                median: values[values.len() / 2],
                high: values[values.len() - 1],
                rounds: values.len(),
                figure,
            }
        })
        .collect()
}

/// A number as a reader wants it: three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        at if at >= 100_000.0 => format!("{:.0}k", value / 1e3),
        at if at >= 1000.0 => format!("{:.1}k", value / 1e3),
        at if at >= 100.0 => format!("{value:.0}"),
        at if at >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds far below 2^53")]
pub(crate) fn per_second(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(crate) fn per_task(total: f64, count: usize) -> f64 {
    total / count as f64
}

/// Microseconds of a span for each of `count` tasks.
pub(crate) fn micros(span: Duration, count: usize) -> f64 {
    per_task(span.as_secs_f64() * 1e6, count)
}

/// The value that `share` of all do not exceed; sorts them.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a slice"
    )]
    let at = (values.len() as f64 * share) as usize;
    values
        .get(at.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_one_cell_become_median_and_spread() {
        let round = |value| {
            [
                figure("drain", value, "/s", ""),
                cell("Peers", "rq", "drain", "/s", value * 2.0),
            ]
        };
        let all: Vec<Figure> = [3.0, 1.0, 2.0].into_iter().flat_map(round).collect();
        let summary = summarize(&all);
        assert_eq!(summary.len(), 2);
        let drain = &summary[0];
        assert_eq!((drain.low, drain.median, drain.high, drain.rounds), (1.0, 2.0, 3.0, 3));
        assert_eq!(summary[1].name(), "Peers: rq: drain");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), 501.0);
        assert_eq!(percentile(&mut values, 0.999), 1000.0);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}
