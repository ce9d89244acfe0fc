//! Pushes of the shared connection to the loops that they are for.
//!
//! Invariant: a wake-up is a hint. Losing one costs time until the next poll, never a task; a lost
//! connection is itself told to every lane, which subscribes and looks again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::debug;

use crate::event::{Duty, LaneEvent};

/// Where the news of one queue go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) lane: UnboundedSender<LaneEvent>,
    pub(crate) duty: UnboundedSender<Duty>,
}

/// By the base of each queue's keys; a reload adds and takes.
pub(crate) type Routes = Arc<RwLock<HashMap<String, Route>>>;

/// Routes pushes by channel; `{base}wake:<consumer>` has the queue's key base as its beginning.
pub(crate) struct Switchboard {
    pub(crate) routes: Routes,
}

impl Switchboard {
    /// Runs until the connection's side of the channel is gone.
    pub(crate) async fn run(self, mut pushes: UnboundedReceiver<PushInfo>) {
        while let Some(push) = pushes.recv().await {
            match push.kind {
                PushKind::Disconnection => {
                    for route in self.routes.read().unwrap_or_else(PoisonError::into_inner).values() {
                        // A lane that has ended needs no news.
                        route.lane.send(LaneEvent::Disconnected).ok();
                    }
                }
                PushKind::SMessage => self.deliver(&push.data),
                // In a cluster: the slot is another node's now.
                PushKind::SUnsubscribe => self.unsubscribed(&push.data),
                _ => {}
            }
        }
    }

    fn unsubscribed(&self, data: &[Value]) {
        if let Some(Value::BulkString(channel)) = data.first()
            && let Some(route) = self.route(&String::from_utf8_lossy(channel))
        {
            route.lane.send(LaneEvent::Disconnected).ok();
        }
    }

    fn route(&self, channel: &str) -> Option<Route> {
        let (base, _) = channel.rsplit_once("wake:")?;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(base).cloned()
    }

    fn deliver(&self, data: &[Value]) {
        let [Value::BulkString(channel), Value::BulkString(message)] = data else {
            return debug!("a push of an unknown form");
        };
        let (channel, message) = (String::from_utf8_lossy(channel), String::from_utf8_lossy(message));
        let Some(route) = self.route(&channel) else {
            return;
        };
        if let Some(("cancel", id)) = message.split_once(' ') {
            route.lane.send(LaneEvent::Cancel(id.to_owned())).ok();
            return;
        }
        let duty = match &*message {
            "due" => Duty::Due,
            "look" => Duty::Look,
            "jobs" => Duty::Jobs,
            _ => {
                route.lane.send(LaneEvent::Work).ok();
                return;
            }
        };
        route.duty.send(duty).ok();
    }
}
