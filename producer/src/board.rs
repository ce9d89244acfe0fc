//! The board: who waits for which task, and the pushes of the shared connection that tell it.
//!
//! One task owns all of this, so nothing is locked. Invariant: a waiter is told once, by the message
//! on the waiter's channel, or by the look that follows each subscription, each lost connection and
//! every few seconds; a message that is lost costs time, never an answer. The looking itself is done
//! by `room.rs` in tasks of their own, so that no push waits behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{mpsc, oneshot};
use workyard_shared::broker::Queue;
use workyard_shared::name::SessionId;
use workyard_shared::record::{Ended, State};

use crate::error::Error;
use crate::outages::Outages;
use crate::room::{Room, Tended};

/// How often outstanding waits are looked at although nothing was heard: the guarantee.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a client asks of the board.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Tell `end` when the task ends; `ready` when the channel is subscribed. `look`: the task is
    /// there already (or was), so look at once; else only from [`Ask::Look`] on.
    Wait {
        queue: Queue,
        id: String,
        look: bool,
        ready: Option<oneshot::Sender<Result<(), Error>>>,
        end: End,
    },
    /// The task is enqueued now. `unheard`: not by us with our name on it, so look at once.
    Look { queue: Queue, id: String, unheard: bool },
    /// Tell `sink` of every end in the queue.
    Follow {
        queue: Queue,
        ready: oneshot::Sender<Result<(), Error>>,
        sink: mpsc::Sender<Heard>,
    },
}

/// Where the end of a task goes.
pub(crate) type End = oneshot::Sender<Result<Ended, Error>>;

/// What a follower hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A task ended.
    End(String, State),
    /// Ends may have been missed.
    Gap,
}

/// The way to the board's task, which ends with the last of these.
#[derive(Debug)]
pub(crate) struct Board {
    asks: mpsc::UnboundedSender<Ask>,
    /// The waiter session of this client.
    pub(crate) session: SessionId,
}

impl Board {
    pub(crate) fn start(pushes: mpsc::UnboundedReceiver<PushInfo>, outages: Arc<Outages>) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let (report, reports) = mpsc::unbounded_channel();
        let session = SessionId::fresh();
        let desk = Desk {
            session: session.clone(),
            rooms: HashMap::new(),
            connection: 0,
            report,
            outages,
        };
        tokio::spawn(desk.run(asked, pushes, reports));
        Self { asks, session }
    }

    pub(crate) fn ask(&self, ask: Ask) -> Result<(), Error> {
        let gone = |_| workyard_shared::Error::Unknown("the client has ended".to_owned());
        Ok(self.asks.send(ask).map_err(gone)?)
    }
}

struct Desk {
    session: SessionId,
    rooms: HashMap<String, Room>,
    /// Counts lost connections: what was subscribed before the last one is not any more.
    connection: u64,
    report: mpsc::UnboundedSender<Tended>,
    /// What the looks say of Redis.
    outages: Arc<Outages>,
}

impl Desk {
    async fn run(
        mut self,
        mut asks: mpsc::UnboundedReceiver<Ask>,
        mut pushes: mpsc::UnboundedReceiver<PushInfo>,
        mut reports: mpsc::UnboundedReceiver<Tended>,
    ) {
        let mut look = tokio::time::interval(LOOK_EVERY.mul_f64(0.9 + fastrand::f64() / 5.0));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => return,
                },
                Some(push) = pushes.recv() => self.hear(push),
                Some(tended) = reports.recv() => {
                    // What Redis sent before that answer is in the channel already: a task that
                    // ended without keeping its result is told by its message, not as unknown.
                    while let Ok(push) = pushes.try_recv() {
                        self.hear(push);
                    }
                    self.settle(tended);
                }
                _ = look.tick() => self.look(),
            }
        }
    }

    fn room(&mut self, queue: Queue) -> &mut Room {
        let base = queue.keys().named("");
        self.rooms.entry(base).or_insert_with(|| Room::new(queue))
    }

    fn take(&mut self, ask: Ask) {
        let (connection, session, report) = (self.connection, self.session.clone(), self.report.clone());
        let queue = match &ask {
            Ask::Wait { queue, .. } | Ask::Look { queue, .. } | Ask::Follow { queue, .. } => queue.clone(),
        };
        let room = self.room(queue);
        match ask {
            Ask::Wait {
                id, look, ready, end, ..
            } => room.wait(id, look, ready, end, connection),
            Ask::Look { id, unheard, .. } => room.enqueued(&id, unheard),
            Ask::Follow { ready, sink, .. } => room.follow(ready, sink),
        }
        room.tend(&session, connection, &report);
    }

    fn settle(&mut self, tended: Tended) {
        if let Some(room) = self.rooms.get_mut(&tended.base) {
            let failure = tended.failure();
            room.settle(tended, self.connection);
            // Only now: who has an answer all the same needs no patience.
            match failure {
                Some(error) => self.outages.failed(&error),
                None => self.outages.succeeded(),
            }
            room.tend(&self.session, self.connection, &self.report);
        }
    }

    fn look(&mut self) {
        for room in self.rooms.values_mut() {
            room.look_again();
            room.tend(&self.session, self.connection, &self.report);
        }
    }

    fn hear(&mut self, push: PushInfo) {
        match push.kind {
            // The latter in a cluster: the slot is another node's now.
            PushKind::Disconnection | PushKind::SUnsubscribe => {
                self.connection += 1;
                for room in self.rooms.values_mut() {
                    room.disconnected();
                    room.tend(&self.session, self.connection, &self.report);
                }
            }
            PushKind::SMessage => self.deliver(push.data),
            _ => {}
        }
    }

    fn deliver(&mut self, data: Vec<Value>) {
        let mut data = data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(message))) = (data.next(), data.next()) else {
            return tracing::debug!("a push of an unknown form");
        };
        let channel = String::from_utf8_lossy(&channel).into_owned();
        let message = Bytes::from(message);
        if let Some(room) = channel
            .strip_suffix("finished")
            .and_then(|base| self.rooms.get_mut(base))
        {
            room.finished(&message);
        } else if let Some((base, _)) = channel.rsplit_once("done:")
            && let Some(room) = self.rooms.get_mut(base)
        {
            room.done(&message);
        }
    }
}
