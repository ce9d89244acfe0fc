//! Tables: plain columns, with colours at a terminal.
//!
//! Invariant: one row a line, and no cell is ever broken over lines: ids must be there to be copied.
//! Piped tables have no colour. `NO_COLOR` is obeyed.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use workyard_producer::State;

use super::output::clean;

/// Most characters of one cell.
const CELL: usize = 120;
/// The same at a terminal, where a row should fit.
const CELL_ON_TERMINAL: usize = 60;

/// A table in the making.
#[derive(Debug)]
pub(crate) struct Grid {
    table: Table,
    terminal: bool,
    colour: bool,
}

impl Grid {
    /// A table with these column heads; a head that begins with `>` aligns its column right.
    pub(crate) fn new(terminal: bool, heads: &[&str]) -> Self {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if !terminal {
            table.force_no_tty();
        }
        table.set_header(heads.iter().map(|head| {
            let cell = Cell::new(head.trim_start_matches('>').to_uppercase());
            if colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        for (n, head) in heads.iter().enumerate() {
            let Some(column) = table.column_mut(n) else { continue };
            column.set_padding((0, 2));
            if head.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self {
            table,
            terminal,
            colour,
        }
    }

    /// Adds a row; the words of states get their colour.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<Cell> = cells.into_iter().map(|text| self.cell(text.as_ref())).collect();
        self.table.add_row(cells);
    }

    fn cell(&self, text: &str) -> Cell {
        let cell = Cell::new(clean(text, if self.terminal { CELL_ON_TERMINAL } else { CELL }));
        let Some(state) = State::parse(text).filter(|_| self.colour) else {
            return cell;
        };
        cell.fg(match state {
            State::Completed => Color::Green,
            State::Failed => Color::Red,
            State::Running => Color::Cyan,
            State::Retrying | State::Expired | State::Cancelled => Color::Yellow,
            State::Scheduled | State::Pending => Color::Reset,
        })
    }

    /// The text of the table.
    pub(crate) fn text(&self) -> String {
        self.table
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piped_table_is_plain_columns_one_row_a_line() {
        let mut grid = Grid::new(false, &["id", ">n"]);
        grid.row(["a", "1"]);
        grid.row(["long-id\nx", "20"]);
        assert_eq!(grid.text(), "ID          N\na           1\nlong-id x  20");
    }
}
