//! The doctor: looks for everything that breaks an invariant of the protocol, while the queue is at work, and mends it.
//!
//! Invariant: nothing is told that was not seen twice, some time apart, each time in one call of a function or in a name that
//! does not come back; nothing is mended that is not wrong in the very call that mends it. Every step is bounded.

mod ailment;
mod key;
mod inventory;
mod ward;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

pub use ailment::Ailment;

use crate::client::Client;
use crate::error::Error;
use inventory::Inventory;
use ward::Ward;
use workyard_shared::name::QueueName;

/// Between the two looks that a finding has to survive: longer than the maintainer takes for what it mends itself.
const PAUSE: Duration = Duration::from_secs(2);
/// Findings of one look; more are found by the next one.
const MOST_FOUND: usize = 10_000;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What it is.
    #[serde(rename = "finding")]
    pub ailment: Ailment,
    /// The queue, with its partition if that is not 0; none of what belongs to no queue.
    pub queue: Option<String>,
    /// With what: a task, a consumer, a key.
    #[serde(serialize_with = "as_text")]
    pub subject: Bytes,
}

fn as_text<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Queues, each partition for itself.
    pub queues: u64,
    /// Keys.
    pub keys: u64,
    /// Ids in all places, results included.
    pub ids: u64,
    /// Consumers.
    pub consumers: u64,
    /// Map-reduce jobs.
    pub jobs: u64,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// What is still wrong.
    pub findings: Vec<Finding>,
    /// What was mended.
    pub repaired: Vec<Finding>,
    /// What was looked at, the first time.
    pub looked_at: Looked,
}

impl Client {
    /// Looks for what breaks an invariant of the protocol, in one queue or all, while they are at work; and mends it, if that is
    /// asked for.
    ///
    /// # Errors
    /// [`Error::Call`]; what was mended before stays so.
    pub async fn doctor(&self, queue: Option<&QueueName>, repair: bool) -> Result<Diagnosis, Error> {
        let mut diagnosis = Diagnosis::default();
        let (mut found, looked_at) = self.look_twice(queue).await?;
        diagnosis.looked_at = looked_at;
        if repair {
            loop {
                let mended = self.mend_all(&found).await?;
                if mended.is_empty() {
                    break;
                }
                diagnosis.repaired.extend(mended);
                (found, _) = self.look_twice(queue).await?;
            }
        }
        diagnosis.findings = found.into_iter().collect();
        Ok(diagnosis)
    }

    /// What two looks agree on.
    async fn look_twice(&self, queue: Option<&QueueName>) -> Result<(BTreeSet<Finding>, Looked), Error> {
        let (first, looked_at) = self.look_once(queue).await?;
        if first.is_empty() {
            return Ok((first, looked_at));
        }
        tokio::time::sleep(PAUSE).await;
        let (second, _) = self.look_once(queue).await?;
        Ok((&first & &second, looked_at))
    }

    async fn look_once(&self, queue: Option<&QueueName>) -> Result<(BTreeSet<Finding>, Looked), Error> {
        let inventory = Inventory::take(self, queue).await?;
        let mut looked_at = Looked {
            keys: inventory.keys,
            ..Looked::default()
        };
        let mut found: BTreeSet<Finding> = inventory.findings.iter().cloned().collect();
        for (place, holdings) in &inventory.queues {
            let ward = Ward::new(self, place, holdings);
            found.extend(ward.look(&mut looked_at).await?);
            if found.len() > MOST_FOUND {
                break;
            }
        }
        Ok((found, looked_at))
    }

    /// What of it could be mended, and was.
    async fn mend_all(&self, found: &BTreeSet<Finding>) -> Result<Vec<Finding>, Error> {
        let mut mended = Vec::new();
        let curable: Vec<&Finding> = found.iter().filter(|finding| finding.ailment.is_curable()).collect();
        if curable.is_empty() {
            return Ok(mended);
        }
        for finding in curable.iter().filter(|finding| finding.ailment == Ailment::NoTtl) {
            if inventory::expire(self, finding).await? {
                mended.push((*finding).clone());
            }
        }
        let inventory = Inventory::take(self, None).await?;
        for (place, holdings) in &inventory.queues {
            let name = place.to_string();
            let here: Vec<&Finding> = curable
                .iter()
                .copied()
                .filter(|finding| finding.queue.as_ref() == Some(&name))
                .collect();
            if !here.is_empty() {
                mended.extend(Ward::new(self, place, holdings).mend(&here).await?);
            }
        }
        Ok(mended)
    }
}
