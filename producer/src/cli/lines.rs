//! Lines of a file of any length, one at a time, with flat memory.
//!
//! Invariant: no more than [`MAX_LINE`] bytes are held; a longer line is passed over and told as too
//! long. Numbers count from 1, blank lines included.

use std::io::{self, BufRead, Read};

/// Longest line: a payload and headers of full size, with some white space.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Its bytes, line end cut.
    Text(&'a [u8]),
    /// Longer than [`MAX_LINE`].
    TooLong,
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Number of the line that was read last.
    pub(crate) number: u64,
    /// Bytes read so far.
    pub(crate) bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            number: 0,
            bytes: 0,
        }
    }

    /// The next line that is not blank.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.buffer.clear();
            let read = self
                .reader
                .by_ref()
                .take(MAX_LINE as u64 + 1)
                .read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += read as u64;
            if read > MAX_LINE && !self.buffer.ends_with(b"\n") {
                self.bytes += skip_line(&mut self.reader)?;
                return Ok(Some(Line::TooLong));
            }
            if self.buffer.iter().any(|b| !b.is_ascii_whitespace()) {
                break;
            }
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        // Windows' editors put a mark before the first line.
        Ok(Some(Line::Text(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text))))
    }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let (used, done) = {
            let available = reader.fill_buf()?;
            match available.iter().position(|&b| b == b'\n') {
                Some(at) => (at + 1, true),
                None => (available.len(), available.is_empty()),
            }
        };
        reader.consume(used);
        skipped += used as u64;
        if done {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_with_the_blank_ones_and_long_ones_are_passed_over() {
        let long = "x".repeat(MAX_LINE + 10);
        let text = format!("\u{feff}a\n\n  \nb\r\n{long}\nc");
        let mut lines = Lines::new(text.as_bytes());
        let mut seen = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            let shown = match line {
                Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Line::TooLong => "too long".to_owned(),
            };
            seen.push((lines.number, shown));
        }
        let expected = [(1, "a"), (4, "b\r"), (5, "too long"), (6, "c")].map(|(n, text)| (n, text.to_owned()));
        assert_eq!(seen, expected);
        assert_eq!(lines.bytes, text.len() as u64);
    }
}
