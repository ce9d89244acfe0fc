//! The consumers of an installation: whose lease lives, and what each says of itself.
//!
//! Invariant: alive means a session lease by Redis' clock; the health report is the consumer's own
//! word and may be missing. Reads only.

use std::collections::BTreeMap;

use serde::Serialize;
use workyard_shared::name::{QueueName, SessionId};

use crate::client::Client;
use crate::error::Error;
use crate::moment::Moment;
use crate::raw_json::RawJson;

/// A consumer.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ConsumerView {
    /// Its id, new at every start.
    pub id: String,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// Whether its session lease lives.
    pub alive: bool,
    /// When its latest lease ends, or ended.
    pub lease_ends_at: Moment,
    /// Tasks that it holds.
    pub holds: u64,
    /// Its health report; absent if it does not report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<RawJson>,
}

impl Client {
    /// The consumers of these queues.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn consumers(&self, queues: &[QueueName]) -> Result<Vec<ConsumerView>, Error> {
        let now = self.now().await?;
        let mut found: BTreeMap<String, ConsumerView> = BTreeMap::new();
        for queue in queues {
            let calls = self.queue(queue);
            for (session, ends) in self.patiently(|| calls.consumers()).await? {
                let held = self.patiently(|| calls.held_by(&session)).await?;
                let id = session.process().to_owned();
                let view = found.entry(id.clone()).or_insert_with(|| ConsumerView {
                    id,
                    queues: Vec::new(),
                    alive: false,
                    lease_ends_at: Moment::from_ms(ends),
                    holds: 0,
                    health: None,
                });
                if !view.queues.iter().any(|name| name == queue.as_str()) {
                    view.queues.push(queue.to_string());
                }
                view.lease_ends_at = view.lease_ends_at.max(Moment::from_ms(ends));
                view.alive = view.lease_ends_at > now;
                view.holds += held;
            }
        }
        let mut views: Vec<ConsumerView> = found.into_values().collect();
        let ids: Vec<SessionId> = views
            .iter()
            .map(|view| SessionId::new(&view.id))
            .collect::<Result<_, _>>()?;
        let reports = self.patiently(|| self.inner.broker.healths(&ids)).await?;
        for (view, report) in views.iter_mut().zip(reports) {
            view.health = report.map(|text| RawJson::new(text.into()));
        }
        Ok(views)
    }

    /// The time by Redis' clock.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn now(&self) -> Result<Moment, Error> {
        Ok(Moment::from_ms(self.patiently(|| self.inner.broker.now_ms()).await?))
    }
}
