//! The tasks of a job: `<job>:<epoch>:<member>`; members are `m:<chunk>`, `r:<level>.<node>`, `r:<partition>`, and each with `:b`.
//!
//! Invariant: [`Member::of_task`] reads what [`Member::task_id`] writes, and nothing else.

use std::fmt;

use crate::name::JobId;

/// What a task of a job does in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// Maps this chunk.
    Map {
        /// Number of the chunk, from 0.
        chunk: u64,
        /// A second copy beside a slow first one.
        backup: bool,
    },
    /// Folds the children of this node.
    Fold {
        /// 1 reduces the outputs of maps.
        level: u32,
        /// Place in its level, from 0.
        node: u64,
        /// A second copy beside a slow first one.
        backup: bool,
    },
    /// Reduces the keys of this partition.
    Partition {
        /// Its number, from 0.
        partition: u32,
        /// A second copy beside a slow first one.
        backup: bool,
    },
}

impl Member {
    /// Reads the id of a task: job, epoch, member; `None` if it is no task of a job.
    #[must_use]
    pub fn of_task(id: &str) -> Option<(JobId, u64, Self)> {
        let (job, rest) = id.split_once(':')?;
        let (epoch, member) = rest.split_once(':')?;
        Some((JobId::new(job).ok()?, number(epoch)?, Self::parse(member)?))
    }

    /// Reads `m:3`, `r:1.0`, `r:7`, each with or without `:b`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, backup) = match text.strip_suffix(":b") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if let Some(chunk) = text.strip_prefix("m:") {
            return Some(Self::Map {
                chunk: number(chunk)?,
                backup,
            });
        }
        let place = text.strip_prefix("r:")?;
        Some(match place.split_once('.') {
            Some((level, node)) => Self::Fold {
                level: number(level)?.try_into().ok()?,
                node: number(node)?,
                backup,
            },
            None => Self::Partition {
                partition: number(place)?.try_into().ok()?,
                backup,
            },
        })
    }

    /// The id of its task.
    #[must_use]
    pub fn task_id(&self, job: &JobId, epoch: u64) -> String {
        format!("{job}:{epoch}:{self}")
    }

    /// Whether it maps.
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(self, Self::Map { .. })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backup = match self {
            Self::Map { chunk, backup } => {
                write!(f, "m:{chunk}")?;
                backup
            }
            Self::Fold { level, node, backup } => {
                write!(f, "r:{level}.{node}")?;
                backup
            }
            Self::Partition { partition, backup } => {
                write!(f, "r:{partition}")?;
                backup
            }
        };
        f.write_str(if *backup { ":b" } else { "" })
    }
}

/// Plain decimal, without a sign or leading zeros: one spelling per member.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_read_as_it_is_written_and_nothing_else_is() {
        let job = JobId::new("sum_of-squares").unwrap();
        for text in ["m:0", "m:99999", "m:7:b", "r:1.0", "r:3.12:b", "r:0", "r:7:b"] {
            let member = Member::parse(text).unwrap();
            assert_eq!(member.to_string(), text);
            assert_eq!(
                Member::of_task(&member.task_id(&job, 7)),
                Some((job.clone(), 7, member))
            );
        }
        for text in [
            "", "m:", "m:-1", "m:01", "m:+1", "x:1", "r:1.", "r:.1", "r:1.2.3", "m:1:c", "m:1:b:b", "m:1.5",
        ] {
            assert_eq!(Member::parse(text), None, "{text}");
        }
        assert_eq!(Member::of_task("a task of somebody"), None);
        assert_eq!(Member::of_task("mail:send:7"), None);
    }
}
