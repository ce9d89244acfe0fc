//! The data directory: where it is, who may enter it, what lies in it, and the lock that its server holds.
//!
//! Invariant: a [`DataDir`] belongs to the user that we run as and is closed to all others; its path is the real one,
//! so that two spellings of it are one directory.
//!
//! It does not repair permissions: somebody may have named `/tmp` or a shared directory by mistake, and closing that
//! would do harm. It says the command instead.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::Error;

/// Environment variable with the data directory of the managed Redis.
pub const DIR_VARIABLE: &str = "WORKYARD_REDIS_DIR";

/// A checked data directory.
#[derive(Debug, Clone)]
pub(super) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Opens the directory, creating it (and its parents) closed to others when it is missing.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(Error::at(path))?;
        Self::check(path)
    }

    /// Opens the directory if it is there.
    pub(super) fn existing(path: &Path) -> Result<Option<Self>, Error> {
        match Self::check(path) {
            Err(Error::Directory { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn check(path: &Path) -> Result<Self, Error> {
        let path = fs::canonicalize(path).map_err(Error::at(path))?;
        let meta = fs::metadata(&path).map_err(Error::at(&path))?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            let reason = format!("it belongs to another user ({}); choose another directory", meta.uid());
            return Err(Error::Exposed { dir: path, reason });
        }
        let mode = meta.mode() & 0o777;
        if mode & 0o077 != 0 {
            let reason = format!(
                "its mode is {mode:03o}. If only Workyard uses it, run: chmod 700 '{}'",
                path.display()
            );
            return Err(Error::Exposed { dir: path, reason });
        }
        Ok(Self { path })
    }

    /// The real path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's unix socket, when it is not too long for one.
    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("redis.sock")
    }

    /// Where the server writes its pid, for people and for [`super::process`].
    pub(super) fn pid_file(&self) -> PathBuf {
        self.path.join("redis.pid")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("redis.log")
    }

    /// The server's configuration, written anew at each start.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join("redis.conf")
    }

    /// Our note of how to reach the server.
    pub(super) fn record(&self) -> PathBuf {
        self.path.join("server.json")
    }

    /// The file that the server, or whoever is just starting it, holds locked.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.path.join("server.lock")
    }

    /// Takes the server's lock: None when a server holds it or somebody is just starting one.
    ///
    /// The kernel frees it when the last process that has it open ends, so there is no stale lock to clean up: not
    /// after SIGKILL, and not after a power cut.
    pub(super) fn claim(&self) -> Result<Option<File>, Error> {
        // Never deleted and never truncated: a lock on a file that lost its name would exclude nobody.
        let path = self.lock_file();
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = opened.map_err(Error::at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::Directory { path, source }),
        }
    }

    /// Whether a server lives on this directory (or is being started). The look itself holds the lock for an instant;
    /// who is refused in that instant looks again.
    pub(super) fn is_claimed(&self) -> Result<bool, Error> {
        Ok(self.claim()?.is_none())
    }
}

/// The directory when none was given: `WORKYARD_REDIS_DIR`, `$XDG_DATA_HOME/workyard` or `~/.local/share/workyard`.
pub(super) fn default_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Error> {
    if let Some(dir) = variable(DIR_VARIABLE) {
        return Ok(dir);
    }
    // The specification says to ignore a relative path here; an empty one is relative.
    if let Some(data) = variable("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("workyard"));
    }
    let home = variable("HOME")
        .filter(|path| path.is_absolute())
        .ok_or(Error::NoHome)?;
    Ok(home.join(".local/share/workyard"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn resolve(set: &[(&str, &str)]) -> Result<PathBuf, Error> {
        default_dir(|name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| PathBuf::from(value))
        })
    }

    #[test]
    fn the_default_directory_follows_the_variables_in_order() {
        let (own, xdg, home) = ((DIR_VARIABLE, "/own"), ("XDG_DATA_HOME", "/xdg"), ("HOME", "/home/me"));
        assert_eq!(resolve(&[own, xdg, home]).unwrap(), Path::new("/own"));
        assert_eq!(resolve(&[xdg, home]).unwrap(), Path::new("/xdg/workyard"));
        assert_eq!(resolve(&[home]).unwrap(), Path::new("/home/me/.local/share/workyard"));
        assert_eq!(
            resolve(&[("XDG_DATA_HOME", "x"), home]).unwrap(),
            Path::new("/home/me/.local/share/workyard")
        );
        assert!(matches!(resolve(&[]), Err(Error::NoHome)));
    }

    #[test]
    fn a_directory_open_to_others_is_refused_with_the_command_that_closes_it() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let text = DataDir::create(temp.path()).unwrap_err().to_string();
        assert!(text.contains("750") && text.contains("chmod 700"), "{text}");
    }

    #[test]
    fn a_missing_directory_is_made_closed_and_a_claim_excludes_a_second_one() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        assert!(DataDir::existing(&path).unwrap().is_none());
        let dir = DataDir::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let claim = dir.claim().unwrap();
        assert!(claim.is_some() && dir.claim().unwrap().is_none());
        drop(claim);
        assert!(!dir.is_claimed().unwrap());
    }
}
