//! Cuts of a file at the ends of its records.
//!
//! Invariant: the pieces of a file, one behind the other, are the file (of CSV: what follows its header; of JSON lines: what follows a byte order mark), and none begins
//! or ends inside a record. Of text only a little around each cut is read; CSV is read whole, because a quoted field may
//! hold line ends.

use std::ops::Range;

use super::source::{Reader, Source};
use crate::error::Error;

/// Bytes of one read around a cut.
const WINDOW: usize = 1 << 16;
/// What some programs write before text that is UTF-8. It belongs to no header and is no JSON; in plain text it stays.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The pieces of one file: each as long as the caller asks for, or a little longer.
#[derive(Debug)]
pub(crate) enum Cutter<'a> {
    /// A line feed ends a record.
    Lines { reader: Reader<'a>, at: u64, end: u64 },
    /// The csv crate tells where a record ends.
    Csv {
        reader: Box<csv::Reader<Reader<'a>>>,
        bytes: Reader<'a>,
        at: u64,
        end: u64,
    },
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
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .buffer_capacity(1 << 18)
            .from_reader(source.open()?);
        let bytes = source.open()?;
        next_record(&mut reader, source)?;
        let at = record_end(&reader, &bytes, source.size)?;
        let head = bytes.read_at(0, usize::try_from(at).unwrap_or(usize::MAX))?;
        let head = head.strip_prefix(MARK).unwrap_or(&head);
        let head = std::str::from_utf8(head.trim_ascii_end())
            .map_err(|_| Error::invalid(format!("{}: the header must be UTF-8", source.url)))?;
        let cutter = Self::Csv {
            reader: Box::new(reader),
            bytes,
            at,
            end: source.size,
        };
        Ok((cutter, head.trim_start_matches(['\r', '\n']).to_owned()))
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
    pub(crate) fn next(&mut self, size: u64, source: &Source) -> Result<Option<Range<u64>>, Error> {
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
            Self::Csv {
                reader, bytes, at, end, ..
            } => {
                let from = *at;
                let cut = from.saturating_add(size.max(1));
                *at = loop {
                    if !next_record(reader, source)? {
                        break *end;
                    }
                    if reader.position().byte() >= cut {
                        break record_end(reader, bytes, *end)?;
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

fn next_record(reader: &mut csv::Reader<Reader<'_>>, source: &Source) -> Result<bool, Error> {
    let mut record = csv::ByteRecord::new();
    reader
        .read_byte_record(&mut record)
        .map_err(|e| Error::invalid(format!("{}: {e}", source.url)))
}

/// The place behind the record that was read last. The reader stops between the two bytes of a Windows line end.
fn record_end(reader: &csv::Reader<Reader<'_>>, bytes: &Reader<'_>, size: u64) -> Result<u64, Error> {
    let at = reader.position().byte().min(size);
    let second = at > 0 && &bytes.read_at(at - 1, 2)?[..] == b"\r\n";
    Ok(at + u64::from(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::source::tests::written;

    fn pieces(mut cutter: Cutter<'_>, source: &Source, size: u64) -> Vec<Range<u64>> {
        let mut pieces = Vec::new();
        while let Some(piece) = cutter.next(size, source).unwrap() {
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
            for piece in pieces(Cutter::lines(&source).unwrap(), &source, size) {
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
            assert_eq!(
                pieces(Cutter::json_lines(&source).unwrap(), &source, 1),
                wanted,
                "{text:?}"
            );
        }
    }

    #[test]
    fn one_huge_line_is_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let text = "x".repeat(3 * WINDOW + 5) + "\ny";
        let source = written(dir.path(), "t", text.as_bytes());
        let found = pieces(Cutter::lines(&source).unwrap(), &source, 10);
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
            for piece in pieces(cutter, &source, random.u64(1..20)) {
                assert_eq!(piece.start, at, "round {round}");
                at = piece.end;
                joined.extend(records(&text.as_bytes()[piece.start as usize..piece.end as usize]));
            }
            assert_eq!(at, source.size, "round {round}: {text:?}");
            assert_eq!(joined, records(text.as_bytes())[1..], "round {round}: {text:?}");
        }
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
