//! The files that a pattern with `**` matches.
//!
//! Invariant: links to folders are followed, but none to a folder that it lies in: that would have no end. Hidden folders
//! are passed over, as the pattern would match nothing in them.

use std::io;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// The part of a pattern in front of its first step with a wild card; none if the pattern cannot be walked by itself:
/// without `**`, or with hidden folders or empty steps in it.
pub(super) fn folder(pattern: &str) -> Option<&str> {
    let wild = pattern.find(['*', '?', '['])?;
    let (folder, rest) = match pattern[..wild].rfind('/') {
        Some(at) => pattern.split_at(at + 1),
        None => ("", pattern),
    };
    let plain = pattern.contains("**") && !pattern.contains("//") && !rest.starts_with('.') && !rest.contains("/.");
    plain.then_some(folder)
}

/// Everything below `folder` that matches and is no folder, with the names that the pattern gives it.
pub(super) fn below(
    folder: &str,
    pattern: &Pattern,
    options: MatchOptions,
) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut walk = Walk {
        pattern,
        options,
        above: Vec::new(),
        found: Vec::new(),
    };
    walk.enter(Path::new(folder))?;
    Ok(walk.found)
}

struct Walk<'a> {
    pattern: &'a Pattern,
    options: MatchOptions,
    /// The folders that the present one lies in, by their real names.
    above: Vec<PathBuf>,
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        let here = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let told = |error| (here.to_owned(), error);
        let real = match here.canonicalize() {
            // Nothing matches where nothing is.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.above.is_empty() => return Ok(()),
            other => other.map_err(told)?,
        };
        if self.above.contains(&real) {
            return Ok(());
        }
        self.above.push(real);
        for entry in here.read_dir().map_err(told)? {
            let name = entry.map_err(told)?.file_name();
            let path = folder.join(&name);
            if !path.is_dir() {
                if self.pattern.matches_path_with(&path, self.options) {
                    self.found.push(path);
                }
            } else if !name.as_encoded_bytes().starts_with(b".") {
                self.enter(&path)?;
            }
        }
        self.above.pop();
        Ok(())
    }
}
