//! Standard output: JSON or text, and what makes text safe to show.
//!
//! Invariant: every write can fail and says so, a closed pipe included. JSON lines stay one line
//! each, whatever white space a payload has between its tokens. Control characters of others
//! (an error text, an id) never reach the terminal. Notes go to stderr, so that stdout is data.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;
use workyard_shared::one_line::is_steering;

use super::exit::CliError;

/// "1 task", "2 tasks": for words that take an s.
pub(crate) fn counted(n: u64, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// Where the output goes, and how.
#[derive(Debug)]
pub(crate) struct Out {
    writer: BufWriter<io::Stdout>,
    /// JSON is asked for.
    pub(crate) json: bool,
    /// Somebody reads along.
    pub(crate) terminal: bool,
}

/// Whether bars can be drawn on stderr: a dumb terminal moves no cursor.
pub(crate) fn draws() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self {
            writer: BufWriter::new(stdout),
            json,
            terminal,
        }
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.writer, "{text}").map_err(|e| CliError::output(&e))
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.writer.write_all(bytes).map_err(|e| CliError::output(&e))
    }

    /// Writes one JSON document, payloads byte for byte.
    pub(crate) fn document<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CliError> {
        let text = to_json(value)?;
        self.line(&text)
    }

    /// Writes one JSON document on one line, at once.
    pub(crate) fn json_line<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CliError> {
        // Raw line ends stand between tokens only; inside of strings they are escaped.
        let text = to_json(value)?.replace(['\n', '\r'], " ");
        self.line(&text)?;
        self.flush()
    }

    /// Sends what is buffered.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(|e| CliError::output(&e))
    }

    /// Tells people something that is not data; not with JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            // A note that nobody can read is no reason to stop.
            writeln!(io::stderr(), "{text}").ok();
        }
    }
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, CliError> {
    serde_json::to_string(value)
        .map_err(|e| CliError::usage(format!("the output cannot be written as JSON: {e}"), None))
}

/// Text of others on one line, control characters escaped, at most `most` characters.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (n, c) in text.chars().enumerate() {
        if n >= most {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_steering(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// An error on one line: of several lines the first and the last, which is where a traceback says what was wrong.
pub(crate) fn summary(error: &str, most: usize) -> String {
    let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{} … {}", clean(first, most / 2), clean(last, most / 2)),
        (first, _) => clean(first.unwrap_or_default(), most),
    }
}

/// As [`clean`] for several lines of any length.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines()
        .map(|line| clean(line, usize::MAX))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc", 100), "a\\u{1b}[31mb c");
        assert_eq!(clean("abcdef", 3), "abc…");
        assert_eq!(clean_lines("a\u{7}\nb"), "a\\u{7}\nb");
    }

    #[test]
    fn an_error_of_many_lines_is_told_by_its_first_and_last() {
        let traceback = "Traceback (most recent call last):\n  File \"x.py\"\nValueError: no\u{1b}\n\n";
        assert_eq!(
            summary(traceback, 100),
            "Traceback (most recent call last): … ValueError: no\\u{1b}"
        );
        assert_eq!(summary(" one\n", 100), "one");
        assert_eq!(summary("abcdef", 3), "abc…");
        assert_eq!(summary("", 3), "");
    }
}
