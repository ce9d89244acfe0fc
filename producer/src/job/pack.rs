//! Chunks: items and pieces of files, packed until there are enough for one task.
//!
//! Invariant: each description is a payload (at most 1 MiB); order is kept; small files share a chunk. Lazy: a chunk is made
//! when it is asked for, so a job of any size needs the memory of one. The same input makes the same chunks again.

use std::ops::Range;

use bytes::Bytes;
use workyard_shared::job::{Chunk, Csv, Slice};
use workyard_shared::limits::MAX_PAYLOAD_BYTES;

use super::cut::Cutter;
use super::files::FileFormat;
use super::size::MAX_READ;
use super::source::Source;
use super::spool::SpoolItems;
use crate::error::Error;

const HEAD: &[u8] = br#"{"items":["#;
const TAIL: &[u8] = b"]}";
/// What stands around the items of a chunk.
pub(crate) const ITEMS_AROUND: usize = HEAD.len() + TAIL.len();
/// Most pieces of files in a chunk.
const MAX_SLICES: usize = 1000;
/// Most bytes of the description of pieces, about.
const MAX_SLICES_BYTES: usize = MAX_PAYLOAD_BYTES / 2;

/// The chunks of a job, one after the other.
pub(crate) type Chunks = Box<dyn Iterator<Item = Result<Bytes, Error>> + Send>;

/// Chunks of `size` items, fewer where they are large.
#[derive(Debug)]
pub(crate) struct ItemChunks {
    items: SpoolItems,
    size: u64,
    /// Most bytes of a chunk.
    most: usize,
    kept: Option<Vec<u8>>,
}

impl ItemChunks {
    pub(crate) fn new(items: SpoolItems, size: u64, most: usize) -> Self {
        Self {
            items,
            size: size.max(1),
            most,
            kept: None,
        }
    }

    fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let mut chunk = HEAD.to_vec();
        let mut taken = 0;
        while taken < self.size {
            let Some(item) = self.kept.take().map(Ok).or_else(|| self.items.next()) else {
                break;
            };
            let item = item?;
            // The spool has seen to it that one item always fits.
            if taken > 0 && chunk.len() + 1 + item.len() + TAIL.len() > self.most {
                self.kept = Some(item);
                break;
            }
            if taken > 0 {
                chunk.push(b',');
            }
            chunk.extend_from_slice(&item);
            taken += 1;
        }
        chunk.extend_from_slice(TAIL);
        Ok((taken > 0).then(|| chunk.into()))
    }
}

impl Iterator for ItemChunks {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunk().transpose()
    }
}

/// Calls `take` with each chunk of these files, of about `size` bytes, but never more than a consumer reads.
pub(crate) fn file_chunks(
    sources: &[Source],
    format: FileFormat,
    size: u64,
    take: &mut dyn FnMut(Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    // So that the record at the end of a piece fits, too.
    let size = size.min(MAX_READ / 2);
    let mut pack = Pack {
        format,
        header: String::new(),
        slices: Vec::new(),
        bytes: 0,
        length: 0,
        take,
    };
    for source in sources {
        let mut cutter = match format {
            FileFormat::Lines => Cutter::lines(source)?,
            FileFormat::JsonLines => Cutter::json_lines(source)?,
            FileFormat::Files => Cutter::whole(source),
            FileFormat::Csv { delimiter } => {
                let (cutter, header) = Cutter::csv(source, u8::try_from(delimiter).unwrap_or(b','))?;
                pack.header(header)?;
                cutter
            }
        };
        loop {
            let room = size.saturating_sub(pack.bytes);
            // A file that ends soon behind the cut goes whole: no chunk for a tail.
            let wanted = if cutter.left() <= room + size / 4 {
                cutter.left()
            } else {
                room
            };
            let Some(piece) = cutter.next(wanted)? else {
                break;
            };
            pack.add(source, piece)?;
            if pack.bytes >= size || pack.length >= MAX_SLICES_BYTES || pack.slices.len() >= MAX_SLICES {
                pack.send()?;
            }
        }
    }
    pack.send()
}

struct Pack<'a> {
    format: FileFormat,
    header: String,
    slices: Vec<Slice>,
    /// Of the input.
    bytes: u64,
    /// Of the description, about.
    length: usize,
    take: &'a mut dyn FnMut(Bytes) -> Result<(), Error>,
}

