//! The stored parts of a result, line by line.
//!
//! Invariant: a line is whole, however the part is stored, and a part that has fewer or more bytes than were written is an
//! error; so is a sealed one that does not open to its last block. A spilled part is read and opened piece by piece, so that it
//! may be larger than memory; an inline one is at most 16 MiB.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use workyard_shared::Error as CallError;
use workyard_shared::crypto::job::{Blocks, JobBinding};
use workyard_shared::crypto::{KeyRing, is_sealed};
use workyard_shared::job::{OutputName, Part};
use workyard_shared::name::JobId;
use workyard_shared::store::Store;
use workyard_shared::store::Stores;

use crate::error::Error;

/// Bytes of one read of a spilled part.
const PIECE: u64 = 1 << 20;

/// The lines of one part.
#[derive(Debug)]
pub(crate) struct Lines {
    stored: Stored,
    opening: Opening,
    sealed: Option<Sealed>,
    begun: bool,
}

/// What it takes to open a part.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) keys: Option<Arc<KeyRing>>,
    pub(crate) job: JobBinding,
    pub(crate) id: JobId,
    pub(crate) part: u32,
}

#[cfg(test)]
impl Opening {
    /// Of job `j` in queue `q`.
    pub(crate) fn for_test(keys: Option<Arc<KeyRing>>) -> Self {
        use workyard_shared::job::{Form, JobSpec};
        use workyard_shared::name::{Kind, QueueName};
        let (queue, id) = (QueueName::new("q").unwrap(), JobId::new("j").unwrap());
        let kind = |name| Kind::new(name).unwrap();
        let spec = JobSpec::new(Form::fold(), kind("m"), kind("r"));
        Self {
            keys,
            job: JobBinding::new(&queue, &id, &spec),
            id,
            part: 0,
        }
    }
}

/// Of a part that is sealed, which its first line tells: its blocks, and what is opened of them.
#[derive(Debug)]
struct Sealed {
    blocks: Blocks,
    opened: Cut,
}

impl Lines {
    /// The lines of a part of a job whose spill place is this; none of a part that is not there.
    pub(crate) fn of(
        part: Option<Part>,
        spill: Option<&str>,
        stores: &Stores,
        opening: Opening,
    ) -> Result<Self, Error> {
        let (mut cut, mut rest) = (Cut::default(), None);
        match part {
            None => {}
            Some(Part::Inline(ready)) => cut.ready = ready,
            Some(Part::Spilled { bytes, path }) => {
                let place =
                    spill.ok_or_else(|| CallError::Protocol("a spilled part of a job without a place".to_owned()))?;
                rest = Some(Rest {
                    store: stores.open(place)?,
                    path,
                    at: 0,
                    end: bytes,
                });
            }
        }
        Ok(Self {
            stored: Stored { cut, rest },
            opening,
            sealed: None,
            begun: false,
        })
    }

    /// The next line, without its end; empty ones are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(line) = self.sealed.as_mut().and_then(|sealed| sealed.opened.line()) {
                return Ok(Some(line));
            }
            let line = self.stored.next().await?;
            if !std::mem::replace(&mut self.begun, true) && line.as_deref().is_some_and(is_sealed) {
                self.sealed = Some(Sealed {
                    blocks: Blocks::new(self.opening.job.clone(), OutputName::Result(self.opening.part)),
                    opened: Cut::default(),
                });
            }
            let Some(sealed) = &mut self.sealed else {
                return Ok(line);
            };
            let told = |why| Error::JobSealed {
                id: self.opening.id.to_string(),
                why,
            };
            match line {
                Some(block) => {
                    let plain = sealed.blocks.open(self.opening.keys.as_deref(), &block).map_err(told)?;
                    sealed.opened.add(&plain);
                }
                None => {
                    sealed.blocks.finish().map_err(told)?;
                    return Ok(sealed.opened.rest());
                }
            }
        }
    }
}

/// Lines as they are stored.
#[derive(Debug)]
struct Stored {
    cut: Cut,
    rest: Option<Rest>,
}

/// What of a spilled part is not read yet.
#[derive(Debug)]
struct Rest {
    store: Store,
    path: String,
    at: u64,
    end: u64,
}

impl Stored {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(line) = self.cut.line() {
                return Ok(Some(line));
            }
            if !self.more().await? {
                return Ok(self.cut.rest());
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
        self.cut.add(&piece);
        Ok(!piece.is_empty() || self.rest.is_some())
    }
}

