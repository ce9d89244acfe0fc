//! The input of a job: as the caller gives it, and ready to become chunks.
//!
//! Invariant: all that can be wrong with it is told while it is prepared, before anything is sent; what is ready makes the
//! same chunks as often as need be.

use std::fmt;
use std::fs::File;

use tokio::runtime::Handle;
use workyard_shared::job::MAX_CHUNKS;

use super::files::{self, FileFormat};
use super::pack::{Chunks, ItemChunks};
use super::scan::{self, ItemFormat};
use super::size;
use super::source::{self, Source};
use super::spool::{Spool, Spooled};
use crate::error::Error;

type Fill = Box<dyn FnOnce(&mut Spool) -> Result<(), Error> + Send>;

/// What a caller gives.
pub(crate) enum Input {
    /// Values.
    Items(Fill),
    /// Values in a file, or in a stream that is in a file by now.
    ItemFile(File, ItemFormat),
    /// Patterns of files, and what is in them if the caller says so.
    Files(Vec<String>, Option<FileFormat>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Items(_) => "Items",
            Self::ItemFile(..) => "ItemFile",
            Self::Files(..) => "Files",
        })
    }
}

/// What chunks are made of.
#[derive(Debug)]
pub(crate) enum Ready {
    Items(Spooled),
    Files(Vec<Source>, FileFormat),
}

impl Input {
    /// For people, in the job's record.
    pub(crate) fn words(&self) -> Option<String> {
        match self {
            Self::Files(patterns, _) => {
                let words = patterns.join(" ");
                Some(words.chars().take(1000).collect())
            }
            Self::Items(_) | Self::ItemFile(..) => None,
        }
    }

    /// Finds the files, or counts and checks the items, for chunks of at most so many bytes.
    pub(crate) async fn prepare(self, most_of_chunk: usize) -> Result<Ready, Error> {
        let runtime = Handle::current();
        let prepared = tokio::task::spawn_blocking(move || match self {
            Self::Items(fill) => {
                let mut spool = Spool::new(most_of_chunk)?;
                fill(&mut spool)?;
                spool.done().map(Ready::Items)
            }
            Self::ItemFile(file, format) => scan::spool(file, format, most_of_chunk).map(Ready::Items),
            Self::Files(patterns, format) => {
                let sources = source::find(&patterns, &runtime)?;
                let format = format.map_or_else(|| FileFormat::guess(&sources), Ok)?;
                Ok(Ready::Files(sources, format))
            }
        });
        prepared
            .await
            .map_err(|e| Error::invalid(format!("the input cannot be read: {e}")))?
    }
}

impl Ready {
    /// Items or bytes of a chunk, if consumers have so many slots.
    pub(crate) fn chunk_size(&self, slots: u64) -> u64 {
        match self {
            Self::Items(items) => size::of_items(items.items, slots),
            Self::Files(sources, _) => size::of_bytes(sources.iter().map(|source| source.size).sum(), slots),
        }
    }

    /// Refuses a size of chunks that makes too many.
    pub(crate) fn check_size(&self, size: u64) -> Result<(), Error> {
        let whole: u64 = match self {
            Self::Items(items) => items.items,
            Self::Files(_, FileFormat::Files) => 0,
            Self::Files(sources, _) => sources.iter().map(|source| source.size).sum(),
        };
        match whole.div_ceil(size.max(1)) {
            chunks if chunks > MAX_CHUNKS => Err(Error::invalid(format!(
                "{chunks} chunks are more than {MAX_CHUNKS}; make them larger"
            ))),
            _ => Ok(()),
        }
    }

    /// The chunks from the first on.
    pub(crate) fn chunks(&self, size: u64) -> Result<Chunks, Error> {
        match self {
            Self::Items(items) => Ok(Box::new(ItemChunks::new(items.read()?, size, items.most_of_chunk))),
            Self::Files(sources, format) => Ok(files::chunks(sources.clone(), *format, size, &Handle::current())),
        }
    }
}
