//! Everything that a run left behind, gathered for the checker.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use workyard_producer::{Client, JobState};
use workyard_shared::broker::{Overview, Place, Queue, Seen};
use workyard_shared::name::JobId;
use workyard_tests::{Cut, monotonic_ms, queue_name};

use crate::fleet::Life;
use crate::ledger::{Accepted, Level};
use crate::load::PRODUCERS;
use crate::runs::Runs;
use crate::watch::Ends;

/// A death of Redis, or of a master whose replica took over.
#[derive(Debug, Default)]
pub(crate) struct Death {
    /// When, ms.
    pub(crate) at_ms: u64,
    /// When it was back, or another in its place, ms: whatever was heard until then may have been said before.
    pub(crate) back_ms: u64,
    /// The words of the log that were lost with the power: ids among them.
    pub(crate) lost: HashSet<String>,
}

/// A fault that happened.
#[derive(Debug)]
pub(crate) struct Event {
    /// What.
    pub(crate) fault: String,
    /// When it began, ms.
    pub(crate) began_ms: u64,
    /// From when on everything could work again, ms: Redis accepted writes, the network carried.
    pub(crate) healed_ms: u64,
    /// Another server took over in between: that is the servers' own time.
    pub(crate) failover: bool,
    /// It belongs to the fault before it, whose recovery goes on being watched.
    pub(crate) sequel: bool,
}

/// What producers know.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Accepted tasks by id.
    pub(crate) accepted: HashMap<String, Accepted>,
    /// When each producer had an answer, ms, ascending.
    pub(crate) answers: Vec<Vec<u64>>,
    /// Tasks without an answer, under ids that nobody knows.
    pub(crate) maybe: u64,
    /// Ids that were sent, with or without an answer.
    pub(crate) tried: HashSet<String>,
    /// Accepted jobs.
    pub(crate) jobs: Vec<KnownJob>,
}

/// A job that was accepted.
#[derive(Debug)]
pub(crate) struct KnownJob {
    pub(crate) id: String,
    /// When its call was sent, ms.
    pub(crate) sent_ms: u64,
    /// When its answer had come, ms.
    pub(crate) at_ms: u64,
    /// The right result.
    pub(crate) result: i64,
}

/// What Redis says of a task in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has ended: state, failures before that, and the token of the run whose result it is.
    Ended(&'static str, u32, Option<u64>),
    /// It has not.
    Alive(&'static str),
    /// Redis knows nothing of it.
    Unknown,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) known: Known,
    pub(crate) runs: Runs,
    pub(crate) ends: Ends,
    pub(crate) fates: HashMap<String, Fate>,
    /// What became of each accepted job, in the same order: its result, or what is wrong.
    pub(crate) jobs: Vec<Result<i64, String>>,
    pub(crate) overview: Overview,
    pub(crate) deaths: Vec<Death>,
    pub(crate) events: Vec<Event>,
    pub(crate) lives: Vec<Life>,
    /// When the load ended, ms.
    pub(crate) load_ended_ms: u64,
}

impl Event {
    /// One that is over just now.
    pub(crate) fn over(fault: String, began_ms: u64) -> Self {
        Self {
            fault,
            began_ms,
            healed_ms: monotonic_ms(),
            failover: false,
            sequel: false,
        }
    }

    /// One in which another server took over, and accepted writes from then on.
    pub(crate) fn failover(fault: String, began_ms: u64, healed_ms: u64) -> Self {
        Self {
            healed_ms,
            failover: true,
            ..Self::over(fault, began_ms)
        }
    }

    /// The end of a failover: the former master is there again, just now.
    pub(crate) fn return_of_master(began_ms: u64) -> Self {
        Self {
            sequel: true,
            ..Self::over("return-of-master".to_owned(), began_ms)
        }
    }
}

impl Death {
    /// At the time of the cut.
    pub(crate) fn with(at_ms: u64, cut: &Cut) -> Self {
        let words = cut.lost.split(|byte| matches!(byte, b'\r' | b'\n' | b'"' | b' '));
        let ids = words.filter(|word| (8..=64).contains(&word.len()));
        Self {
            at_ms,
            back_ms: u64::MAX,
            lost: ids.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        }
    }
}

impl Known {
    /// Reads the ledgers of all producers.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let mut known = Self::default();
        for producer in 0..=PRODUCERS {
            let text = std::fs::read_to_string(dir.join(format!("accepted-{producer}")))?;
            let mut answers = Vec::new();
            for line in text.lines() {
                known
                    .add(line, producer, &mut answers)
                    .ok_or_else(|| io::Error::other(format!("a line of a ledger that is none: {line}")))?;
            }
            // Jobs come too rarely to show when things work again.
            if producer < PRODUCERS {
                known.answers.push(answers);
            }
        }
        Ok(known)
    }

    fn add(&mut self, line: &str, producer: usize, answers: &mut Vec<u64>) -> Option<()> {
        let mut words = line.split(' ');
        let (mark, at_ms) = (words.next()?, words.next()?.parse().ok()?);
        match mark {
            "A" => {
                let sent_ms = words.next()?.parse().ok()?;
                let level = Level::from_name(words.next()?)?;
                let accepted = Accepted {
                    sent_ms,
                    at_ms,
                    level,
                    producer,
                };
                self.accepted.extend(words.map(|id| (id.to_owned(), accepted)));
                answers.push(at_ms);
            }
            "M" => self.maybe += words.next()?.parse::<u64>().ok()?,
            "T" => self.tried.extend(words.map(str::to_owned)),
            "J" => self.jobs.push(KnownJob {
                sent_ms: words.next()?.parse().ok()?,
                id: words.next()?.to_owned(),
                at_ms,
                result: words.next()?.parse().ok()?,
            }),
            _ => return None,
        }
        Some(())
    }
}

/// Asks Redis what became of these tasks.
pub(crate) async fn fates(queue: &Queue, ids: &[&str]) -> anyhow::Result<HashMap<String, Fate>> {
    let mut fates = HashMap::new();
    for chunk in ids.chunks(500) {
        for (id, seen) in chunk.iter().zip(queue.inspect(chunk).await?) {
            fates.insert((*id).to_owned(), fate(seen));
        }
    }
    Ok(fates)
}

fn fate(seen: Seen) -> Fate {
    match seen {
        Seen::Unknown => Fate::Unknown,
        Seen::Ended(ended) => {
            let body = String::from_utf8_lossy(&ended.body);
            Fate::Ended(
                ended.state.as_str(),
                ended.failures,
                body.trim_matches('"').parse().ok(),
            )
        }
        Seen::Live { place, meta, .. } => match place {
            Place::Failed(_) => Fate::Ended("failed", meta.failures, None),
            place => Fate::Alive(place.state().as_str()),
        },
        Seen::Unreadable { .. } => Fate::Alive("unreadable"),
    }
}

/// Asks Redis what became of a job.
pub(crate) async fn job_result(client: &Client, id: &str) -> Result<i64, String> {
    let id = JobId::new(id).map_err(|e| e.to_string())?;
    let job = client.job(&queue_name("q"), &id);
    let record = job.status().await.map_err(|e| e.to_string())?;
    if record.state != JobState::Completed {
        let errors = job.errors().await.unwrap_or_default();
        return Err(format!(
            "{:?}, maps {:?}, reduces {:?}, {errors:?}",
            record.state, record.maps, record.reduces
        ));
    }
    let result = job.result::<i64>().await.map_err(|e| e.to_string())?;
    result.ok_or_else(|| "no result".to_owned())
}
