//! What a consumer may read for jobs: folders, and prefixes of object stores.
//!
//! Invariant: nothing is read that lies below none of the places of the configuration, whatever a
//! chunk says.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use crate::beneath::open_beneath;
use crate::config::Place;
use crate::handler::{BoxFuture, Failure};

/// Reads a range of an object.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// The bytes in `range` of `url`, whose size and ETag must be these: else a failure for good. One that
    /// is not there is worth a retry.
    fn fetch(&self, url: String, range: Range<u64>, size: u64, etag: String) -> BoxFuture<Result<Bytes, Failure>>;
}

/// Places to read from.
#[derive(Clone, Default)]
pub(crate) struct Places {
    places: Arc<[Place]>,
    store: Option<Arc<dyn Fetch>>,
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places.iter()).finish()
    }
}

impl Places {
    /// `store` is the way to objects; without one they are refused.
    pub(crate) fn new(places: &[Place], store: Option<Arc<dyn Fetch>>) -> Self {
        Self {
            places: places.into(),
            store,
        }
    }

    /// Opens a file below one of the folders.
    pub(super) fn open(&self, path: &Path) -> Result<File, Failure> {
        for place in self.places.iter() {
            let Place::Folder(folder) = place else { continue };
            let Ok(relative) = path.strip_prefix(folder) else {
                continue;
            };
            match open_beneath(folder, relative) {
                Ok(file) if file.metadata()?.is_file() => return Ok(file),
                Ok(_) => return Err(Failure::fatal(format!("{} is no regular file", path.display()))),
                // A link or `..` leads out of this folder; another may hold it all the same.
                Err(Errno::XDEV | Errno::LOOP) => {}
                // Worth a retry: it may be there for another consumer, or again soon.
                Err(errno) => {
                    let error = io::Error::from(errno);
                    return Err(Failure::retry(format!("cannot open {}: {error}", path.display())));
                }
            }
        }
        Err(outside(&path.display().to_string()))
    }

    /// The way to an object below one of the prefixes.
    pub(super) fn store(&self, url: &str) -> Result<&Arc<dyn Fetch>, Failure> {
        let below = |place: &Place| match place {
            Place::Store(prefix) => {
                let rest = url.strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/'))
            }
            Place::Folder(_) => false,
        };
        // Keys are taken literally by the store, but not by everything on the way to it.
        let plain = url.split('/').all(|part| part != ".." && part != ".");
        if !plain || !self.places.iter().any(below) {
            return Err(outside(url));
        }
        self.store
            .as_ref()
            .ok_or_else(|| Failure::fatal(format!("{url}: this consumer was built without object stores")))
    }
}

fn outside(what: &str) -> Failure {
    // Another consumer's configuration may list it.
    Failure::elsewhere(format!(
        "{what} is not below the places that this consumer may read for jobs (`read` in [jobs], or --jobs-read)"
    ))
}
