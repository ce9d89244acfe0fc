//! How long after each fault everything worked again.
//!
//! Everything: each producer had an answer, and each consumer that lived began a task. The time counts from when Redis
//! accepted writes again, or the network carried.

use std::fmt;

use serde::Serialize;

use crate::evidence::Evidence;

/// What is aimed for, ms.
const AIM_MS: u64 = 10_000;

/// The recovery from one fault.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    /// The fault's name.
    pub(crate) fault: String,
    /// How long it took at the slowest, ms; `None`: not as long as there was load, or that one lived.
    pub(crate) ms: Option<u64>,
    /// Who was the slowest.
    pub(crate) who: String,
    /// How long the servers themselves took to have another master, ms; it is not in `ms`.
    pub(crate) failover_ms: Option<u64>,
    /// For how long there was load and no fault behind it, ms.
    pub(crate) watched_ms: u64,
    /// For how long there was load behind it, with other faults or without, ms.
    pub(crate) loaded_ms: u64,
}

impl Recovery {
    /// Whether it was seen before the next fault came, which hinders it.
    pub(crate) fn is_seen(&self) -> bool {
        self.ms.is_some_and(|ms| ms <= self.watched_ms)
    }

    /// Whether it took too long. Beyond the next fault the time proves nothing, but that it came at all does.
    pub(crate) fn is_late(&self) -> bool {
        match self.ms {
            Some(ms) => ms.min(self.watched_ms) > AIM_MS,
            None => self.loaded_ms > AIM_MS,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, who, .. } = self;
        match self.ms {
            Some(ms) if self.is_seen() => write!(f, "{fault}: {ms} ms ({who})")?,
            Some(ms) => write!(
                f,
                "{fault}: not seen within {} ms, before the next fault; {ms} ms in spite of that ({who})",
                self.watched_ms
            )?,
            None => write!(f, "{fault}: not seen in {} ms of load ({who})", self.loaded_ms)?,
        }
        match self.failover_ms {
            Some(ms) => write!(f, ", behind a failover of {ms} ms"),
            None => Ok(()),
        }
    }
}

/// One recovery per fault.
pub(crate) fn recoveries(evidence: &Evidence) -> Vec<Recovery> {
    let mut recoveries = Vec::new();
    for (index, event) in evidence.events.iter().enumerate() {
        let healed = event.healed_ms;
        let next = evidence.events[index + 1..].iter().find(|event| !event.sequel);
        let next = next.map(|event| event.began_ms);
        let end = next.unwrap_or(evidence.load_ended_ms);
        let mut slowest = (Some(0), String::new());
        let mut look = |who: String, times: &[u64]| {
            let first = times.get(times.partition_point(|at| *at < healed));
            let took = first.map(|at| at - healed);
            // `None`, not at all, is slower than any.
            if slowest.0.is_some_and(|before| took.is_none_or(|took| took > before)) {
                slowest = (took, who);
            }
        };
        for (number, answers) in evidence.known.answers.iter().enumerate() {
            look(format!("producer {number}"), answers);
        }
        for life in &evidence.lives {
            let lived = life.born_ms <= healed && life.died_ms.is_none_or(|at| at > healed + AIM_MS);
            if lived {
                let times = evidence.runs.of_process.get(&life.pid).map_or(&[][..], |times| times);
                look(format!("consumer {}", life.pid), times);
            }
        }
        recoveries.push(Recovery {
            fault: event.fault.clone(),
            ms: slowest.0,
            who: slowest.1,
            failover_ms: event.failover.then(|| healed.saturating_sub(event.began_ms)),
            watched_ms: end.saturating_sub(healed),
            loaded_ms: evidence.load_ended_ms.saturating_sub(healed),
        });
    }
    recoveries
}
