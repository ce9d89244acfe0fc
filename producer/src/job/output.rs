//! The stored parts of a result, line by line.
//!
//! Invariant: a line is whole, however the part is stored, and a part that has fewer or more bytes than were written is an
//! error. A spilled part is read piece by piece, so that it may be larger
//! than memory; an inline one is at most 16 MiB.

use bytes::{Bytes, BytesMut};
use workyard_shared::Error as CallError;
use workyard_shared::job::Part;
use workyard_shared::store::Store;
use workyard_shared::store::Stores;

use crate::error::Error;

/// Bytes of one read of a spilled part.
const PIECE: u64 = 1 << 20;

/// The lines of one part.
#[derive(Debug)]
pub(crate) struct Lines {
    ready: Bytes,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    store: Store,
    path: String,
    at: u64,
    end: u64,
}

impl Lines {
    /// The lines of a part of a job whose spill place is this.
    pub(crate) fn of(part: Part, spill: Option<&str>, stores: &Stores) -> Result<Self, Error> {
        match part {
            Part::Inline(ready) => Ok(Self { ready, rest: None }),
            Part::Spilled { bytes, path } => {
                let place =
                    spill.ok_or_else(|| CallError::Protocol("a spilled part of a job without a place".to_owned()))?;
                Ok(Self {
                    ready: Bytes::new(),
                    rest: Some(Rest {
                        store: stores.open(place)?,
                        path,
                        at: 0,
                        end: bytes,
                    }),
                })
            }
        }
    }

    /// The next line, without its end; empty ones are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ready[searched..].iter().position(|&b| b == b'\n') {
                let mut line = self.ready.split_to(searched + at + 1);
                line.truncate(searched + at);
                searched = 0;
                match line.is_empty() {
                    true => continue,
                    false => return Ok(Some(line)),
                }
            }
            searched = self.ready.len();
            if !self.more().await? {
                let line = std::mem::take(&mut self.ready);
                return Ok((!line.is_empty()).then_some(line));
            }
        }
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> Result<bool, Error> {
        let Some(rest) = &mut self.rest else {
            return Ok(false);
        };
        // Each time: it may be cut while it is read.
        rest.store.check_whole(&rest.path, rest.end).await?;
        let end = (rest.at + PIECE).min(rest.end);
        let piece = rest.store.read_range(&rest.path, rest.at..end).await?;
        rest.at = end;
        if rest.at >= rest.end {
            self.rest = None;
        }
        let mut joined = BytesMut::with_capacity(self.ready.len() + piece.len());
        joined.extend_from_slice(&self.ready);
        joined.extend_from_slice(&piece);
        self.ready = joined.freeze();
        Ok(!piece.is_empty() || self.rest.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut lines: Lines) -> Vec<Bytes> {
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_are_whole_wherever_a_part_is() {
        let inline = Lines::of(Part::Inline(Bytes::from("1\n\n[2,\"\"]\n3")), None, &Stores::default()).unwrap();
        assert_eq!(all(inline).await, ["1", "[2,\"\"]", "3"]);

        let dir = tempfile::tempdir().unwrap();
        let place = format!("file://{}", dir.path().display());
        let text: String = (0..300_000).map(|n| format!("{n}{}\n", "x".repeat(n % 17))).collect();
        Store::open(&place)
            .unwrap()
            .write("j/out", Bytes::from(text.clone()))
            .await
            .unwrap();
        let part = || Part::Spilled {
            bytes: text.len() as u64,
            path: "j/out".to_owned(),
        };
        let spilled = Lines::of(part(), Some(&place), &Stores::default()).unwrap();
        let expected: Vec<&str> = text.lines().collect();
        assert!(text.len() as u64 > 2 * PIECE);
        assert!(all(spilled).await == expected);
        assert!(Lines::of(part(), None, &Stores::default()).is_err());
    }
}
