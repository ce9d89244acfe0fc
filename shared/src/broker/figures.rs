//! What a scrape reads of many queues at once. Reads only.
//!
//! Invariant: two round trips per 50 queues, whatever is in them; of jobs the newest hundred, of consumers those
//! with the latest heartbeats.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Pipeline, Value};
use serde::Deserialize;

use super::{Broker, Overview, Queue, reply, settings};
use crate::error::Error;
use crate::job::JobState;
use crate::name::{JobId, QueueName, SessionId};
use crate::settings::Settings;

/// Queues read with one pipeline.
const STEP: usize = 50;
/// Jobs looked at, newest first, per queue.
const JOBS: usize = 100;
/// Commands per queue in the first pipeline.
const COMMANDS: usize = 5;
/// Consumers whose reports are read.
const REPORTS: usize = 200;

/// A queue at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QueueFigures {
    /// Its name.
    pub queue: QueueName,
    /// Depths and counters.
    pub overview: Overview,
    /// Raw items that wait to be ingested.
    pub inbox: u64,
    /// What was set.
    pub settings: Settings,
    /// How many of the newest hundred jobs are in each state.
    pub jobs: BTreeMap<&'static str, u64>,
}

impl QueueFigures {
    /// With nothing but depths and counters.
    #[must_use]
    pub fn of(queue: QueueName, overview: Overview) -> Self {
        Self {
            queue,
            overview,
            inbox: 0,
            settings: Settings::default(),
            jobs: BTreeMap::new(),
        }
    }
}

/// How the consumers of a queue are, by their own reports.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct CircuitCount {
    /// Consumers by state of their circuit.
    pub circuits: BTreeMap<String, u64>,
    /// The lowest health score among them.
    pub lowest_health: Option<f64>,
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    balance: Vec<Standing>,
}

#[derive(Deserialize)]
struct Standing {
    queue: String,
    health: f64,
    circuit: String,
}

impl Broker {
    /// Depths, counters, settings and jobs of these queues.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn figures(&self, queues: &[QueueName]) -> Result<Vec<QueueFigures>, Error> {
        let mut all = Vec::with_capacity(queues.len());
        for names in queues.chunks(STEP) {
            let calls: Vec<Queue> = names.iter().map(|name| self.queue(name)).collect();
            let (mut figures, jobs) = self.depths(&calls).await?;
            self.states(&calls, &jobs, &mut figures).await?;
            all.append(&mut figures);
        }
        Ok(all)
    }

    async fn depths(&self, calls: &[Queue]) -> Result<(Vec<QueueFigures>, Vec<(usize, JobId)>), Error> {
        let mut pipeline = Pipeline::with_capacity(calls.len() * COMMANDS);
        for queue in calls {
            pipeline.add_command(queue.fcall("overview", &[]));
            pipeline.cmd("LLEN").arg(queue.keys.inbox());
            pipeline.cmd("LLEN").arg(queue.keys.ingesting());
            pipeline.add_command(queue.settings_cmd());
            pipeline
                .cmd("ZREVRANGE")
                .arg(queue.keys.named("jobs"))
                .arg(0)
                .arg(JOBS - 1);
        }
        let mut answers = self.link().pipeline(&pipeline).await?.into_iter();
        let mut next = || {
            answers
                .next()
                .unwrap_or_else(|| Err(Error::Protocol("a short pipeline".to_owned())))
        };
        let (mut figures, mut jobs) = (Vec::with_capacity(calls.len()), Vec::new());
        for (at, queue) in calls.iter().enumerate() {
            let overview = Overview::read(next()?)?;
            let inbox = reply::count(&next()?)? + reply::count(&next()?)?;
            let settings = settings::read(next()?)?;
            let ids = reply::strings(next()?)?;
            jobs.extend(ids.iter().filter_map(|id| Some((at, JobId::new(id).ok()?))));
            figures.push(QueueFigures {
                inbox,
                settings,
                ..QueueFigures::of(queue.name.clone(), overview)
            });
        }
        Ok((figures, jobs))
    }

    async fn states(
        &self,
        calls: &[Queue],
        jobs: &[(usize, JobId)],
        figures: &mut [QueueFigures],
    ) -> Result<(), Error> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(jobs.len());
        for (at, job) in jobs {
            pipeline.cmd("HGET").arg(calls[*at].keys.job_key(job, "")).arg("state");
        }
        for ((at, _), answer) in jobs.iter().zip(self.link().pipeline(&pipeline).await?) {
            // One that went meanwhile, or a damaged record, is no job in any state.
            if let Ok(value) = answer
                && value != Value::Nil
                && let Some(state) = JobState::parse(&reply::string(value)?)
            {
                *figures[*at].jobs.entry(state.as_str()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// How the consumers of these queues are, by their health keys; of more than 200 consumers some.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn circuits(&self, queues: &[QueueName]) -> Result<BTreeMap<String, CircuitCount>, Error> {
        let alive = queues.iter().map(|name| {
            let queue = self.queue(name);
            async move { queue.live_consumers(REPORTS as u64).await }
        });
        let alive = futures_util::future::try_join_all(alive).await?;
        let ids: BTreeSet<&str> = alive.iter().flatten().map(SessionId::process).collect();
        let ids: Vec<SessionId> = ids
            .into_iter()
            .take(REPORTS)
            .map(SessionId::new)
            .collect::<Result<_, _>>()?;
        let mut counts: BTreeMap<String, CircuitCount> = BTreeMap::new();
        for report in self.healths(&ids).await?.into_iter().flatten() {
            // The report is the consumer's own word: what cannot be read says nothing.
            let Ok(report) = serde_json::from_str::<Report>(&report) else {
                continue;
            };
            for standing in report.balance {
                let count = counts.entry(standing.queue).or_default();
                *count.circuits.entry(standing.circuit).or_default() += 1;
                let lowest = count.lowest_health.unwrap_or(f64::INFINITY);
                count.lowest_health = Some(lowest.min(standing.health));
            }
        }
        Ok(counts)
    }
}
