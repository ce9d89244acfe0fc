//! Input files: found by their patterns, and read a little here and there.
//!
//! Invariant: found files are sorted and each is there once; a pattern that matches nothing is told by its name. Reads are
//! short and block; whoever calls sees to it that they may. It knows no records.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use glob::{MatchOptions, Pattern};
use tokio::runtime::Handle;
use workyard_shared::store::{Store, StoreError, Stores};

use super::walk;
use crate::error::Error;

/// As in a shell: `*` does not pass a slash, and hidden files are to be named.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};
/// Bytes of one read from an object store.
const REMOTE_READ: u64 = 1 << 20;

/// A file or object as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) url: String,
    pub(crate) size: u64,
    pub(crate) version: String,
    remote: Option<(Store, Handle)>,
}

/// Finds the files of all patterns: paths, globs, `file://` and `s3://` URLs with or without wild cards.
pub(crate) fn find(patterns: &[String], runtime: &Handle) -> Result<Vec<Source>, Error> {
    let stores = Stores::default();
    let mut found = BTreeMap::new();
    for pattern in patterns {
        let sources = match pattern.strip_prefix("s3://") {
            Some(rest) => objects(rest, &stores, runtime)?,
            None => files(pattern.strip_prefix("file://").unwrap_or(pattern))?,
        };
        if sources.is_empty() {
            return Err(Error::invalid(format!("no file matches \"{pattern}\"")));
        }
        found.extend(sources.into_iter().map(|source| (source.url.clone(), source)));
    }
    Ok(found.into_values().collect())
}

/// A `**` at the end stands for the files below, not only for the folders.
fn with_files(pattern: &str) -> Cow<'_, str> {
    match pattern.strip_suffix("**") {
        Some(before) if before.is_empty() || before.ends_with('/') => format!("{pattern}/*").into(),
        _ => pattern.into(),
    }
}

fn files(pattern: &str) -> Result<Vec<Source>, Error> {
    let path = Path::new(pattern);
    let wild = pattern.contains(['*', '?', '[']);
    // A file may have such a name.
    if !wild || path.is_file() {
        return Ok(vec![file(path)?]);
    }
    let wrong = |e: &dyn std::fmt::Display| Error::invalid(format!("the pattern \"{pattern}\": {e}"));
    if let Some(folder) = walk::folder(pattern) {
        let pattern = Pattern::new(&with_files(pattern)).map_err(|e| wrong(&e))?;
        let found = walk::below(folder, &pattern, MATCHING);
        let found = found.map_err(|(path, e)| wrong(&format!("{}: {e}", path.display())))?;
        return found.iter().map(|path| file(path)).collect();
    }
    let mut sources = Vec::new();
    for path in glob::glob_with(&with_files(pattern), MATCHING).map_err(|e| wrong(&e))? {
        let path = path.map_err(|e| wrong(&e))?;
        if !path.is_dir() {
            sources.push(file(&path)?);
        }
    }
    Ok(sources)
}

fn file(path: &Path) -> Result<Source, Error> {
    let named = |reason: &dyn std::fmt::Display| Error::invalid(format!("{}: {reason}", path.display()));
    let told = |e: io::Error| match e.kind() {
        ErrorKind::NotFound => named(&"no such file"),
        _ => named(&e),
    };
    // Links are followed here, so that two names of one file are one input.
    let real = path.canonicalize().map_err(told)?;
    let meta = real.metadata().map_err(told)?;
    if meta.is_dir() {
        return Err(named(&"is a folder; give a pattern such as folder/**/*.txt"));
    }
    if !meta.is_file() {
        return Err(named(&"is no regular file"));
    }
    // Not being permitted to read is better known now than from each chunk.
    let opened = File::open(&real).map_err(told)?;
    // Made while it is read, so that there is nothing to cut; its result would be that of an empty file.
    if meta.len() == 0 && opened.read_at(&mut [0], 0).map_err(told)? > 0 {
        return Err(named(
            &"has a size of 0, but is not empty (a file of /proc?), and cannot be cut; give a copy of it",
        ));
    }
    let modified = meta.modified().map_err(told)?;
    // Also before 1970, as consumers read it.
    let since_ns = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    let text = real.to_str().ok_or_else(|| named(&"the name must be UTF-8"))?;
    Ok(Source {
        url: format!("file://{text}"),
        size: meta.len(),
        version: since_ns.to_string(),
        remote: None,
    })
}

fn objects(rest: &str, stores: &Stores, runtime: &Handle) -> Result<Vec<Source>, Error> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let store = stores.open(&format!("s3://{bucket}")).map_err(of_input)?;
    let source = |key: &str, stat: workyard_shared::store::Stat| {
        let url = format!("s3://{bucket}/{key}");
        Ok(Source {
            remote: Some((stores.open(&url).map_err(of_input)?, runtime.clone())),
            url,
            size: stat.size,
            version: stat.version,
        })
    };
    let Some(wild) = key.find(['*', '?', '[']) else {
        if key.is_empty() || key.ends_with('/') {
            return Err(Error::invalid(format!(
                "s3://{rest} is no object; give a pattern such as s3://bucket/prefix/*"
            )));
        }
        return Ok(vec![source(key, runtime.block_on(store.stat(key)).map_err(of_input)?)?]);
    };
    let folder = key[..wild].rsplit_once('/').map_or("", |(folder, _)| folder);
    let pattern = Pattern::new(&with_files(key)).map_err(|e| Error::invalid(format!("the pattern \"{key}\": {e}")))?;
    let listed = runtime.block_on(store.list(folder)).map_err(of_input)?;
    listed
        .into_iter()
        .filter(|(key, _)| pattern.matches_with(key, MATCHING))
        .map(|(key, stat)| source(&key, stat))
        .collect()
}

