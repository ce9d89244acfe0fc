//! All keys of the installation, sorted by what they are: one bounded SCAN of each server.
//!
//! Invariant: only names, types and times to live are read. What a key holds is for the ward of its queue.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use workyard_shared::broker::KeyFacts;
use workyard_shared::name::{JobId, QueueName, SessionId};

use super::ailment::Ailment;
use super::key::{self, Part, Place};
use super::{Finding, MOST_FOUND};
use crate::client::Client;
use crate::error::Error;

/// What a queue has, by the names of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Consumers that hold, or held, something.
    pub(super) running: BTreeSet<SessionId>,
    /// Consumers whose session is, or was, here.
    pub(super) sessions: BTreeSet<SessionId>,
    /// Jobs.
    pub(super) jobs: BTreeSet<JobId>,
    /// A key has a wrong type: the functions would fail.
    pub(super) broken: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) queues: BTreeMap<Place, Holdings>,
    pub(super) findings: Vec<Finding>,
    pub(super) keys: u64,
}

impl Inventory {
    /// Scans the servers; `only`: what is not of this queue is left out.
    pub(super) async fn take(client: &Client, only: Option<&QueueName>) -> Result<Self, Error> {
        let mut inventory = Self::default();
        let broker = client.broker();
        for server in client.patiently(|| broker.link().servers()).await? {
            let mut cursor = 0;
            loop {
                let (next, facts) = client.patiently(|| broker.scan_keys(&server, cursor)).await?;
                for fact in facts {
                    inventory.note(client, only, fact);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(inventory)
    }

    fn note(&mut self, client: &Client, only: Option<&QueueName>, fact: KeyFacts) {
        if fact.kind == "none" {
            return; // it has gone since
        }
        let known = key::read(client.broker().prefix(), &fact.key);
        let place = known.as_ref().and_then(|known| known.place.as_ref());
        if only.is_some_and(|only| place.is_none_or(|(place, _)| place.queue != *only)) {
            return;
        }
        self.keys += 1;
        let queue = place.map(|(place, _)| place.to_string());
        let Some(known) = known else {
            return self.find(Ailment::Foreign, queue, fact.key);
        };
        let wrong = known.kind != fact.kind;
        if wrong {
            self.find(Ailment::WrongType, queue, fact.key);
        } else if known.ttl.is_some() && !fact.expires {
            self.find(Ailment::NoTtl, queue, fact.key);
        }
        if let Some((place, part)) = known.place {
            let holdings = self.queues.entry(place).or_default();
            holdings.broken |= wrong;
            match part {
                Part::Own => false,
                Part::Running(id) => holdings.running.insert(id),
                Part::Session(id) => holdings.sessions.insert(id),
                Part::Job(id) => holdings.jobs.insert(id),
            };
        }
    }

    fn find(&mut self, ailment: Ailment, queue: Option<String>, subject: Bytes) {
        if self.findings.len() < MOST_FOUND {
            self.findings.push(Finding {
                ailment,
                queue,
                subject,
            });
        }
    }
}

/// Gives a key the time to live that it should have: whether it had none.
pub(super) async fn expire(client: &Client, finding: &Finding) -> Result<bool, Error> {
    let broker = client.broker();
    let Some(ttl) = key::read(broker.prefix(), &finding.subject).and_then(|known| known.ttl) else {
        return Ok(false);
    };
    client
        .patiently(|| broker.expire_unless_it_does(&finding.subject, ttl))
        .await
}
