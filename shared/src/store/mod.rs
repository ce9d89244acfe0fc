//! Files and objects by their URL: `file:///absolute/path` and `s3://bucket/key`.
//!
//! Inputs of jobs are read through it, spilled parts are written and removed. S3 and what speaks its language is
//! found by the usual environment variables: `AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_ALLOW_HTTP`; without credentials it fails at once. Invariant: a path never leaves the place that was opened. URLs are not
//! percent-encoded: what stands behind `file://` is the path. It decides nothing about who may read what.

mod error;
#[cfg(feature = "s3")]
mod s3;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

pub use error::{SPILLED_DATA_DAMAGED, StoreError};

/// How often a folder is removed that is filled meanwhile.
const REMOVE_TRIES: u32 = 30;
/// Pause between these tries.
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

/// What a file or object is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Another one means other content: the modification time in ns of a file, the `ETag` of an object.
    pub version: String,
}

/// The places that a process uses: stores of one bucket share their connections.
#[derive(Debug, Default)]
pub struct Stores {
    settings: Vec<(String, String)>,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Stores {
    /// With settings for S3 that come before those of the environment, under the same names in lower case:
    /// `aws_endpoint`, `aws_region` and so on.
    #[must_use]
    pub fn with_settings(settings: Vec<(String, String)>) -> Self {
        Self {
            settings,
            buckets: Mutex::default(),
        }
    }

    /// Opens a place. Nothing is asked of it yet, so that it need not be there.
    ///
    /// # Errors
    /// [`StoreError::Final`] if the URL is none, or the settings for S3 are not usable.
    pub fn open(&self, place: &str) -> Result<Store, StoreError> {
        let wrong = |detail: String| StoreError::Final {
            url: place.to_owned(),
            detail,
        };
        let (objects, base, files): (Arc<dyn ObjectStore>, &str, bool) =
            if let Some(path) = place.strip_prefix("file://").filter(|path| path.starts_with('/')) {
                // What Redis refers to must not be gone, or empty, behind a power loss: file and folders are synced.
                (Arc::new(LocalFileSystem::new().with_fsync(true)), path, true)
            } else if let Some(rest) = place.strip_prefix("s3://") {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(wrong("a bucket's name is missing".to_owned()));
                }
                let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
                let known = match buckets.get(bucket) {
                    Some(known) => Arc::clone(known),
                    None => s3::open(bucket, &self.settings).map_err(wrong)?,
                };
                buckets.insert(bucket.to_owned(), Arc::clone(&known));
                (known, key, false)
            } else {
                return Err(wrong(
                    "a place must be file:///absolute/path or s3://bucket/prefix".to_owned(),
                ));
            };
        Ok(Store {
            objects,
            base: Path::parse(base).map_err(|e| wrong(e.to_string()))?,
            files,
            place: place.trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(not(feature = "s3"))]
mod s3 {
    use super::{Arc, ObjectStore};

    pub(super) fn open(_bucket: &str, _settings: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
        Err("this program was built without S3".to_owned())
    }
}

/// A folder, file, bucket or prefix; paths are below it, and `""` is the place itself.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    base: Path,
    files: bool,
    place: String,
}

impl Store {
    /// Opens one place; [`Stores`] for many.
    ///
    /// # Errors
    /// As [`Stores::open`].
    pub fn open(place: &str) -> Result<Self, StoreError> {
        Stores::default().open(place)
    }

    /// The URL of something below the place.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        match path {
            "" => self.place.clone(),
            path => format!("{}/{path}", self.place),
        }
    }

