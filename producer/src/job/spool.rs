//! Items of the caller in a temporary file: counted before anything is sent, and read as often as need be.
//!
//! Invariant: each item is one JSON value that fits into a chunk, byte for byte as it was given. Memory stays flat.
//! The file is gone when we end, however we end.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use serde_json::value::RawValue;
use workyard_shared::limits::MAX_PAYLOAD_BYTES;

use super::pack::ITEMS_AROUND;
use crate::error::Error;

/// Most bytes of one item: its chunk must be a payload.
pub(crate) const MAX_ITEM: usize = MAX_PAYLOAD_BYTES - ITEMS_AROUND;

/// Takes items; see [`Spool::done`].
#[derive(Debug)]
pub(crate) struct Spool {
    file: BufWriter<File>,
    items: u64,
    most_of_chunk: usize,
}

impl Spool {
    /// For chunks of at most so many bytes: of a payload, or of what can be sealed.
    pub(crate) fn new(most_of_chunk: usize) -> Result<Self, Error> {
        let file = tempfile::tempfile().map_err(|e| cannot(&e))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 16, file),
            items: 0,
            most_of_chunk,
        })
    }

    /// Adds an item; `place` names it in an error: `line 3`, `item 7`.
    pub(crate) fn push(&mut self, json: &[u8], place: impl FnOnce() -> String) -> Result<(), Error> {
        let json = json.trim_ascii();
        let most = self.most_of_chunk - ITEMS_AROUND;
        if json.len() > most {
            return Err(Error::invalid(format!("{} has more than {most} bytes", place())));
        }
        let raw: Result<&RawValue, _> = serde_json::from_slice(json);
        if let Err(error) = raw {
            // The parser's own line and column are those of the item.
            let text = error.to_string();
            let reason = text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
            return Err(Error::invalid(format!("{} is not JSON: {reason}", place())));
        }
        // Below 1 MiB, so it fits.
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes();
        self.file
            .write_all(&length)
            .and_then(|()| self.file.write_all(json))
            .map_err(|e| cannot(&e))?;
        self.items += 1;
        Ok(())
    }

    /// All items are there.
    pub(crate) fn done(self) -> Result<Spooled, Error> {
        let file = self.file.into_inner().map_err(|e| cannot(e.error()))?;
        Ok(Spooled {
            file,
            items: self.items,
            most_of_chunk: self.most_of_chunk,
        })
    }
}

/// Items that wait to be sent.
#[derive(Debug)]
pub(crate) struct Spooled {
    file: File,
    pub(crate) items: u64,
    pub(crate) most_of_chunk: usize,
}

impl Spooled {
    /// Reads them from the first on. One reader at a time.
    pub(crate) fn read(&self) -> Result<SpoolItems, Error> {
        let mut file = self.file.try_clone().map_err(|e| cannot(&e))?;
        file.rewind().map_err(|e| cannot(&e))?;
        Ok(SpoolItems {
            file: BufReader::with_capacity(1 << 16, file),
            left: self.items,
        })
    }
}

/// The items of a spool, in order.
#[derive(Debug)]
pub(crate) struct SpoolItems {
    file: BufReader<File>,
    left: u64,
}

impl SpoolItems {
    fn item(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let mut json = vec![0; u32::from_le_bytes(length) as usize];
        self.file.read_exact(&mut json)?;
        Ok(json)
    }
}

impl Iterator for SpoolItems {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.item().map_err(|e| cannot(&e)))
    }
}

fn cannot(error: &io::Error) -> Error {
    Error::invalid(format!("the temporary file for the items cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_byte_for_byte_as_often_as_need_be() {
        let mut spool = Spool::new(MAX_PAYLOAD_BYTES).unwrap();
        for json in ["1e400", " {\"a\" :\n1} ", "\"é\""] {
            spool.push(json.as_bytes(), String::new).unwrap();
        }
        let spooled = spool.done().unwrap();
        for _ in 0..2 {
            let items: Vec<_> = spooled
                .read()
                .unwrap()
                .map(|i| String::from_utf8(i.unwrap()).unwrap())
                .collect();
            assert_eq!(items, ["1e400", "{\"a\" :\n1}", "\"é\""]);
        }
    }

    #[test]
    fn an_item_that_is_no_json_or_too_long_is_refused_by_its_place() {
        let mut spool = Spool::new(MAX_PAYLOAD_BYTES).unwrap();
        for bad in [&b"x"[..], b"", b"1 2", b"\"\xff\"", &vec![b'1'; MAX_ITEM + 1]] {
            let error = spool.push(bad, || "line 7".to_owned()).unwrap_err().to_string();
            assert!(error.contains("line 7"), "{error}");
        }
        spool.push(&vec![b'1'; MAX_ITEM], String::new).unwrap();
    }
}
