//! What the record of a job says, for those who look.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::JobSpec;
use crate::error::Error;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Its chunks are being submitted.
    Pending,
    /// Maps run; in the fold form reduces too.
    Mapping,
    /// All maps are done; reducers fetch their partitions.
    Shuffling,
    /// Only reduces are left.
    Reducing,
    /// Its result is there.
    Completed,
    /// It ended without a result.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobState {
    pub(crate) const ALL: [Self; 7] = [
        Self::Pending,
        Self::Mapping,
        Self::Shuffling,
        Self::Reducing,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Mapping => "mapping",
            Self::Shuffling => "shuffling",
            Self::Reducing => "reducing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether it has ended (a retry may begin it anew).
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The counters of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phase {
    /// Tasks that it consists of (not counting copies).
    pub total: u64,
    /// Of these, done.
    pub done: u64,
    /// Of these, failed for good.
    pub failed: u64,
    /// Attempts that failed and were tried again.
    pub retried: u64,
    /// Backup copies that were started.
    pub backup: u64,
}

/// Where the result of a completed job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultPlace {
    /// The hash in Redis: `0` (fold) or partition -> part.
    pub key: String,
    /// Parts in it.
    pub parts: u64,
    /// Their bytes in Redis.
    pub bytes: u64,
    /// Of these parts, those that only say where they are: below `<folder>/out/` of the spill place.
    pub spilled: u64,
    /// The bytes of those, at the spill place.
    pub spilled_bytes: u64,
}

/// A job as its record tells it. Times are ms since the epoch of Redis' clock, 0: not yet.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobRecord {
    /// What was submitted.
    pub spec: JobSpec,
    /// Where it is.
    pub state: JobState,
    /// Which start of the job this is: part of its tasks' ids.
    pub epoch: u64,
    /// Chunks that were submitted.
    pub submitted: u64,
    /// The map phase.
    pub maps: Phase,
    /// The reduce phase. In the fold form all levels together.
    pub reduces: Phase,
    /// Chunks that were lost and left out of the result.
    pub accepted: u64,
    /// Bytes of intermediate data and results in Redis.
    pub bytes: u64,
    /// The budget was reached: from now on outputs are spilled.
    pub full: bool,
    /// Parts that were spilled.
    pub spilled: u64,
    /// The spilled files of intermediate data are removed.
    pub swept: bool,
    /// Where its result is; `None` unless it completed.
    pub result: Option<ResultPlace>,
    /// How often it was started: once, and again with each retry.
    pub starts: u64,
    /// When it was last retried.
    pub resumed_ms: u64,
    /// How long its earlier starts ran, ms.
    pub spent_ms: u64,
    /// When it was submitted.
    pub created_ms: u64,
    /// When its first task started.
    pub started_ms: u64,
    /// When its last map was done.
    pub mapped_ms: u64,
    /// When the first reduce behind the last map started.
    pub reducing_ms: u64,
    /// When it ended.
    pub finished_ms: u64,
    /// Why it failed; empty if it did not.
    pub error: String,
    /// The submitter's own mark, by which a call that is sent again is known; empty if it gave none.
    pub nonce: String,
}

impl JobRecord {
    /// Stands for a record that cannot be read, so that others beside it can.
    #[must_use]
    pub fn damaged(why: &Error) -> Self {
        let fields = [
            ("v", "1"),
            ("state", "failed"),
            ("form", "fold"),
            ("map", "-"),
            ("reduce", "-"),
        ];
        let defaults = [("fan_in", "0"), ("allow", "0"), ("budget", "0"), ("retention", "0")];
        let mut fields: HashMap<String, String> = fields
            .into_iter()
            .chain(defaults)
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        fields.insert(
            "error".to_owned(),
            format!("its record is damaged ({why}): it can only be deleted"),
        );
        match Self::from_fields(&fields) {
            Ok(record) => record,
            Err(_) => unreachable!("these fields are whole"),
        }
    }

    /// Whether its spill place holds files that it knows of.
    #[must_use]
    pub fn has_spilled_files(&self) -> bool {
        let of_result = self.result.as_ref().is_some_and(|place| place.spilled > 0);
        of_result || (self.spilled > 0 && !self.swept)
    }

    /// How long it ran until its end, over all starts, without the time between an end and a retry. `None` before its end, and
    /// if no task of it ever started.
    #[must_use]
    pub fn run_time(&self) -> Option<Duration> {
        let ran = self.finished_ms.checked_sub(self.started_ms.max(self.resumed_ms))?;
        (self.started_ms > 0).then(|| Duration::from_millis(self.spent_ms + ran))
    }

    /// Reads the fields of a record.
    ///
    /// # Errors
    /// [`Error::Protocol`] if they are none, or those of a newer version.
    pub fn from_fields(fields: &HashMap<String, String>) -> Result<Self, Error> {
        if fields.get("v").map(String::as_str) != Some("1") {
            return Err(Error::Protocol("a job record of another version".to_owned()));
        }
        let state = fields.get("state").and_then(|name| JobState::parse(name));
        let count = |name: &str| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let text = |name: &str| fields.get(name).cloned();
        let phase = |name: &str| Phase {
            total: count(name),
            done: count(&format!("{name}_done")),
            failed: count(&format!("{name}_failed")),
            retried: count(&format!("{name}_retried")),
            backup: count(&format!("{name}_backup")),
        };
        Ok(Self {
            spec: JobSpec::from_fields(fields)?,
            state: state.ok_or_else(|| Error::Protocol("a job without a known state".to_owned()))?,
            epoch: count("epoch"),
            submitted: count("submitted"),
            maps: phase("maps"),
            reduces: phase("reduces"),
            accepted: count("accepted"),
            bytes: count("bytes"),
            full: count("full") == 1,
            spilled: count("spilled"),
            swept: count("swept") == 1,
            result: text("result").filter(|key| !key.is_empty()).map(|key| ResultPlace {
                key,
                parts: count("result_parts"),
                bytes: count("result_bytes"),
                spilled: count("result_spilled"),
                spilled_bytes: count("result_spilled_bytes"),
            }),
            starts: count("starts"),
            resumed_ms: count("resumed"),
            spent_ms: count("spent"),
            created_ms: count("created"),
            started_ms: count("started"),
            mapped_ms: count("mapped"),
            reducing_ms: count("reducing"),
            finished_ms: count("finished"),
            error: text("error").unwrap_or_default(),
            nonce: text("nonce").unwrap_or_default(),
        })
    }
}
