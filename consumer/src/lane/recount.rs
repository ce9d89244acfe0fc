//! After the connection was lost: what does Redis say that this lane holds?
//!
//! A Redis that lost the tail of its log (`appendfsync everysec`, a failover) comes back with tasks in our hands that
//! we had settled already. Our session lives, so nobody would ever reclaim them: they are handed back here.
//!
//! Invariant: only what was received, is not held, and waits for no settle is handed back. The look begins while no
//! settle is under way, with a list of all that is ours then; what is claimed later has a greater token. Should it be
//! wrong all the same, the fence refuses it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::{debug, warn};
use workyard_shared::Error;
use workyard_shared::name::SessionId;
use workyard_shared::outage::Patience;

use super::Lane;

/// Whom was asked for, and what of its tasks nobody here knows: id and token.
pub(super) type Recounted = (SessionId, Vec<(String, u64)>);

/// The look at Redis, when there is one to take.
#[derive(Default)]
pub(super) struct Recount {
    pub(super) due: bool,
    pub(super) under_way: Option<BoxFuture<'static, Recounted>>,
}

impl Lane {
    /// Asks Redis what this session holds, if that is due. To be called before the next settle is sent.
    pub(super) fn next_recount(&mut self) {
        if !self.recount.due || self.recount.under_way.is_some() || self.settling.is_some() {
            return;
        }
        let Some(session) = self.session.as_ref().map(|s| s.session.clone()) else {
            return;
        };
        self.recount.due = false;
        let ours: HashSet<(String, u64)> = self.held.claims().chain(self.outbox.claims()).collect();
        let (queue, above) = (self.queue.clone(), self.above);
        self.recount.under_way = Some(Box::pin(async move {
            let mut patience = Patience::default();
            loop {
                match queue.holds(&session).await {
                    Ok(mut held) => {
                        held.retain(|claim| claim.1 <= above && !ours.contains(claim));
                        return (session, held);
                    }
                    // A login that is refused costs the connection, and what is subscribed there: asking again at once would be told of
                    // that, and ask again.
                    Err(error) if error.is_temporary() || matches!(error, Error::Denied(_)) => {
                        debug!(%error, "cannot look yet which tasks this consumer holds");
                        patience.wait().await;
                    }
                    Err(error) => {
                        warn!(%error, "cannot look which tasks this consumer holds");
                        return (session, Vec::new());
                    }
                }
            }
        }));
    }

    pub(super) fn finish_recount(&mut self, (session, unknown): Recounted) {
        let current = self.session.as_ref().is_some_and(|s| s.session == session);
        if !current || unknown.is_empty() {
            return;
        }
        warn!(
            queue = %self.queue.name(), tasks = unknown.len(),
            "Redis has lost the tail of its log: {} tasks that had been settled run again", unknown.len()
        );
        for (id, token) in unknown {
            self.outbox.release(id, token, Duration::ZERO);
        }
    }
}
