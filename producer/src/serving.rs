//! Who serves a queue at this moment, for one who is about to give it work.
//!
//! Invariant: alive means a session lease by Redis' clock; healthy means that the consumer's own report says nothing
//! else (`"healthy": false`, or that it drains). A consumer without a report counts: the report is advisory. Two
//! round trips, however many consumers there are.

use std::collections::BTreeSet;

use serde::Deserialize;
use workyard_shared::name::{QueueName, SessionId};

use crate::client::Client;
use crate::error::Error;

/// Sessions that one look sees.
const SEEN: u64 = 1000;
/// Sessions that are asked first: one healthy one among them is enough to know that the queue is served.
const FIRST: u64 = 16;

/// Who serves a queue.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Serving {
    /// Consumers whose lease lives.
    pub alive: u64,
    /// Those of them that neither drain nor say that they are unhealthy.
    pub healthy: u64,
    /// Tasks that the healthy ones can run at once; one that does not say how many counts as one.
    pub slots: u64,
    /// Tasks per second that those slots would run by their consumers' mean run times; 0 while nobody has run any.
    pub rate: f64,
}

/// The kinds that somebody has a handler for, as far as all who could have one say so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Known {
    kinds: BTreeSet<String>,
    /// One did not say, or was not asked.
    incomplete: bool,
}

/// What matters here of a health report.
#[derive(Debug, Deserialize)]
struct Report {
    healthy: Option<bool>,
    draining: Option<bool>,
    capacity: Option<u64>,
    mean_run_ms: Option<f64>,
    kinds: Option<Vec<String>>,
    #[serde(default)]
    balance: Vec<Standing>,
}

/// How it stands in one queue.
#[derive(Debug, Deserialize)]
struct Standing {
    queue: String,
    circuit: Option<String>,
}

impl Report {
    /// Whether it says that it is not well in this queue: its circuit there, or if it speaks of none, the whole of it.
    fn is_unwell(&self, queue: &str) -> bool {
        let standing = self.balance.iter().find(|standing| standing.queue == queue);
        match standing.and_then(|standing| standing.circuit.as_deref()) {
            Some(circuit) => matches!(circuit, "open" | "probing"),
            None => self.healthy == Some(false),
        }
    }
}

impl Serving {
    fn count(&mut self, queue: &str, report: Option<&str>, known: &mut Known) {
        self.alive += 1;
        // What cannot be read says nothing against it.
        let mut report = report.and_then(|text| serde_json::from_str::<Report>(text).ok());
        let said = |what: &dyn Fn(&Report) -> bool| report.as_ref().is_some_and(what);
        if said(&|report| report.is_unwell(queue)) || said(&|report| report.draining == Some(true)) {
            return;
        }
        self.healthy += 1;
        match report.as_mut().and_then(|report| report.kinds.take()) {
            Some(kinds) => known.kinds.extend(kinds),
            None => known.incomplete = true,
        }
        let slots = report.as_ref().and_then(|report| report.capacity).unwrap_or(1);
        self.slots += slots;
        if let Some(mean) = report.and_then(|report| report.mean_run_ms).filter(|mean| *mean > 0.0) {
            self.rate += slots as f64 * 1000.0 / mean;
        }
    }
}

impl Client {
    /// Who serves the queue now; of more than 1,000 sessions those with the latest heartbeats.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn serving(&self, queue: &QueueName) -> Result<Serving, Error> {
        Ok(self.serving_among(queue, SEEN).await?.0)
    }

    /// Refuses a queue that no healthy consumer serves now.
    ///
    /// # Errors
    /// [`Error::NoConsumer`] says so; [`Error::Call`].
    pub async fn require_consumer(&self, queue: &QueueName) -> Result<(), Error> {
        self.kinds_served(queue, |_| true).await.map(drop)
    }

    /// The same; and if no healthy consumer of it has a handler for this kind, the kinds that they have handlers for. `None`
    /// if one has, or does not say. A task of such a kind waits, and is dead-lettered as `no-handler` in the end.
    ///
    /// # Errors
    /// As [`Client::require_consumer`].
    pub async fn require_consumer_of(&self, queue: &QueueName, kind: &str) -> Result<Option<Vec<String>>, Error> {
        let may_serve = |known: &Known| known.incomplete || known.kinds.contains(kind);
        let known = self.kinds_served(queue, may_serve).await?;
        Ok((!may_serve(&known)).then(|| known.kinds.into_iter().collect()))
    }

    /// What the healthy consumers know: of the first few if that is `enough`, else of all.
    async fn kinds_served(&self, queue: &QueueName, enough: impl Fn(&Known) -> bool) -> Result<Known, Error> {
        let (mut serving, mut known) = self.serving_among(queue, FIRST).await?;
        if serving.alive > 0 && !(serving.healthy > 0 && enough(&known)) {
            (serving, known) = self.serving_among(queue, SEEN).await?;
            known.incomplete |= serving.alive >= SEEN;
        }
        if serving.healthy > 0 {
            return Ok(known);
        }
        Err(Error::NoConsumer {
            queue: queue.to_string(),
            alive: serving.alive,
        })
    }

    async fn serving_among(&self, queue: &QueueName, most: u64) -> Result<(Serving, Known), Error> {
        let calls = self.queue(queue);
        let sessions = self.patiently(|| calls.live_consumers(most)).await?;
        let ids: BTreeSet<&str> = sessions.iter().map(SessionId::process).collect();
        let ids: Vec<SessionId> = ids.into_iter().map(SessionId::new).collect::<Result<_, _>>()?;
        let reports = self.patiently(|| self.inner.broker.healths(&ids)).await?;
        let mut serving = Serving::default();
        let mut known = Known::default();
        for report in reports {
            serving.count(queue.as_str(), report.as_deref(), &mut known);
        }
        Ok((serving, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drains_or_is_unhealthy_is_alive_and_does_not_count() {
        let of = |report: Option<&str>| {
            let mut serving = Serving::default();
            serving.count("q", report, &mut Known::default());
            (serving.healthy, serving.slots, serving.rate)
        };
        assert_eq!(of(None), (1, 1, 0.0), "no report says nothing against it");
        assert_eq!(of(Some("junk")), (1, 1, 0.0));
        assert_eq!(of(Some(r#"{"capacity":8,"draining":false}"#)), (1, 8, 0.0));
        assert_eq!(
            of(Some(r#"{"capacity":8,"healthy":true,"mean_run_ms":200}"#)),
            (1, 8, 40.0)
        );
        assert_eq!(
            of(Some(r#"{"capacity":8,"draining":true,"mean_run_ms":200}"#)),
            (0, 0, 0.0)
        );
        assert_eq!(of(Some(r#"{"capacity":8,"healthy":false}"#)), (0, 0, 0.0));
        let standing = |queue: &str, circuit: &str| {
            let balance = format!(r#"[{{"queue":"{queue}","circuit":"{circuit}"}}]"#);
            of(Some(&format!(
                r#"{{"capacity":8,"healthy":false,"balance":{balance}}}"#
            )))
        };
        assert_eq!(
            standing("q", "closed"),
            (1, 8, 0.0),
            "another queue's circuit is no matter here"
        );
        assert_eq!(standing("q", "probing"), (0, 0, 0.0));
        assert_eq!(standing("other", "closed"), (0, 0, 0.0));
    }
}
