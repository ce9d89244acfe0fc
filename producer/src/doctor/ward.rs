//! One queue partition under examination: every id that stands anywhere, its consumers, its jobs, its state.
//!
//! Invariant: ids are gathered by bounded scans, and judged by functions; a scan alone convicts nobody, except of bytes that
//! cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use workyard_shared::broker::{Care, Odd, Queue};
use workyard_shared::job::Member;
use workyard_shared::name::{JobId, SessionId};
use workyard_shared::record::{Ended, Record};

use super::ailment::Ailment;
use super::inventory::Holdings;
use super::key::Place;
use super::{Finding, Looked, MOST_FOUND};
use crate::client::Client;
use crate::error::Error;

/// Sorted sets that hold ids, and hashes by id.
const SORTED: [&str; 5] = ["pending", "scheduled", "failed", "done", "expiring"];
const HASHES: [&str; 4] = ["tasks", "meta", "results", "waiters"];
/// Items of a page at first and at most; bytes at which it gets smaller.
const FIRST_PAGE: usize = 20;
const LARGEST_PAGE: usize = 500;
const PAGE_BYTES: usize = 1 << 20;
/// Looks (an id in the hash of a consumer) of one call, and ids.
const LOOKS: usize = 20_000;
const IDS: usize = 200;
/// How often the consumers are listed anew because one has come.
const TRIES: usize = 20;
/// The fields of `waiters` that are no tasks.
const JOB_WAITER: &[u8] = b"job ";

/// A queue partition.
pub(super) struct Ward<'a> {
    client: &'a Client,
    place: &'a Place,
    holdings: &'a Holdings,
    queue: Queue,
}

impl<'a> Ward<'a> {
    pub(super) fn new(client: &'a Client, place: &'a Place, holdings: &'a Holdings) -> Self {
        Self {
            client,
            place,
            holdings,
            queue: client.broker().partition(&place.queue, place.partition),
        }
    }

    fn finding(&self, ailment: Ailment, subject: impl Into<Bytes>) -> Finding {
        Finding {
            ailment,
            queue: Some(self.place.to_string()),
            subject: subject.into(),
        }
    }

    fn told(&self, odds: Vec<Odd>) -> impl Iterator<Item = Finding> {
        odds.into_iter().filter_map(|odd| {
            // A library of a newer release may know more than this program.
            let ailment = Ailment::parse(&odd.finding)?;
            Some(self.finding(ailment, odd.subject))
        })
    }

    /// Everything that seems wrong now.
    pub(super) async fn look(&self, looked_at: &mut Looked) -> Result<BTreeSet<Finding>, Error> {
        let mut found = BTreeSet::new();
        looked_at.queues += 1;
        if self.holdings.broken {
            return Ok(found);
        }
        let state = self.client.patiently(|| self.queue.checkup(Care::Look)).await?;
        found.extend(self.told(state));
        self.look_at_sessions(looked_at, &mut found).await?;
        for name in HASHES {
            self.look_through(name, false, looked_at, &mut found).await?;
        }
        for name in SORTED {
            self.look_through(name, true, looked_at, &mut found).await?;
        }
        for consumer in &self.holdings.running {
            self.look_through(&format!("running:{consumer}"), false, looked_at, &mut found)
                .await?;
        }
        for job in self.jobs().await? {
            looked_at.jobs += 1;
            found.extend(self.judge(Care::Look, Some(&job), true, &[]).await?);
        }
        Ok(found)
    }

    async fn look_at_sessions(&self, looked_at: &mut Looked, found: &mut BTreeSet<Finding>) -> Result<(), Error> {
        // Behind the scan: a session is registered before it has a key, so who is missing here has ended, or never was.
        let known = self.consumers().await?;
        looked_at.consumers += known.len() as u64;
        for consumer in self.holdings.running.difference(&known) {
            found.insert(self.finding(Ailment::Orphaned, consumer.to_string()));
        }
        for consumer in self.holdings.sessions.difference(&known) {
            if !self.holdings.running.contains(consumer) {
                found.insert(self.finding(Ailment::LeftSession, consumer.to_string()));
            }
        }
        Ok(())
    }

    async fn consumers(&self) -> Result<BTreeSet<SessionId>, Error> {
        let consumers = self.client.patiently(|| self.queue.consumers()).await?;
        Ok(consumers.into_iter().map(|(id, _)| id).collect())
    }

