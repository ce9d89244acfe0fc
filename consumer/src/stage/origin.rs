//! Where the items of a chunk come from, for messages.
//!
//! Invariant: it costs nothing until something is wrong. The line of an item is told where the chunk begins with its
//! file; further on only the byte, since nobody has counted the lines before.

use workyard_shared::job::Slice;

use crate::handler::Failure;

/// The pieces of files that a chunk was read from; none for values of the caller.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    /// Its first byte in the text of the chunk, or the number of the file.
    at: usize,
    name: String,
    /// Its first byte in the file; `None` for an item that is a whole file.
    start: Option<u64>,
}

impl Origin {
    /// What follows at `at` comes from this slice.
    pub(super) fn add(&mut self, at: usize, slice: &Slice) {
        self.pieces.push(Piece::of(at, slice, Some(slice.start)));
    }

    /// Item `at` is this whole file.
    pub(super) fn add_file(&mut self, at: usize, slice: &Slice) {
        self.pieces.push(Piece::of(at, slice, None));
    }

    /// The failure of what stands at `at` of `text`, with its file and its place there.
    pub(super) fn place(&self, failure: Failure, text: &[u8], at: usize) -> Failure {
        let behind = self.pieces.partition_point(|piece| piece.at <= at);
        let Some(piece) = behind.checked_sub(1).and_then(|n| self.pieces.get(n)) else {
            return failure;
        };
        let place = match piece.start {
            None => String::new(),
            Some(0) => {
                let before = text.get(piece.at..at).unwrap_or_default();
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                format!(", line {line}")
            }
            Some(start) => format!(", byte {}", start + (at - piece.at) as u64),
        };
        Failure {
            message: format!("{} ({}{place})", failure.message, piece.name),
            ..failure
        }
    }
}

impl Piece {
    fn of(at: usize, slice: &Slice, start: Option<u64>) -> Self {
        let name = slice.url.strip_prefix("file://").unwrap_or(&slice.url).to_owned();
        Self { at, name, start }
    }
}