impl Pack<'_> {
    /// Files with other fields do not share a chunk.
    fn header(&mut self, header: String) -> Result<(), Error> {
        if header == self.header {
            return Ok(());
        }
        self.send()?;
        self.header = header;
        Ok(())
    }

    fn add(&mut self, source: &Source, piece: Range<u64>) -> Result<(), Error> {
        let bytes = piece.end - piece.start;
        if bytes > MAX_READ {
            let what = "a file or record that cannot be cut; at most 256 MiB are read for one task";
            return Err(Error::invalid(format!("{}: {bytes} bytes are {what}", source.url)));
        }
        if self.bytes + bytes > MAX_READ {
            self.send()?;
        }
        let slice = Slice {
            url: source.url.clone(),
            start: piece.start,
            end: piece.end,
            size: source.size,
            version: source.version.clone(),
        };
        self.bytes += slice.bytes();
        self.length += slice.url.len() + slice.version.len() + 80;
        self.slices.push(slice);
        Ok(())
    }

    fn send(&mut self) -> Result<(), Error> {
        let slices = std::mem::take(&mut self.slices);
        (self.bytes, self.length) = (0, 0);
        if slices.is_empty() {
            return Ok(());
        }
        let chunk = match self.format {
            FileFormat::Lines => Chunk::Lines(slices),
            FileFormat::JsonLines => Chunk::JsonLines(slices),
            FileFormat::Files => Chunk::Files(slices),
            FileFormat::Csv { delimiter } => Chunk::Csv(Csv {
                header: self.header.clone(),
                delimiter,
                slices,
            }),
        };
        let json = serde_json::to_vec(&chunk).map_err(|e| Error::invalid(format!("a chunk that is no JSON: {e}")))?;
        if json.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::invalid(
                "the description of a chunk exceeds 1 MiB: is the header so long?",
            ));
        }
        (self.take)(json.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::source::tests::{written, written_already};
    use crate::job::spool::{MAX_ITEM, Spool};

    fn packed(sources: &[Source], format: FileFormat, size: u64) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        file_chunks(sources, format, size, &mut |json| {
            chunks.push(serde_json::from_slice(&json).unwrap());
            Ok(())
        })
        .unwrap();
        chunks
    }

    fn slices(chunk: &Chunk) -> &[Slice] {
        match chunk {
            Chunk::Lines(slices) | Chunk::JsonLines(slices) | Chunk::Files(slices) => slices,
            Chunk::Csv(csv) => &csv.slices,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn items_fill_chunks_by_number_and_by_bytes() {
        let mut spool = Spool::new(MAX_PAYLOAD_BYTES).unwrap();
        for n in 0..5 {
            spool.push(n.to_string().as_bytes(), String::new).unwrap();
        }
        spool.push(&vec![b'1'; MAX_ITEM], String::new).unwrap();
        spool.push(b"6", String::new).unwrap();
        let chunks: Vec<Bytes> = ItemChunks::new(spool.done().unwrap().read().unwrap(), 3, MAX_PAYLOAD_BYTES)
            .map(Result::unwrap)
            .collect();
        assert_eq!(&chunks[0][..], br#"{"items":[0,1,2]}"#);
        assert_eq!(&chunks[1][..], br#"{"items":[3,4]}"#);
        assert_eq!(chunks[2].len(), MAX_PAYLOAD_BYTES);
        assert_eq!(&chunks[3][..], br#"{"items":[6]}"#);
    }

    #[test]
    fn many_small_files_share_chunks_and_a_large_one_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources: Vec<Source> = (0..2500)
            .map(|n| written(dir.path(), &format!("{n:04}"), b"a line\n"))
            .collect();
        sources.push(written(dir.path(), "large", "0123456789\n".repeat(5000).as_bytes()));
        sources.push(written(dir.path(), "none", b""));
        let chunks = packed(&sources, FileFormat::Lines, 8 << 10);
        let counts: Vec<usize> = chunks.iter().map(|c| slices(c).len()).collect();
        assert_eq!(&counts[..3], &[1000, 1000, 501]);
        assert!(counts.len() > 8 && counts[3..].iter().all(|n| *n == 1), "{counts:?}");
        let all: Vec<&Slice> = chunks.iter().flat_map(slices).collect();
        assert_eq!(all.iter().map(|s| s.bytes()).sum::<u64>(), 2500 * 7 + 55_000);
        for pair in all.windows(2).filter(|pair| pair[0].url == pair[1].url) {
            assert_eq!(pair[0].end, pair[1].start);
        }
        // An empty file is no lines, but one whole file.
        assert_eq!(
            slices(packed(&sources, FileFormat::Files, 1 << 20).last().unwrap())
                .last()
                .unwrap()
                .end,
            0
        );
    }

    #[test]
    fn what_no_consumer_would_read_is_refused_and_large_chunks_are_made_smaller() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = |name: &str, size: u64| {
            let path = dir.path().join(name);
            std::fs::File::create(&path).unwrap().set_len(size).unwrap();
            written_already(&path)
        };
        let whole = [sparse("a", MAX_READ), sparse("b", MAX_READ)];
        assert_eq!(packed(&whole, FileFormat::Files, u64::MAX).len(), 2);
        let larger = [sparse("c", MAX_READ + 1)];
        let refused = file_chunks(&larger, FileFormat::Files, 1, &mut |_| Ok(()));
        assert!(refused.unwrap_err().to_string().contains("cannot be cut"));
    }

    #[test]
    fn csv_files_of_other_headers_do_not_share_a_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let sources = [
            written(dir.path(), "1", b"a,b\n1,2\n"),
            written(dir.path(), "2", b"a,b\r\n3,4\r\n"),
            written(dir.path(), "3", b"c\n5\n"),
        ];
        let chunks = packed(&sources, FileFormat::Csv { delimiter: ',' }, 1 << 20);
        let headers: Vec<&str> = chunks
            .iter()
            .map(|chunk| match chunk {
                Chunk::Csv(csv) => csv.header.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(headers, ["a,b", "c"]);
        assert_eq!((slices(&chunks[0])[0].start, slices(&chunks[0])[1].start), (4, 5));
    }
}