    /// Jobs by their keys and by the two sets.
    async fn jobs(&self) -> Result<BTreeSet<JobId>, Error> {
        let mut jobs = self.holdings.jobs.clone();
        for name in ["jobs", "jobs:due"] {
            let mut cursor = 0;
            loop {
                let key = self.queue.keys().named(name);
                let page = self
                    .client
                    .patiently(|| self.queue.scan(&key, true, cursor, IDS))
                    .await?;
                let names = page.items.iter().filter_map(|(id, _)| std::str::from_utf8(id).ok());
                jobs.extend(names.filter_map(|id| JobId::new(id).ok()));
                cursor = page.next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(jobs)
    }

    /// All ids of one key, a page at a time.
    async fn look_through(
        &self,
        name: &str,
        sorted: bool,
        looked_at: &mut Looked,
        found: &mut BTreeSet<Finding>,
    ) -> Result<(), Error> {
        let key = self.queue.keys().named(name);
        let (mut cursor, mut count) = (0, FIRST_PAGE);
        while found.len() < MOST_FOUND {
            let page = self
                .client
                .patiently(|| self.queue.scan(&key, sorted, cursor, count))
                .await?;
            looked_at.ids += page.items.len() as u64;
            for (id, value) in &page.items {
                found.extend(unreadable(name, value).map(|ailment| self.finding(ailment, id.clone())));
            }
            let bytes: usize = page.items.iter().map(|(_, value)| value.len()).sum();
            count = if bytes > PAGE_BYTES {
                (count / 4).max(1)
            } else {
                (count * 2).min(LARGEST_PAGE)
            };
            let ids: Vec<Bytes> = page.items.into_iter().map(|(id, _)| id).collect();
            found.extend(self.judge_ids(Care::Look, &ids).await?);
            cursor = page.next;
            if cursor == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Judges ids, each step with its job.
    async fn judge_ids(&self, care: Care, ids: &[Bytes]) -> Result<Vec<Finding>, Error> {
        let mut by_job: BTreeMap<Option<JobId>, Vec<Bytes>> = BTreeMap::new();
        for id in ids.iter().filter(|id| !id.starts_with(JOB_WAITER)) {
            let step = std::str::from_utf8(id).ok().and_then(Member::of_task);
            by_job.entry(step.map(|(job, ..)| job)).or_default().push(id.clone());
        }
        let mut found = Vec::new();
        for (job, ids) in by_job {
            found.extend(self.judge(care, job.as_ref(), false, &ids).await?);
        }
        Ok(found)
    }

    /// Judges ids that all are steps of `job`, or no steps; and the job itself, if `whole`.
    async fn judge(&self, care: Care, job: Option<&JobId>, whole: bool, ids: &[Bytes]) -> Result<Vec<Finding>, Error> {
        let (mut found, mut from, mut tries) = (Vec::new(), 0, 0);
        loop {
            let mut holders = self.consumers().await?;
            holders.extend(self.holdings.running.iter().cloned());
            let running: Vec<String> = holders.iter().map(|id| self.queue.keys().running(id)).collect();
            let most = (LOOKS / (running.len() + 2)).clamp(1, IDS);
            let chunk = &ids[from..ids.len().min(from + most)];
            let odds = match job {
                Some(job) => {
                    let call = || self.queue.job_examine(care, job, &running, whole, chunk);
                    self.client.patiently(call).await?
                }
                None => {
                    let call = || self.queue.examine(care, &running, chunk);
                    self.client.patiently(call).await?
                }
            };
            tries += 1;
            if let Some(odds) = odds {
                found.extend(self.told(odds));
                (from, tries) = (from + chunk.len(), 0);
            } else if tries >= TRIES {
                // Consumers come faster than they can be listed: unjudged is not convicted.
                from += chunk.len();
                tries = 0;
            }
            if from >= ids.len() && tries == 0 {
                return Ok(found);
            }
        }
    }

    /// Mends what is still wrong of these findings, which are of this queue: what was mended.
    pub(super) async fn mend(&self, findings: &[&Finding]) -> Result<Vec<Finding>, Error> {
        if self.holdings.broken {
            return Ok(Vec::new());
        }
        let mut mended: Vec<Finding> = Vec::new();
        let (mut ids, mut sessions, mut jobs, mut state) = (BTreeSet::new(), Vec::new(), BTreeSet::new(), false);
        for finding in findings {
            let text = std::str::from_utf8(&finding.subject).unwrap_or_default();
            match finding.ailment {
                Ailment::BadState
                | Ailment::BadCounter
                | Ailment::Drifted
                | Ailment::BadConsumer
                | Ailment::EndlessLease
                | Ailment::Parked => state = true,
                Ailment::Orphaned | Ailment::LeftSession => sessions.push(*finding),
                Ailment::GhostJob
                | Ailment::UntendedJob
                | Ailment::JobCounts
                | Ailment::JobStuck
                | Ailment::LostOutput
                | Ailment::LostChunk => {
                    jobs.extend(JobId::new(text).ok());
                }
                Ailment::NoStep => jobs.extend(Member::of_task(text).map(|(job, ..)| job)),
                Ailment::NoTtl => {}
                _ => {
                    ids.insert(finding.subject.clone());
                }
            }
        }
        if state {
            let odds = self.client.patiently(|| self.queue.checkup(Care::Mend)).await?;
            mended.extend(self.told(odds));
        }
        let ids: Vec<Bytes> = ids.into_iter().collect();
        mended.extend(self.judge_ids(Care::Mend, &ids).await?);
        for finding in sessions {
            let name = std::str::from_utf8(&finding.subject).unwrap_or_default();
            if let Ok(consumer) = SessionId::new(name) {
                self.client.patiently(|| self.queue.adopt(&consumer)).await?;
                mended.push(finding.clone());
            }
        }
        for job in jobs {
            mended.extend(self.judge(Care::Mend, Some(&job), true, &[]).await?);
        }
        mended.retain(|finding| finding.ailment.is_curable());
        Ok(mended)
    }
}

/// What of a value this release cannot read.
fn unreadable(name: &str, value: &Bytes) -> Option<Ailment> {
    match name {
        "tasks" if Record::parse(value.clone()).is_err() => Some(Ailment::Unreadable),
        "results" if Ended::parse(value).is_err() => Some(Ailment::UnreadableResult),
        _ => None,
    }
}
