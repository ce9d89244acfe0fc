//! What a server has synced, and its files cut back to that: a power cut.
//!
//! Invariant: of each file at least what was synced stays, and nothing that was written after the last sync began. A
//! kill alone loses nothing (the kernel still has what was written), so it proves nothing about syncing.
//!
//! What it is kinder in than a real power cut: a rename counts as kept, and bytes are cut in order, never torn.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{PRELOAD, compile};

/// Writes down what the server that it is given to has synced.
#[derive(Debug)]
pub struct FsyncRecorder {
    library: PathBuf,
    dir: TempDir,
}

/// What a power cut took.
#[derive(Debug, Default)]
pub struct Cut {
    /// All bytes that are gone, file by file.
    pub lost: Vec<u8>,
    /// When the last sync began whose data is kept, in ms of the monotonic clock.
    pub synced_ms: u64,
}

type Inode = (u64, u64);

impl FsyncRecorder {
    /// Compiles it.
    ///
    /// # Panics
    /// When it cannot be compiled.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary directory: {e}"));
        Self {
            library: compile("fsync_recorder", include_str!("fsync_recorder.c"), dir.path()),
            dir,
        }
    }

    /// The program's syncs will be written down.
    pub fn watch(&self, command: &mut Command) {
        command
            .env(PRELOAD, &self.library)
            .env("WORKYARD_FSYNC_NOTES", self.notes());
    }

    /// Cuts all files in and below `dir` back to what was synced of them. The program must have ended.
    ///
    /// # Errors
    /// If a file cannot be read or cut; [`io::ErrorKind::NotFound`] if nothing at all was synced, as by a server that
    /// is linked statically or has no append-only file: then this would prove nothing.
    pub fn cut(&self, dir: &Path) -> io::Result<Cut> {
        let (synced, synced_ms) = self.synced()?;
        let mut cut = Cut {
            lost: Vec::new(),
            synced_ms,
        };
        cut_below(dir, &synced, &mut cut.lost)?;
        Ok(cut)
    }

    /// When the last sync began that has ended, in ms of the monotonic clock.
    ///
    /// # Errors
    /// If nothing was written down yet.
    pub fn synced_ms(&self) -> io::Result<u64> {
        self.synced().map(|(_, ms)| ms)
    }

    fn notes(&self) -> PathBuf {
        self.dir.path().join("notes")
    }

    fn synced(&self) -> io::Result<(HashMap<Inode, u64>, u64)> {
        let (mut sizes, mut last_ms) = (HashMap::new(), 0);
        for line in BufReader::new(File::open(self.notes())?).lines() {
            let line = line?;
            let numbers: Vec<u64> = line.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
            match numbers[..] {
                [device, inode, size, ms] => {
                    sizes.insert((device, inode), size);
                    last_ms = last_ms.max(ms);
                }
                [device, inode] => {
                    sizes.remove(&(device, inode));
                }
                _ => return Err(io::Error::other(format!("a note that is none: {line}"))),
            }
        }
        Ok((sizes, last_ms))
    }
}

impl Default for FsyncRecorder {
    fn default() -> Self {
        Self::new()
    }
}

fn cut_below(dir: &Path, synced: &HashMap<Inode, u64>, lost: &mut Vec<u8>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, data) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
        if data.is_dir() {
            cut_below(&path, synced, lost)?;
            continue;
        }
        let keep = synced.get(&(data.dev(), data.ino())).copied().unwrap_or(0);
        if keep < data.len() {
            let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.seek(SeekFrom::Start(keep))?;
            file.read_to_end(lost)?;
            file.set_len(keep)?;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// Appends to `log`, syncs, appends again.
    fn half_synced(recorder: &FsyncRecorder, dir: &Path) {
        let mut sh = Command::new("sh");
        sh.args([
            "-c",
            "printf kept > log && sync log && printf lost >> log && printf all > new",
        ]);
        recorder.watch(sh.current_dir(dir));
        assert!(sh.status().unwrap().success());
    }

    #[test]
    fn what_was_not_synced_is_cut_and_what_was_stays() {
        let (recorder, dir) = (FsyncRecorder::new(), tempfile::tempdir().unwrap());
        half_synced(&recorder, dir.path());
        let cut = recorder.cut(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "");
        assert_eq!(cut.lost.len(), "lostall".len());
        assert!(cut.synced_ms > 0);
    }

    #[test]
    fn a_file_that_was_removed_says_nothing_about_the_next_with_its_inode() {
        let (recorder, dir) = (FsyncRecorder::new(), tempfile::tempdir().unwrap());
        half_synced(&recorder, dir.path());
        let mut rm = Command::new("sh");
        rm.args(["-c", "unlink log"]);
        recorder.watch(rm.current_dir(dir.path()));
        assert!(rm.status().unwrap().success());
        assert!(recorder.synced().unwrap().0.is_empty());
    }
}