    /// Size and version.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn stat(&self, path: &str) -> Result<Stat, StoreError> {
        self.check_file(path).await?;
        let meta = self.objects.head(&self.at(path)?).await;
        Ok(self.seen(&meta.map_err(|e| StoreError::sorted(self.url(path), &e))?))
    }

    /// A byte range that is known to be there.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.check_file(path).await?;
        let read = self.objects.get_range(&self.at(path)?, range).await;
        read.map_err(|e| StoreError::sorted(self.url(path), &e))
    }

    /// The whole content.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn read(&self, path: &str) -> Result<Bytes, StoreError> {
        let sorted = |e: object_store::Error| StoreError::sorted(self.url(path), &e);
        self.check_file(path).await?;
        let got = self.objects.get(&self.at(path)?).await.map_err(sorted)?;
        got.bytes().await.map_err(sorted)
    }

    /// To open a FIFO would wait for its writer, who may never come.
    async fn check_file(&self, path: &str) -> Result<(), StoreError> {
        if !self.files {
            return Ok(());
        }
        match tokio::fs::metadata(format!("/{}", self.at(path)?)).await {
            Ok(meta) if !meta.is_file() => Err(StoreError::Final {
                url: self.url(path),
                detail: "it is no regular file".to_owned(),
            }),
            // Whatever is wrong else, opening it says.
            _ => Ok(()),
        }
    }

    /// The whole content of what was written with `expected` bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there are fewer or more now; others as [`StoreError`] sorts them.
    pub async fn read_whole(&self, path: &str, expected: u64) -> Result<Bytes, StoreError> {
        let content = self.read(path).await?;
        self.check_size(path, content.len() as u64, expected)?;
        Ok(content)
    }

    /// That what was written with `expected` bytes still has them.
    ///
    /// # Errors
    /// As [`Self::read_whole`].
    pub async fn check_whole(&self, path: &str, expected: u64) -> Result<(), StoreError> {
        self.check_size(path, self.stat(path).await?.size, expected)
    }

    fn check_size(&self, path: &str, found: u64, expected: u64) -> Result<(), StoreError> {
        match found == expected {
            true => Ok(()),
            false => Err(StoreError::Damaged {
                url: self.url(path),
                found,
                expected,
            }),
        }
    }

    /// Writes the whole content, folders as needed. Readers see all of it or nothing. Behind it a file of a local folder
    /// outlives a power loss.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn write(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        let written = self.objects.put(&self.at(path)?, content.into()).await;
        written.map(|_| ()).map_err(|e| StoreError::sorted(self.url(path), &e))
    }

    /// All that lies below `prefix` (whole steps of a path), at any depth, sorted: paths below the place.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, Stat)>, StoreError> {
        let at = self.at(prefix)?;
        let found: Vec<ObjectMeta> = self
            .objects
            .list(Some(&at))
            .try_collect()
            .await
            .map_err(|e| StoreError::sorted(self.url(prefix), &e))?;
        let skip = match self.base.as_ref().len() {
            0 => 0,
            base => base + 1,
        };
        let mut listed: Vec<(String, Stat)> = found
            .iter()
            .filter_map(|meta| Some((meta.location.as_ref().get(skip..)?.to_owned(), self.seen(meta))))
            .collect();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(listed)
    }

    /// Whether the place is there: the folder, the bucket. A place without one holds nothing that could be removed from here.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn is_there(&self) -> Result<bool, StoreError> {
        if self.files {
            return match tokio::fs::metadata(format!("/{}", self.base)).await {
                Ok(meta) => Ok(meta.is_dir()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(StoreError::refused(self.url(""), &error)),
            };
        }
        match self.objects.list(Some(&self.base)).next().await {
            Some(Err(error)) => match StoreError::sorted(self.url(""), &error) {
                StoreError::Missing { .. } => Ok(false),
                other => Err(other),
            },
            _ => Ok(true),
        }
    }

    /// Removes one file or object, and the folders between it and the place if nothing else is in them. Nothing there is
    /// no error.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them.
    pub async fn remove(&self, path: &str) -> Result<(), StoreError> {
        let at = self.at(path)?;
        match self.objects.delete(&at).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(StoreError::sorted(self.url(path), &error)),
        }
        let mut above = path;
        while let Some((folder, _)) = above.rsplit_once('/').filter(|_| self.files) {
            // One that is not empty stays, and so do those above it.
            if tokio::fs::remove_dir(format!("/{}", self.at(folder)?)).await.is_err() {
                break;
            }
            above = folder;
        }
        Ok(())
    }

    /// Removes all that lies below `prefix`, which must not be empty. Nothing there is no error.
    ///
    /// # Errors
    /// As [`StoreError`] sorts them; some may have been removed then.
    pub async fn remove_all(&self, prefix: &str) -> Result<(), StoreError> {
        let at = self.at(prefix)?;
        if prefix.is_empty() {
            return Err(StoreError::Final {
                url: self.place.clone(),
                detail: "only what lies below a place is removed".to_owned(),
            });
        }
        if self.files {
            return self.remove_folder(prefix, &format!("/{at}")).await;
        }
        // Many in one request, unless `AWS_DISABLE_BULK_DELETE` says that the server does not know it.
        let listed = self.objects.list(Some(&at)).map_ok(|meta| meta.location);
        let mut removed = self.objects.delete_stream(listed.boxed());
        while let Some(answer) = removed.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(StoreError::sorted(self.url(prefix), &error)),
            }
        }
        Ok(())
    }

    /// Folders too, which no list of files shows. Again if somebody writes into it meanwhile: a consumer hears of the end
    /// of a job a moment late.
    async fn remove_folder(&self, prefix: &str, folder: &str) -> Result<(), StoreError> {
        use std::io::ErrorKind as K;
        let mut tries = REMOVE_TRIES;
        loop {
            tries -= 1;
            match tokio::fs::remove_dir_all(folder).await {
                Err(error) if error.kind() == K::DirectoryNotEmpty && tries > 0 => {
                    tokio::time::sleep(REMOVE_PAUSE).await;
                }
                Err(error) if error.kind() != K::NotFound => return Err(StoreError::refused(self.url(prefix), &error)),
                _ => return Ok(()),
            }
        }
    }

    fn at(&self, path: &str) -> Result<Path, StoreError> {
        let whole = match (self.base.as_ref(), path) {
            (base, "") => base.to_owned(),
            ("", path) => path.to_owned(),
            (base, path) => format!("{base}/{path}"),
        };
        // `..` and the like are refused here.
        Path::parse(&whole).map_err(|e| StoreError::Final {
            url: self.url(path),
            detail: e.to_string(),
        })
    }

    fn seen(&self, meta: &ObjectMeta) -> Stat {
        let modified = || meta.last_modified.timestamp_nanos_opt().unwrap_or(0).to_string();
        Stat {
            size: meta.size,
            version: match &meta.e_tag {
                Some(tag) if !self.files => tag.clone(),
                _ => modified(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
