//! One stored output of a task: JSON lines inline, or where they were spilled to.
//!
//! Invariant: the first byte tells which; inline bytes are whole lines.

use bytes::Bytes;

use crate::error::Error;

/// Which output of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputName {
    /// Intermediate data, by its name in the job's `data`: `<level or partition>.<number>`.
    Data(String),
    /// A part of the result.
    Result(u32),
}

/// An output as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// JSON lines, each ended by a line feed.
    Inline(Bytes),
    /// Elsewhere.
    Spilled {
        /// How many bytes there are.
        bytes: u64,
        /// Path below the job's spill place.
        path: String,
    },
}

impl Part {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Inline(lines) => {
                let mut stored = Vec::with_capacity(lines.len() + 1);
                stored.push(b'i');
                stored.extend_from_slice(lines);
                stored
            }
            Self::Spilled { bytes, path } => format!("s{bytes} {path}").into_bytes(),
        }
    }

    /// Reads the stored form. A path that could leave its place is refused.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is none.
    pub fn decode(stored: &Bytes) -> Result<Self, Error> {
        let wrong = || Error::Protocol("a part that is neither inline nor spilled".to_owned());
        match stored.first() {
            Some(b'i') => Ok(Self::Inline(stored.slice(1..))),
            Some(b's') => {
                let text = std::str::from_utf8(&stored[1..]).map_err(|_| wrong())?;
                let (bytes, path) = text.split_once(' ').ok_or_else(wrong)?;
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
                let safe = path.bytes().all(allowed)
                    && path
                        .split('/')
                        .all(|step| !step.is_empty() && step != "." && step != "..");
                if !safe {
                    return Err(wrong());
                }
                Ok(Self::Spilled {
                    bytes: bytes.parse().map_err(|_| wrong())?,
                    path: path.to_owned(),
                })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        for part in [
            Part::Inline(Bytes::from_static(b"[1,2]\n\"x\"\n")),
            Part::Inline(Bytes::new()),
            Part::Spilled {
                bytes: 12,
                path: "workyard.q.job-1/data/0.3-77".to_owned(),
            },
        ] {
            assert_eq!(Part::decode(&part.encode().into()).unwrap(), part);
        }
        for bad in [
            "",
            "x",
            "s12",
            "sx path",
            "s1 /etc/passwd",
            "s1 a/../../b",
            "s1 a//b",
            "s1 a b",
            "s1 ",
        ] {
            assert!(Part::decode(&Bytes::copy_from_slice(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
