//! Where the records of a CSV file end.
//!
//! Invariant: the rules are those of the csv crate, by which consumers read what is cut here. It holds a little of the file,
//! however long a record is. A quote that nothing closes is an error: the crate takes all that follows it for one field, so
//! that records would be lost in silence.

use std::io::{self, BufRead, BufReader};

use super::cut::MARK;
use super::source::{Reader, Source};
use crate::error::Error;

/// Bytes of one read.
const WINDOW: usize = 1 << 18;

/// The ends of the records of a file, one after the other.
#[derive(Debug)]
pub(crate) struct CsvEnds<'a> {
    source: &'a Source,
    bytes: BufReader<Reader<'a>>,
    delimiter: u8,
    at: u64,
}

/// Where in a record a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In front of it, where line ends are empty lines.
    Before,
    /// In front of a field: only here a quote opens one.
    Field,
    /// In a field without quotes, or behind its closing quote.
    Bare,
    /// In quotes.
    Quoted,
    /// Behind a quote in quotes: it closes the field, or is the first of two that stand for one.
    Quote,
    /// Behind the record.
    End,
}

impl<'a> CsvEnds<'a> {
    pub(crate) fn new(source: &'a Source, delimiter: u8) -> Result<Self, Error> {
        let mut ends = Self {
            source,
            bytes: BufReader::with_capacity(WINDOW, source.open()?),
            delimiter,
            at: 0,
        };
        if ends.window()?.starts_with(MARK) {
            ends.pass(MARK.len());
        }
        Ok(ends)
    }

    /// The offset behind the next record and its line end; `None` if there is no other.
    pub(crate) fn next(&mut self) -> Result<Option<u64>, Error> {
        let mut state = State::Before;
        let mut opened = self.at;
        loop {
            let delimiter = self.delimiter;
            let window = self.window()?;
            if window.is_empty() {
                return match state {
                    State::Before => Ok(None),
                    State::Quoted => Err(self.wrong(&format!("the quote at byte {opened} is never closed"))),
                    State::Field | State::Bare | State::Quote | State::End => Ok(Some(self.at)),
                };
            }
            let mut passed = 0;
            let mut last_quote = None;
            for byte in window {
                let before = state;
                state = state.behind(*byte, delimiter);
                if state == State::Quoted && before != State::Quoted && before != State::Quote {
                    last_quote = Some(passed);
                }
                passed += 1;
                if state == State::End {
                    break;
                }
            }
            let windows_end = state == State::End && window[passed - 1] == b'\r';
            opened = last_quote.map_or(opened, |offset| self.at + offset as u64);
            self.pass(passed);
            if windows_end && self.window()?.first() == Some(&b'\n') {
                self.pass(1);
            }
            if state == State::End {
                return Ok(Some(self.at));
            }
        }
    }

    fn window(&mut self) -> Result<&[u8], Error> {
        let source = self.source;
        let failed = |e: io::Error| Error::invalid(format!("{}: {e}", source.path()));
        self.bytes.fill_buf().map_err(failed)
    }

    fn pass(&mut self, bytes: usize) {
        self.bytes.consume(bytes);
        self.at += bytes as u64;
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::invalid(format!("{}: {reason}", self.source.path()))
    }
}

impl State {
    fn behind(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Before | Self::Field | Self::Quote, b'"') => Self::Quoted,
            (Self::Quoted, _) => Self::Quoted,
            (_, byte) if byte == delimiter => Self::Field,
            (Self::Before, b'\r' | b'\n') => Self::Before,
            (_, b'\r' | b'\n') => Self::End,
            _ => Self::Bare,
        }
    }
}

/// The first column with a name that another one in front of it has. Columns without a name are many in what programs
/// of tables write.
pub(crate) fn twice(header: &str, delimiter: u8) -> Option<String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .from_reader(header.as_bytes());
    let names = reader.records().next()?.ok()?;
    let mut seen = std::collections::HashSet::new();
    let named = names.iter().filter(|name| !name.is_empty());
    named.into_iter().find(|name| !seen.insert(*name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::source::tests::written;

    fn ends(text: &str, delimiter: u8) -> Result<Vec<u64>, String> {
        let dir = tempfile::tempdir().unwrap();
        let source = written(dir.path(), "t.csv", text.as_bytes());
        let mut ends = CsvEnds::new(&source, delimiter).unwrap();
        let mut found = Vec::new();
        while let Some(end) = ends.next().map_err(|e| e.to_string())? {
            found.push(end);
        }
        Ok(found)
    }

    #[test]
    fn a_quote_that_nothing_closes_is_an_error_with_its_place() {
        for (text, place) in [
            ("city,price\na,1\nb,\"2\nc,3\nd,4\n", 17),
            ("a,\"b\n1,2\n", 2),
            ("a\n\"x\"\"", 2),
            ("\u{feff}\"a", 3),
            ("a\n\"x\"\n\"", 6),
        ] {
            let error = ends(text, b',').unwrap_err();
            assert!(
                error.contains(&format!("t.csv: the quote at byte {place} is never closed")),
                "{text:?}: {error}"
            );
        }
        let long = format!("a\n\"{}", "x".repeat(3 * WINDOW));
        assert!(ends(&long, b',').unwrap_err().contains("at byte 2 "));
    }

    #[test]
    fn what_is_closed_or_no_quote_is_read_to_the_end() {
        for (text, found) in [
            ("a\n\"2\"", &[2, 5][..]),
            ("a\n\"2\"\"\"", &[2, 7]),
            ("a\n5\" wide\n6\"\n", &[2, 10, 13]),
            ("a\r\n\"x\ny\"\r\n\r\n", &[3, 10]),
            ("\u{feff}\"a\"\n1\n", &[7, 9]),
            ("a\n\"1\"2\"\n", &[2, 8]),
            ("", &[]),
        ] {
            assert_eq!(ends(text, b',').unwrap(), found, "{text:?}");
        }
        assert_eq!(ends("a;b\n\"1;\";\"2\"\n", b';').unwrap(), [4, 13]);
    }

    fn records(text: &str) -> Vec<csv::ByteRecord> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        reader.byte_records().map(Result::unwrap).collect()
    }

    /// Whoever knows only the csv crate sees an open quote by a record behind it that is not read as one.
    #[test]
    fn records_and_open_quotes_are_those_of_the_csv_crate() {
        let mut random = fastrand::Rng::with_seed(11);
        let words = ["a", "\"", "\"\"", ",", "\n", "\r\n", "\r", ",\"", "\",", "é", " "];
        let mut open = 0;
        for round in 0..3000 {
            let text: String = (0..random.usize(0..14))
                .map(|_| words[random.usize(0..words.len())])
                .collect();
            let more = records(&format!("{text}\nZ,Z\n"));
            let closed =
                more.last() == Some(&csv::ByteRecord::from(vec!["Z", "Z"])) && more.len() > records(&text).len();
            match ends(&text, b',') {
                Ok(found) => {
                    assert!(closed, "round {round}: {text:?}");
                    assert_eq!(found.len(), records(&text).len(), "round {round}: {text:?}");
                }
                Err(_) => {
                    open += 1;
                    assert!(!closed, "round {round}: {text:?}");
                }
            }
        }
        assert!(open > 100, "{open}");
    }

    #[test]
    fn columns_of_one_name_are_found() {
        assert_eq!(twice("a,b,a", b','), Some("a".to_owned()));
        assert_eq!(twice("\"x,y\";b;\"x,y\"", b';'), Some("x,y".to_owned()));
        for single in ["a,A,b", "a,,", ""] {
            assert_eq!(twice(single, b','), None, "{single}");
        }
    }
}
