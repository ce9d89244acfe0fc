//! The daemon under measurement: the real `workyard-consumer`, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

/// Its file: the bench's queue, and the builtin that does nothing.
const CONFIG: &str = "[[queues]]\nname = \"bench\"\n\n[handlers.noop]\ntype = \"builtin\"\nfunction = \"noop\"\n";
/// `/proc` counts CPU time in ticks: 100 a second on Linux.
const TICK: Duration = Duration::from_millis(10);

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    _dir: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What it leaves behind is flushed with the server's data.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Daemon {
    /// The binary that cargo built beside this one.
    pub(crate) fn beside_us() -> anyhow::Result<PathBuf> {
        Ok(std::env::current_exe()?.with_file_name("workyard-consumer"))
    }

    /// Starts `binary` on the Redis at `url`; `settings` are more of the handler, and more tables.
    pub(crate) fn start(binary: &Path, url: &str, concurrency: usize, settings: &str) -> anyhow::Result<Self> {
        Self::with_file(binary, url, concurrency, &Self::file("", settings))
    }

    /// The text of its file, with `above` before its tables.
    pub(crate) fn file(above: &str, settings: &str) -> String {
        format!("{above}{CONFIG}{settings}")
    }

    /// Starts `binary` on the Redis at `url` with a file of this text.
    pub(crate) fn with_file(binary: &Path, url: &str, concurrency: usize, text: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("bench.toml");
        std::fs::write(&file, text)?;
        let child = Command::new(binary)
            .args([
                "--redis-url",
                url,
                "--log",
                "error",
                "--concurrency",
                &concurrency.to_string(),
            ])
            .arg("--config")
            .arg(&file)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start {}: build it, or name it with --consumer",
                    binary.display()
                )
            })?;
        Ok(Self { child, _dir: dir })
    }

    /// The most memory that it ever had resident, in bytes; zero where there is no `/proc`.
    pub(crate) fn resident(&self) -> u64 {
        peak(self.child.id())
    }

    /// CPU time of it so far, user and system; zero where there is no `/proc`.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name may hold spaces: count behind its closing parenthesis. Fields 14 and 15 of proc(5).
        let words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u32 = words.skip(11).take(2).filter_map(|word| word.parse::<u32>().ok()).sum();
        TICK * ticks
    }
}

fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: Option<u64> = line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0) * 1024
}
