//! Following a queue: every end, as it happens.
//!
//! Invariant: ends come in Redis' order, each once while the connection lasts. A lost connection or
//! a follower that is too slow is told as a gap, never hidden: what ended in a gap is not told. It is
//! for watching, not for work that must see every end; that waits for its ids.

use tokio::sync::{mpsc, oneshot};
use workyard_shared::Error as CallError;
use workyard_shared::name::QueueName;
use workyard_shared::outage::Patience;

use crate::board::{Ask, Heard};
use crate::client::Client;
use crate::error::Error;
use crate::view::TaskView;

/// Ends that may be in line before a follower misses some.
const LINE: usize = 10_000;
/// Ends whose details are fetched in one call.
const STEP: usize = 100;

/// What a [`Follow`] tells.
#[derive(Debug)]
pub enum News {
    /// A task has ended. Of one whose result is not kept, only id, queue and state are known.
    Ended(Box<TaskView>),
    /// The connection was lost, or this follower was too slow: ends may be missing here.
    Gap,
}

/// A stream of ends; see [`Client::follow`].
#[derive(Debug)]
pub struct Follow {
    client: Client,
    queue: QueueName,
    heard: mpsc::Receiver<Heard>,
    /// The last that was told is a gap: until an end comes, another says no more.
    in_gap: bool,
}

impl Follow {
    /// The next ends, at least one, as soon as there are some.
    ///
    /// # Errors
    /// [`Error::Call`] when Redis refuses, or is away for longer than the waits of this client may.
    pub async fn next(&mut self) -> Result<Vec<News>, Error> {
        let mut heard = Vec::with_capacity(STEP);
        let outages = &self.client.inner.outages;
        // One wait over all gaps of an outage, so that its patience ends.
        let some = async {
            while heard.is_empty() {
                if self.heard.recv_many(&mut heard, STEP).await == 0 {
                    return false;
                }
                heard.retain(|heard| {
                    let is_gap = matches!(heard, Heard::Gap);
                    !(is_gap & std::mem::replace(&mut self.in_gap, is_gap))
                });
            }
            true
        };
        if !outages.outlast(some).await? {
            return Err(workyard_shared::Error::Denied("Redis refuses to tell of ends".to_owned()).into());
        }
        let ids: Vec<&str> = heard
            .iter()
            .filter_map(|h| {
                if let Heard::End(id, _) = h {
                    Some(id.as_str())
                } else {
                    None
                }
            })
            .collect();
        let mut views = self.look_patiently(&ids).await?.into_iter();
        let mut news = Vec::with_capacity(heard.len());
        for heard in heard {
            news.push(match heard {
                Heard::Gap => News::Gap,
                Heard::End(id, state) => {
                    // A dead letter that was retried since is alive again: its end is still told.
                    let view = views.next().flatten().filter(|view| view.state == state);
                    News::Ended(Box::new(
                        view.unwrap_or_else(|| TaskView::bare(&self.queue, &id, state)),
                    ))
                }
            });
        }
        Ok(news)
    }

    /// An outage only makes it later, as it does the wait for ends.
    async fn look_patiently(&self, ids: &[&str]) -> Result<Vec<Option<TaskView>>, Error> {
        let mut pause = Patience::default();
        loop {
            match self.look(ids).await {
                // A client without patience would ask again at once.
                Err(error) if error.is_temporary() && self.client.inner.config.wait_patience.is_none() => {
                    pause.wait().await;
                }
                other => return other,
            }
        }
    }

    /// What is known of them. One that this release cannot read, since a newer one or somebody else stored it, is told as
    /// its id and state; it must not end the stream for all others.
    async fn look(&self, ids: &[&str]) -> Result<Vec<Option<TaskView>>, Error> {
        match self.client.look(&self.queue, ids).await {
            Err(Error::Call(CallError::Protocol(_))) => {}
            other => return other,
        }
        let mut views = Vec::with_capacity(ids.len());
        for id in ids {
            views.push(match self.client.look(&self.queue, &[id]).await {
                Err(Error::Call(CallError::Protocol(_))) => None,
                other => other?.pop().flatten(),
            });
        }
        Ok(views)
    }
}

impl Client {
    /// Begins to follow the ends of a queue; from its return on, none is missed while the connection
    /// lasts.
    ///
    /// # Errors
    /// [`Error::Call`] when Redis refuses, or is away for longer than the waits of this client may.
    pub async fn follow(&self, queue: &QueueName) -> Result<Follow, Error> {
        let (sink, heard) = mpsc::channel(LINE);
        let (ready, subscribed) = oneshot::channel();
        self.inner.board.ask(Ask::Follow {
            queue: self.queue(queue),
            ready,
            sink,
        })?;
        let gone = |_| workyard_shared::Error::Unknown("the client has ended".to_owned());
        self.inner.outages.outlast(subscribed).await?.map_err(gone)??;
        Ok(Follow {
            client: self.clone(),
            queue: queue.clone(),
            heard,
            in_gap: false,
        })
    }
}
