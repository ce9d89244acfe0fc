//! `server.json`: how to reach the server of a data directory, and what it is.
//!
//! Invariant: the file is replaced as a whole and says how the server is reached *before* the server starts. If the
//! starter dies right after, the next one who comes still finds the server.
//!
//! It does not tell whether the server lives: the lock does (see [`super::dir`]). A record may be stale or missing,
//! and one that cannot be read counts as missing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dir::DataDir;
use super::endpoint::Endpoint;
use super::error::Error;
use super::probe::ServerInfo;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// How the server is reached.
    pub(super) endpoint: Endpoint,
    /// The program, preferred at the next start: an older server may be unable to read what a newer one wrote.
    pub(super) binary: PathBuf,
    /// What the server said of itself, once it answered; for people and other programs.
    pub(super) server: Option<ServerInfo>,
}

impl Record {
    /// Reads the record of `dir`, None when there is no readable one.
    pub(super) fn read(dir: &DataDir) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.record()).ok()?).ok()
    }

    /// Replaces the record of `dir`.
    pub(super) fn write(&self, dir: &DataDir) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| replace(dir, &text))
            .map_err(Error::at(dir.record()))
    }
}

/// A reader sees the old text or the new one, never half of one. The name is unique, as two who joined at the same
/// time may both write; whichever comes last is as good.
fn replace(dir: &DataDir, text: &[u8]) -> io::Result<()> {
    let fresh = dir.path().join(format!("server.json.{}", Uuid::new_v4().simple()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    let written = file.write_all(text).and_then(|()| fs::rename(&fresh, dir.record()));
    if written.is_err() {
        // What counts is the error that we return; a file left behind costs some bytes.
        fs::remove_file(&fresh).unwrap_or_default();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_rubbish_counts_as_none() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("data")).unwrap();
        assert_eq!(Record::read(&dir), None);
        let endpoint = Endpoint::Loopback {
            port: 7,
            password: "p".to_owned(),
        };
        let record = Record {
            endpoint,
            binary: "/bin/redis-server".into(),
            server: None,
        };
        record.write(&dir).unwrap();
        assert_eq!(Record::read(&dir), Some(record));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "a temporary file was left"
        );
        fs::write(dir.record(), b"{\"endpoint\":").unwrap();
        assert_eq!(Record::read(&dir), None);
    }
}
