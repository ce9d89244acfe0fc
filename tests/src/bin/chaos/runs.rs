//! What consumers wrote down of what they ran.

use std::collections::HashMap;
use std::io;
use std::path::Path;

/// One run of a task.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The process.
    pub(crate) pid: u32,
    /// The fencing token, which is how runs of a task follow each other.
    pub(crate) token: u64,
    /// When its handler began, ms.
    pub(crate) begun_ms: u64,
    /// When it had done what it does, ms.
    pub(crate) done_ms: Option<u64>,
    /// How often a handler began under this token: once, or a token was handed out twice.
    pub(crate) starts: u32,
}

/// All runs.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// By task, in the order of their tokens.
    pub(crate) of_task: HashMap<String, Vec<Run>>,
    /// When each process began a run, ms, ascending.
    pub(crate) of_process: HashMap<u32, Vec<u64>>,
}

impl Runs {
    pub(crate) fn read(ledger: &Path) -> io::Result<Self> {
        let mut runs = Self::default();
        for line in std::fs::read_to_string(ledger)?.lines() {
            runs.add(line)
                .ok_or_else(|| io::Error::other(format!("a line of the ledger that is none: {line}")))?;
        }
        for list in runs.of_task.values_mut() {
            list.sort_by_key(|run| run.token);
        }
        for times in runs.of_process.values_mut() {
            times.sort_unstable();
        }
        Ok(runs)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let [mark, ms, pid, id, token] = words[..] else {
            return None;
        };
        let (ms, pid, token) = (ms.parse().ok()?, pid.parse().ok()?, token.parse().ok()?);
        let runs = self.of_task.entry(id.to_owned()).or_default();
        let known = runs.iter_mut().find(|run| run.token == token);
        match (mark, known) {
            ("S", Some(run)) => run.starts += 1,
            ("S", None) => runs.push(Run {
                pid,
                token,
                begun_ms: ms,
                done_ms: None,
                starts: 1,
            }),
            ("E", Some(run)) => run.done_ms = Some(ms),
            _ => return None,
        }
        if mark == "S" {
            self.of_process.entry(pid).or_default().push(ms);
        }
        Some(())
    }
}
