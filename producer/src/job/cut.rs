//! Cuts of a file at the ends of its records.
//!
//! Invariant: the pieces of a file, one behind the other, are the file (of CSV: what follows its header; of JSON lines: what follows a byte order mark), and none begins
//! or ends inside a record. Of text only a little around each cut is read; CSV is read whole, because a quoted field may
//! hold line ends.

use std::ops::Range;

use super::csv_ends::{self, CsvEnds};
use super::source::{Reader, Source};
use crate::error::Error;

/// Bytes of one read around a cut.
const WINDOW: usize = 1 << 16;
/// What some programs write before text that is UTF-8. It belongs to no header and is no JSON; in plain text it stays.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// The pieces of one file: each as long as the caller asks for, or a little longer.
#[derive(Debug)]
pub(crate) enum Cutter<'a> {
    /// A line feed ends a record.
    Lines { reader: Reader<'a>, at: u64, end: u64 },
    /// A record may go over line ends.
    Csv { ends: CsvEnds<'a>, at: u64, end: u64 },
    /// Not to be cut.
    Whole { end: u64, done: bool },
}

impl<'a> Cutter<'a> {
    pub(crate) fn lines(source: &'a Source) -> Result<Self, Error> {
        Ok(Self::Lines {
            reader: source.open()?,
            at: 0,
            end: source.size,
        })
    }

    /// As [`Self::lines`], behind a byte order mark.
    pub(crate) fn json_lines(source: &'a Source) -> Result<Self, Error> {
        let reader = source.open()?;
        let marked = reader.read_at(0, MARK.len())? == MARK;
        Ok(Self::Lines {
            reader,
            at: if marked { MARK.len() as u64 } else { 0 },
            end: source.size,
        })
    }

    pub(crate) fn whole(source: &Source) -> Self {
        Self::Whole {
            end: source.size,
            done: false,
        }
    }

    /// The cutter of the records behind the header, and the header.
    pub(crate) fn csv(source: &'a Source, delimiter: u8) -> Result<(Self, String), Error> {
        let mut ends = CsvEnds::new(source, delimiter)?;
        let wrong = |reason: &str| Error::invalid(format!("{}: {reason}", source.path()));
        let at = ends.next()?.unwrap_or(source.size);
        let head = source.open()?.read_at(0, usize::try_from(at).unwrap_or(usize::MAX))?;
        let head = head.strip_prefix(MARK).unwrap_or(&head);
        let head = std::str::from_utf8(head).map_err(|_| wrong("the header must be UTF-8"))?;
        let head = head.trim_matches(['\r', '\n']).to_owned();
        if let Some(name) = csv_ends::twice(&head, delimiter) {
            return Err(wrong(&format!(
                "two columns of the header are named {name:?}; a record has one field of a name"
            )));
        }
        let end = source.size;
        Ok((Self::Csv { ends, at, end }, head))
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        match self {
            Self::Lines { at, end, .. } | Self::Csv { at, end, .. } => end - at,
            Self::Whole { done: true, .. } => 0,
            Self::Whole { end, done: false } => *end,
        }
    }

    /// The next piece: to the first end of a record at or behind `size` bytes. `None`: that was all.
    pub(crate) fn next(&mut self, size: u64) -> Result<Option<Range<u64>>, Error> {
        if matches!(self, Self::Lines { at, end, .. } | Self::Csv { at, end, .. } if *at >= *end) {
            return Ok(None);
        }
        match self {
            Self::Whole { end, done } => Ok((!std::mem::replace(done, true)).then_some(0..*end)),
            Self::Lines { reader, at, end } => {
                let from = *at;
                *at = match from.saturating_add(size.max(1)) {
                    cut if cut >= *end => *end,
                    cut => line_end(reader, cut - 1, *end)?,
                };
                Ok(Some(from..*at))
            }
            Self::Csv { ends, at, end } => {
                let from = *at;
                let cut = from.saturating_add(size.max(1));
                *at = loop {
                    match ends.next()? {
                        None => break *end,
                        Some(behind) if behind >= cut => break behind,
                        Some(_) => {}
                    }
                };
                Ok(Some(from..*at))
            }
        }
    }
}

/// Behind the first line feed at or behind `from`.
fn line_end(reader: &Reader<'_>, from: u64, end: u64) -> Result<u64, Error> {
    let mut at = from;
    while at < end {
        let window = reader.read_at(at, WINDOW)?;
        if let Some(found) = window.iter().position(|&b| b == b'\n') {
            return Ok(at + found as u64 + 1);
        }
        at += window.len() as u64;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::source::tests::written;

    fn pieces(mut cutter: Cutter<'_>, size: u64) -> Vec<Range<u64>> {
        let mut pieces = Vec::new();
        while let Some(piece) = cutter.next(size).unwrap() {
            pieces.push(piece);
        }
        assert_eq!(cutter.left(), 0);
        pieces
    }

    fn random_text(random: &mut fastrand::Rng, words: &[&str]) -> String {
        (0..random.usize(0..60))
            .map(|_| words[random.usize(0..words.len())])
            .collect()
    }

    #[test]
    fn pieces_of_text_are_the_file_and_end_at_line_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..200 {
            let text = random_text(&mut random, &["a", "bb", "\n", "\r\n", "é", "\n\n", "long line "]);
            let source = written(dir.path(), "t", text.as_bytes());
            let size = random.u64(1..20);
            let mut at = 0;
            for piece in pieces(Cutter::lines(&source).unwrap(), size) {
                assert_eq!(piece.start, at, "round {round}");
                assert!(piece.end > piece.start);
                at = piece.end;
                assert!(
                    at == source.size || text.as_bytes()[at as usize - 1] == b'\n',
                    "round {round}: {text:?}"
                );
                // No longer than it must be: the line that reaches the size is its last.
                let inner = &text.as_bytes()[piece.start as usize..at as usize - 1];
                let full = inner.iter().position(|&b| b == b'\n').map(|_| inner.len());
                assert!(inner.len() < size as usize || full.is_none() || !inner[size as usize - 1..].contains(&b'\n'));
            }
            assert_eq!(at, source.size);
        }
    }

    #[test]
    fn json_lines_begin_behind_a_byte_order_mark() {
        let dir = tempfile::tempdir().unwrap();
        for (text, wanted) in [
            (&b"\xef\xbb\xbf1\n2\n"[..], &[3..5, 5..7][..]),
            (b"1\n2\n", &[0..2, 2..4]),
            (MARK, &[]),
            (b"\xef\xbb", std::slice::from_ref(&(0..2))),
            (b"", &[]),
        ] {
            let source = written(dir.path(), "t", text);
            assert_eq!(pieces(Cutter::json_lines(&source).unwrap(), 1), wanted, "{text:?}");
        }
    }

    #[test]
    fn one_huge_line_is_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let text = "x".repeat(3 * WINDOW + 5) + "\ny";
        let source = written(dir.path(), "t", text.as_bytes());
        let found = pieces(Cutter::lines(&source).unwrap(), 10);
        assert_eq!(
            found,
            [0..text.len() as u64 - 1, text.len() as u64 - 1..text.len() as u64]
        );
    }

    fn records(text: &[u8]) -> Vec<csv::ByteRecord> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text);
        reader.byte_records().map(Result::unwrap).collect()
    }

    #[test]
    fn pieces_of_csv_hold_whole_records_also_with_line_ends_in_quotes() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(9);
        for round in 0..200 {
            let words = ["a", ",", "\n", "\r\n", ",\"x\ny\"", ",\"q\"\"\r\n,\"\n", "é", "\n\n"];
            let text = format!("k,v\r\n{}", random_text(&mut random, &words));
            let source = written(dir.path(), "t", text.as_bytes());
            let (cutter, header) = Cutter::csv(&source, b',').unwrap();
            assert_eq!(header, "k,v");
            let mut joined = Vec::new();
            let mut at = 5;
            for piece in pieces(cutter, random.u64(1..20)) {
                assert_eq!(piece.start, at, "round {round}");
                at = piece.end;
                joined.extend(records(&text.as_bytes()[piece.start as usize..piece.end as usize]));
            }
            assert_eq!(at, source.size, "round {round}: {text:?}");
            assert_eq!(joined, records(text.as_bytes())[1..], "round {round}: {text:?}");
        }
    }

    #[test]
    fn an_open_quote_is_told_whatever_the_size_of_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let source = written(dir.path(), "open.csv", b"city,price\na,1\nb,\"2\nc,3\nd,4\n");
        for size in 1..40 {
            let (mut cutter, _) = Cutter::csv(&source, b',').unwrap();
            let error = loop {
                match cutter.next(size) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("read to the end with pieces of {size}"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains("open.csv: the quote at byte 17"), "{error}");
        }
    }

    #[test]
    fn a_header_that_names_two_columns_alike_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = written(dir.path(), "twice.csv", b"a,b,a\n1,2,3\n");
        let error = Cutter::csv(&source, b',').unwrap_err().to_string();
        assert!(
            error.contains("twice.csv: two columns of the header are named \"a\""),
            "{error}"
        );
        let source = written(dir.path(), "none.tsv", b"a\t\t\n1\t\t\n");
        assert_eq!(Cutter::csv(&source, b'\t').unwrap().1, "a\t\t");
    }

    #[test]
    fn a_header_may_be_quoted_or_all_there_is() {
        let dir = tempfile::tempdir().unwrap();
        for (text, header, rest) in [
            ("\"a\nb\",c\n1,2\n", "\"a\nb\",c", 4),
            ("a,b", "a,b", 0),
            ("\u{feff}a\r\n", "a", 0),
            ("", "", 0),
        ] {
            let source = written(dir.path(), "t", text.as_bytes());
            let (cutter, found) = Cutter::csv(&source, b',').unwrap();
            assert_eq!((found.as_str(), cutter.left()), (header, rest), "{text:?}");
        }
    }
}
