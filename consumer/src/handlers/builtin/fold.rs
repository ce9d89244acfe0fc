//! Counting and digesting a stream of bytes.
//!
//! Invariant: where one chunk ends and the next begins makes no difference.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::super::result;
use crate::config::Function;

/// One pass over some bytes.
#[derive(Debug)]
pub(super) enum Fold {
    /// Runs of anything but ASCII white space.
    Words { count: u64, inside: bool },
    /// Newlines.
    Lines(u64),
    /// SHA-256.
    Digest(Sha256),
}

impl Fold {
    /// The pass for `function`; `None` for one that reads no text.
    pub(super) fn new(function: Function) -> Option<Self> {
        match function {
            Function::WordCount => Some(Self::Words {
                count: 0,
                inside: false,
            }),
            Function::LineCount => Some(Self::Lines(0)),
            Function::Sha256 => Some(Self::Digest(Sha256::new())),
            Function::Echo | Function::Sleep | Function::Noop | Function::Fail => None,
        }
    }

    /// Takes the next bytes.
    pub(super) fn eat(&mut self, bytes: &[u8]) {
        match self {
            Self::Words { count, inside } => {
                for byte in bytes {
                    let word = !byte.is_ascii_whitespace();
                    *count += u64::from(word && !*inside);
                    *inside = word;
                }
            }
            Self::Lines(count) => {
                *count += bytes.iter().filter(|byte| **byte == b'\n').count() as u64
            }
            Self::Digest(digest) => digest.update(bytes),
        }
    }

    /// The result of the task.
    pub(super) fn finish(self) -> Bytes {
        match self {
            Self::Words { count, .. } | Self::Lines(count) => count.to_string().into(),
            Self::Digest(digest) => {
                let hex: String = digest
                    .finalize()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                result::json_string(&hex)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_make_no_difference() {
        let text = "one  two\n three\tfour é\nfive".as_bytes();
        for (function, expected) in [(Function::WordCount, "6"), (Function::LineCount, "2")] {
            for size in [1, 2, 3, 100] {
                let mut fold = Fold::new(function).unwrap();
                text.chunks(size).for_each(|chunk| fold.eat(chunk));
                assert_eq!(fold.finish(), expected, "{function:?} by {size}");
            }
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        let mut fold = Fold::new(Function::Sha256).unwrap();
        fold.eat(b"abc");
        let expected = "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
        assert_eq!(fold.finish(), expected);
    }
}
