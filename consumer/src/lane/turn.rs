//! One turn on its way: subscribed, sent, and sent again until Redis answers.
//!
//! Invariant: the same turn keeps its number however often it is sent, so a repeat after a lost
//! reply gets the first answer. A claim that Redis refuses is not repeated here: other queues have use for the slots that wait for it.
//! Else only a drain stops it: soon if it only claims (what it may have brought goes back when the
//! session leaves), a moment after the drain time is over if it settles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::error;
use workyard_shared::Error;
use workyard_shared::balance::Rank;
use workyard_shared::broker::{ClaimRequest, Queue, Tries, Turn, TurnAnswer};
use workyard_shared::name::SessionId;
use workyard_shared::outage::Patience;

use crate::fleet::Fleet;
use crate::metrics::Call;
use crate::queues::{Asked, Served};

/// What to send.
pub(super) struct TurnOrder {
    pub(super) turn: Turn,
    pub(super) session: SessionId,
    /// Which connection of the lane's count it is sent on, or on a later one.
    pub(super) connection: u64,
    /// The wake channel, if it must be subscribed to first.
    pub(super) subscribe: Option<String>,
    /// Tasks to claim; 0: none.
    pub(super) wanted: usize,
    pub(super) above: u64,
    /// Where to stand among those that wait; `None`: by the time of parking.
    pub(super) rank: Option<Rank>,
    /// What Redis will be told of suspects.
    pub(super) tries: Tries,
}

/// What became of it.
pub(super) struct TurnDone {
    pub(super) turn: Turn,
    pub(super) session: SessionId,
    pub(super) wanted: usize,
    pub(super) subscribed: bool,
    pub(super) connection: u64,
    pub(super) end: TurnEnd,
}

/// How a turn ended.
pub(super) enum TurnEnd {
    Answered(TurnAnswer),
    /// Redis refuses to let this queue's tasks be claimed.
    ClaimRefused,
    /// The drain was over first; or Redis refused outcomes, and always would.
    GivenUp,
}

impl TurnOrder {
    /// Sends until answered.
    pub(super) async fn send(self, queue: Queue, served: Arc<Served>, fleet: Arc<Fleet>) -> TurnDone {
        let end = tokio::select! {
            end = self.until_answered(&queue, &served, &fleet) => end,
            () = fleet.gives_up(&served, !self.turn.is_empty()) => {
                let tasks = self.turn.completions.len() + self.turn.failures.len();
                if tasks > 0 {
                    error!(tasks, "outcomes could not be delivered before the drain timeout; their tasks will run again");
                }
                TurnEnd::GivenUp
            }
        };
        let subscribed = self.subscribe.is_some() && matches!(end, TurnEnd::Answered(_));
        TurnDone {
            turn: self.turn,
            session: self.session,
            wanted: self.wanted,
            subscribed,
            connection: self.connection,
            end,
        }
    }

    async fn until_answered(&self, queue: &Queue, served: &Served, fleet: &Fleet) -> TurnEnd {
        let asked = if self.turn.is_empty() {
            Asked::Claim
        } else {
            Asked::Settle
        };
        let mut patience = Patience::default();
        loop {
            let sent = Instant::now();
            match self.try_once(queue).await {
                Ok(answer) => {
                    self.measure(fleet, sent.elapsed());
                    // Redis lets one subscribe also while it loads its data and refuses all else.
                    if !self.only_subscribes() {
                        fleet.watch.succeeded();
                        served.refusals.over(&served.name, asked);
                        fleet.progress.link.now();
                    }
                    return TurnEnd::Answered(answer);
                }
                Err(Error::Invalid(why)) if asked == Asked::Settle => {
                    // A rule of the function that this side does not check: a fault of ours. The
                    // tasks stay with this session and run again elsewhere when it ends.
                    error!(%why, "Redis refused a batch of outcomes");
                    return TurnEnd::GivenUp;
                }
                Err(error) => {
                    fleet.failed(served, asked, &error);
                    if self.wanted > 0 && error.is_of_the_call() {
                        return TurnEnd::ClaimRefused;
                    }
                }
            }
            patience.wait().await;
        }
    }

    fn measure(&self, fleet: &Fleet, took: Duration) {
        if self.wanted > 0 {
            fleet.meters.answered(Call::Claim, took);
        } else if !self.turn.is_empty() {
            fleet.meters.answered(Call::Settle, took);
        }
    }

    fn only_subscribes(&self) -> bool {
        self.wanted == 0 && self.turn.is_empty()
    }

    async fn try_once(&self, queue: &Queue) -> Result<TurnAnswer, Error> {
        if let Some(channel) = &self.subscribe {
            // Before the claim that may park: a wake-up that comes right after it is heard.
            queue.link().subscribe(channel).await?;
        }
        let claim = (self.wanted > 0).then_some(ClaimRequest {
            consumer: &self.session,
            most: self.wanted,
            above: self.above,
            park: true,
            rank: self.rank,
            tries: self.tries,
        });
        if self.only_subscribes() {
            return Ok(TurnAnswer::default());
        }
        self.turn.send(queue, &self.session, claim).await
    }
}
