//! A wall clock that a test moves under a running program.
//!
//! Invariant: only the programs that were started with it see it; their monotonic clock is the machine's.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{PRELOAD, compile};

/// The clock, for any number of programs.
#[derive(Debug)]
pub struct MovableClock {
    library: PathBuf,
    dir: TempDir,
    offset: File,
}

impl MovableClock {
    /// A clock that is right.
    ///
    /// # Panics
    /// When the library cannot be compiled.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary directory: {e}"));
        let offset = File::create(dir.path().join("offset")).unwrap_or_else(|e| panic!("cannot create a file: {e}"));
        let clock = Self {
            library: compile("clock_shim", include_str!("clock_shim.c"), dir.path()),
            dir,
            offset,
        };
        clock.set(0);
        clock
    }

    /// The program will read this clock.
    pub fn give(&self, command: &mut Command) {
        command
            .env(PRELOAD, &self.library)
            .env("WORKYARD_CLOCK_OFFSET", self.dir.path().join("offset"));
    }

    /// Moves it so many seconds away from the machine's, at once.
    pub fn set(&self, seconds: i64) {
        let written = self.offset.write_all_at(&seconds.to_ne_bytes(), 0);
        written.unwrap_or_else(|e| panic!("cannot move the clock: {e}"));
    }
}

impl Default for MovableClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(clock: Option<&MovableClock>) -> i64 {
        let mut date = Command::new("date");
        date.arg("+%s");
        if let Some(clock) = clock {
            clock.give(&mut date);
        }
        let said = String::from_utf8(date.output().unwrap().stdout).unwrap();
        said.trim().parse().unwrap()
    }

    #[test]
    fn a_program_reads_the_clock_that_it_was_given() {
        let clock = MovableClock::new();
        for offset in [0, 3600, -86_400] {
            clock.set(offset);
            let off = seconds(Some(&clock)) - seconds(None);
            assert!((off - offset).abs() < 60, "{off} and not {offset}");
        }
    }
}
