//! Showing the same thing again and again, until Ctrl-C.
//!
//! Invariant: at a terminal a picture replaces the one before and never scrolls; piped, pictures follow each other. An
//! outage is told once and waited out; the last picture stays meanwhile.

use std::time::Duration;

use workyard_producer::Error;

use super::exit::CliError;
use super::output::Out;

/// How long one look waits for Redis before the outage is told.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// An outage, as those who look again and again tell it: once when it is seen, once when it is over.
#[derive(Debug, Default)]
pub(crate) struct Told {
    away: bool,
}

impl Told {
    /// A look got its answer; whether an outage is over with it.
    pub(crate) fn answered(&mut self, out: &Out) -> bool {
        let over = std::mem::take(&mut self.away);
        if over {
            out.note("note: Redis answers again");
        }
        over
    }

    /// A look has failed: an outage is waited out, anything else ends the command.
    pub(crate) fn failed(&mut self, error: Error, goes_on: &str, out: &Out) -> Result<(), CliError> {
        if !error.is_temporary() {
            return Err(error.into());
        }
        if !std::mem::replace(&mut self.away, true) {
            out.note(&format!("note: {error}; {goes_on}"));
        }
        Ok(())
    }
}

/// What is on the screen.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    drawn: bool,
    outage: Told,
}

impl Screen {
    /// Shows the next picture.
    pub(crate) fn show(&mut self, text: &str, out: &mut Out) -> Result<(), CliError> {
        if self.outage.answered(out) {
            // The notes stand in the picture.
            self.drawn = false;
        }
        let text = if out.terminal {
            frame(text, !self.drawn, rows())
        } else if self.drawn {
            format!("\n{text}\n")
        } else {
            format!("{text}\n")
        };
        self.drawn = true;
        out.bytes(text.as_bytes())?;
        out.flush()
    }

    /// A look has failed: an outage is told once, anything else ends the watch.
    pub(crate) fn failed(&mut self, error: Error, out: &Out) -> Result<(), CliError> {
        self.outage.failed(error, "still watching", out)
    }
}

/// Rows of the terminal.
fn rows() -> usize {
    terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0))
}

/// A picture over the one before: what does not fit is left out, on the right and below.
fn frame(text: &str, first: bool, rows: usize) -> String {
    let mut picture = String::from(if first {
        "\u{1b}[2J\u{1b}[H\u{1b}[?7l"
    } else {
        "\u{1b}[H\u{1b}[?7l"
    });
    for line in text.lines().take(rows.saturating_sub(1).max(1)) {
        picture.push_str(line);
        // Whatever stood behind it.
        picture.push_str("\u{1b}[K\n");
    }
    picture.push_str("\u{1b}[J\u{1b}[?7h");
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_never_scrolls_and_clears_what_it_does_not_cover() {
        let first = frame("a\nb\nc\nd", true, 3);
        assert_eq!(
            first,
            "\u{1b}[2J\u{1b}[H\u{1b}[?7la\u{1b}[K\nb\u{1b}[K\n\u{1b}[J\u{1b}[?7h"
        );
        let next = frame("a", false, 3);
        assert!(next.starts_with("\u{1b}[H") && next.ends_with("a\u{1b}[K\n\u{1b}[J\u{1b}[?7h"));
    }
}