impl Source {
    /// Opens it for reads at any place.
    pub(crate) fn open(&self) -> Result<Reader<'_>, Error> {
        let file = match self.remote {
            Some(_) => None,
            None => Some(File::open(self.path()).map_err(|e| self.failed(&e))?),
        };
        Ok(Reader {
            source: self,
            file,
            at: 0,
            ahead: Bytes::new(),
        })
    }

    /// The last part of its name, in lower case.
    pub(crate) fn extension(&self) -> String {
        let name = self.url.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase()
    }

    /// Its address as people know it.
    pub(crate) fn path(&self) -> &str {
        self.url.strip_prefix("file://").unwrap_or(&self.url)
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::invalid(format!("{}: {error}", self.path()))
    }
}

/// An input file that is being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    source: &'a Source,
    file: Option<File>,
    at: u64,
    ahead: Bytes,
}

impl Reader<'_> {
    /// Up to `most` bytes at `offset`; fewer at the end of the file only.
    pub(crate) fn read_at(&self, offset: u64, most: usize) -> Result<Bytes, Error> {
        let end = (offset + most as u64).min(self.source.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        if let Some((store, runtime)) = &self.source.remote {
            return runtime.block_on(store.read_range("", offset..end)).map_err(of_input);
        }
        let mut buffer = vec![0; usize::try_from(end - offset).unwrap_or(most)];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut buffer, offset).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => Error::invalid(format!("{} was cut while it was read", self.source.path())),
                _ => self.source.failed(&e),
            })?;
        }
        Ok(buffer.into())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            let most = match self.file {
                Some(_) => buffer.len(),
                None => usize::try_from(REMOTE_READ).unwrap_or(usize::MAX),
            };
            self.ahead = self.read_at(self.at, most).map_err(io::Error::other)?;
            self.at += self.ahead.len() as u64;
        }
        let taken = self.ahead.split_to(self.ahead.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

/// An input that is not there is bad input; a network that fails is not.
fn of_input(error: StoreError) -> Error {
    match error {
        StoreError::Missing { .. } | StoreError::Final { .. } => Error::invalid(error.to_string()),
        other => Error::Store(other),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn written(dir: &Path, name: &str, text: &[u8]) -> Source {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        written_already(&path)
    }

    pub(crate) fn written_already(path: &Path) -> Source {
        file(path).unwrap()
    }

    #[tokio::test]
    async fn patterns_find_each_file_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "sub/c.txt", ".hidden.txt", "d.md", "x[1].txt"] {
            written(dir.path(), name, b"x");
        }
        let found = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns
                .iter()
                .map(|p| format!("{}/{p}", dir.path().display()))
                .collect();
            let found = find(&patterns, &Handle::current()).map_err(|e| e.to_string())?;
            Ok::<_, String>(
                found
                    .iter()
                    .map(|s| s.url.rsplit('/').next().unwrap().to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(found(&["*.txt", "a.txt"]).unwrap(), ["a.txt", "b.txt", "x[1].txt"]);
        assert_eq!(found(&["**/*.txt"]).unwrap(), ["a.txt", "b.txt", "c.txt", "x[1].txt"]);
        assert_eq!(found(&["x[1].txt"]).unwrap(), ["x[1].txt"]);
        assert_eq!(found(&["sub/**"]).unwrap(), ["c.txt"]);
        assert_eq!(found(&["**"]).unwrap(), found(&["**/*"]).unwrap());
        assert!(found(&["a.txt", "*.rs"]).unwrap_err().contains("*.rs"));
        assert!(found(&["gone.txt"]).unwrap_err().contains("gone.txt: no such file"));
        assert!(found(&["sub"]).unwrap_err().contains("is a folder"));
    }

    #[tokio::test]
    async fn a_link_to_a_folder_is_followed_unless_it_lies_in_that() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in/a.txt", "in/sub/b.txt", "in/.git/c.txt", "beside/d.txt"] {
            written(dir.path(), name, b"x");
        }
        let link =
            |to: &str, name: &str| std::os::unix::fs::symlink(dir.path().join(to), dir.path().join(name)).unwrap();
        // Two of them: to try all ways would have no end.
        link("in", "in/loop");
        link("in", "in/sub/up");
        link("in/sub", "in/sub/itself");
        link("beside", "in/other");
        link("in", "beside/back");
        for pattern in ["in/**/*.txt", "in/**", "i*/**/*.txt"] {
            let found = find(&[format!("{}/{pattern}", dir.path().display())], &Handle::current()).unwrap();
            let names: Vec<&str> = found.iter().map(|s| s.url.rsplit('/').next().unwrap()).collect();
            assert_eq!(names, ["d.txt", "a.txt", "b.txt"], "{pattern}");
        }
        let gone = find(&[format!("{}/gone/**", dir.path().display())], &Handle::current());
        assert!(gone.unwrap_err().to_string().contains("no file matches"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_made_while_it_is_read_is_refused_and_an_empty_one_is_not() {
        let error = file(Path::new("/proc/self/status")).unwrap_err().to_string();
        assert!(
            error.contains("/proc/self/status: has a size of 0, but is not empty"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(written(dir.path(), "empty", b"").size, 0);
    }

    #[test]
    fn a_reader_reads_anywhere_and_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let source = written(dir.path(), "a", b"0123456789");
        let mut reader = source.open().unwrap();
        assert_eq!(reader.read_at(8, 5).unwrap(), "89");
        assert_eq!(reader.read_at(10, 5).unwrap(), "");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "0123456789");
    }
}