/// Bytes that are cut into lines.
#[derive(Debug, Default)]
struct Cut {
    ready: Bytes,
    /// So many of them have no line feed.
    searched: usize,
}

impl Cut {
    /// The next line whose end is there; empty ones are passed over.
    fn line(&mut self) -> Option<Bytes> {
        loop {
            let Some(at) = self.ready[self.searched..].iter().position(|&b| b == b'\n') else {
                self.searched = self.ready.len();
                return None;
            };
            let end = self.searched + at;
            self.searched = 0;
            let mut line = self.ready.split_to(end + 1);
            line.truncate(end);
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    /// The last line, which may have no end.
    fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let line = std::mem::take(&mut self.ready);
        (!line.is_empty()).then_some(line)
    }

    fn add(&mut self, piece: &[u8]) {
        let mut joined = BytesMut::with_capacity(self.ready.len() + piece.len());
        joined.extend_from_slice(&self.ready);
        joined.extend_from_slice(piece);
        self.ready = joined.freeze();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(keys: Option<Arc<KeyRing>>) -> Opening {
        Opening::for_test(keys)
    }

    async fn all(mut lines: Lines) -> Vec<Bytes> {
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_are_whole_wherever_a_part_is() {
        let stores = Stores::default();
        let inline = Part::Inline(Bytes::from("1\n\n[2,\"\"]\n3"));
        let inline = Lines::of(Some(inline), None, &stores, opening(None)).unwrap();
        assert_eq!(all(inline).await, ["1", "[2,\"\"]", "3"]);

        let dir = tempfile::tempdir().unwrap();
        let place = format!("file://{}", dir.path().display());
        let text: String = (0..300_000).map(|n| format!("{n}{}\n", "x".repeat(n % 17))).collect();
        Store::open(&place)
            .unwrap()
            .write("j/out", Bytes::from(text.clone()))
            .await
            .unwrap();
        let part = || {
            Some(Part::Spilled {
                bytes: text.len() as u64,
                path: "j/out".to_owned(),
            })
        };
        let spilled = Lines::of(part(), Some(&place), &stores, opening(None)).unwrap();
        let expected: Vec<&str> = text.lines().collect();
        assert!(text.len() as u64 > 2 * PIECE);
        assert!(all(spilled).await == expected);
        assert!(Lines::of(part(), None, &stores, opening(None)).is_err());
    }

    #[tokio::test]
    async fn a_sealed_part_is_opened_piece_by_piece_wherever_it_is() {
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let keys = Arc::new(KeyRing::parse(&format!("encrypt k1 {key}\n")).unwrap());
        let text: String = (0..200_000)
            .map(|n| format!("[{n},\"{}\"]\n", "x".repeat(n % 17)))
            .collect();
        let sealed = keys
            .seal_output(&opening(None).job, &OutputName::Result(0), text.as_bytes())
            .unwrap();
        assert!(sealed.len() as u64 > 3 * PIECE);
        let dir = tempfile::tempdir().unwrap();
        let place = format!("file://{}", dir.path().display());
        let store = Store::open(&place).unwrap();
        store.write("j/out", Bytes::from(sealed.clone())).await.unwrap();
        let spilled = Part::Spilled {
            bytes: sealed.len() as u64,
            path: "j/out".to_owned(),
        };
        let expected: Vec<&str> = text.lines().collect();
        for part in [spilled, Part::Inline(Bytes::from(sealed.clone()))] {
            let lines = |keys| Lines::of(Some(part.clone()), Some(&place), &Stores::default(), opening(keys)).unwrap();
            assert!(all(lines(Some(Arc::clone(&keys)))).await == expected);
            let keyless = lines(None).next().await.unwrap_err().to_string();
            assert_eq!(
                keyless,
                "what is kept of job j is sealed with key k1, and no key ring was given here"
            );
        }
        // All blocks but the last: its lines are told, and then that there must be more.
        let last = sealed[..sealed.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap();
        let cut = Part::Inline(Bytes::from(sealed[..=last].to_vec()));
        let mut cut = Lines::of(Some(cut), None, &Stores::default(), opening(Some(keys))).unwrap();
        let error = loop {
            match cut.next().await {
                Ok(line) => assert!(line.is_some(), "it ended as if it were whole"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("its last block is missing"), "{error}");
    }
}
