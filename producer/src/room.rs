//! One queue of the board: its waiters and followers, and the calls that keep them informed.
//!
//! Invariant: one look at a time per queue. A look subscribes first and asks then, so that no end
//! falls between the two; it renews the following in the same go. What it finds is applied by the
//! board's task. It decides nothing by time of its own.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use workyard_shared::Error as CallError;
use workyard_shared::Outage;
use workyard_shared::broker::{Queue, Waited};
use workyard_shared::job::JobState;
use workyard_shared::limits::MAX_BATCH;
use workyard_shared::name::{JobId, SessionId};
use workyard_shared::outage::Patience;
use workyard_shared::record::{Ended, State};

use crate::board::{End, Heard};
use crate::error::Error;

/// For how long Redis publishes ends after each renewal; a few times the pause between looks.
const FOLLOW_SPAN: Duration = Duration::from_secs(20);

/// What the name of a job begins with among the ids that are waited for. No id of a task has a space.
pub(crate) const JOB: &str = "job ";

type Ready = oneshot::Sender<Result<(), Error>>;

#[derive(Debug, Default)]
struct Waiter {
    /// Whether the task is known to be enqueued, so that "unknown" means that it has gone.
    enqueued: bool,
    ends: Vec<End>,
}

/// What a look brought home.
#[derive(Debug)]
pub(crate) struct Tended {
    pub(crate) base: String,
    connection: u64,
    followed: bool,
    answer: Result<Vec<(String, Waited)>, CallError>,
    /// What could be read where the asking was refused.
    read: Vec<(String, Waited)>,
}

impl Tended {
    /// Why Redis did not serve, if it did not.
    pub(crate) fn failure(&self) -> Option<CallError> {
        self.answer.as_ref().err().filter(|error| error.is_temporary()).cloned()
    }
}

#[derive(Debug)]
pub(crate) struct Room {
    queue: Queue,
    waiters: HashMap<String, Waiter>,
    /// Ids to be looked at.
    fresh: HashSet<String>,
    ready: Vec<Ready>,
    followers: Vec<mpsc::Sender<Heard>>,
    /// The connection on which the channels are subscribed.
    subscribed: Option<u64>,
    /// The connection on which Redis was asked for the ends, too.
    following: Option<u64>,
    renew: bool,
    busy: bool,
    patience: Patience,
}

impl Room {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue,
            waiters: HashMap::new(),
            fresh: HashSet::new(),
            ready: Vec::new(),
            followers: Vec::new(),
            subscribed: None,
            following: None,
            renew: false,
            busy: false,
            patience: Patience::default(),
        }
    }

    pub(crate) fn wait(&mut self, id: String, look: bool, ready: Option<Ready>, end: End, connection: u64) {
        let waiter = self.waiters.entry(id.clone()).or_default();
        waiter.enqueued |= look;
        waiter.ends.push(end);
        if look {
            self.fresh.insert(id);
        }
        match ready {
            Some(ready) if self.subscribed == Some(connection) => tell(ready, Ok(())),
            Some(ready) => self.ready.push(ready),
            None => {}
        }
    }

    pub(crate) fn enqueued(&mut self, id: &str, unheard: bool) {
        if let Some(waiter) = self.waiters.get_mut(id) {
            waiter.enqueued = true;
            if unheard {
                self.fresh.insert(id.to_owned());
            }
        }
    }

    pub(crate) fn follow(&mut self, ready: Ready, sink: mpsc::Sender<Heard>) {
        self.followers.push(sink);
        self.ready.push(ready);
        self.renew = true;
    }

    /// All outstanding waits, and the following, are due again.
    pub(crate) fn look_again(&mut self) {
        self.forget_the_gone();
        self.fresh.extend(
            self.waiters
                .iter()
                .filter(|(_, w)| w.enqueued)
                .map(|(id, _)| id.clone()),
        );
        self.renew = !self.followers.is_empty();
    }

    pub(crate) fn disconnected(&mut self) {
        self.look_again();
        for follower in &self.followers {
            // A follower that is so far behind has a gap anyway.
            follower.try_send(Heard::Gap).ok();
        }
    }

    fn forget_the_gone(&mut self) {
        self.waiters.retain(|_, waiter| {
            waiter.ends.retain(|end| !end.is_closed());
            !waiter.ends.is_empty()
        });
        self.followers.retain(|follower| !follower.is_closed());
    }

    /// Starts a look if there is something to look for and none is under way.
    pub(crate) fn tend(&mut self, session: &SessionId, connection: u64, report: &mpsc::UnboundedSender<Tended>) {
        let subscribed = self.subscribed == Some(connection);
        let awaited = !self.waiters.is_empty() || !self.ready.is_empty();
        let due = (awaited && !subscribed) || self.renew || !self.fresh.is_empty();
        if self.busy || !due {
            return;
        }
        self.busy = true;
        let ids: Vec<String> = self.fresh.iter().take(MAX_BATCH).cloned().collect();
        for id in &ids {
            self.fresh.remove(id);
        }
        let look = Look {
            queue: self.queue.clone(),
            session: session.clone(),
            subscribe: !subscribed,
            follow: std::mem::take(&mut self.renew),
            subscribe_ends: self.following != Some(connection),
            ids,
        };
        let (base, report) = (self.queue.keys().named(""), report.clone());
        let mut patience = self.patience.clone();
        tokio::spawn(async move {
            let followed = look.follow;
            let answer = look.run().await;
            let mut read = Vec::new();
            if let Err(error) = &answer {
                read = look.read_only(error).await;
                patience.wait().await;
            }
            // The board has ended when nobody waits any more.
            report
                .send(Tended {
                    base,
                    connection,
                    followed,
                    answer,
                    read,
                })
                .ok();
        });
    }

    /// Applies what a look found.
    pub(crate) fn settle(&mut self, tended: Tended, connection: u64) {
        self.busy = false;
        match tended.answer {
            Ok(answers) => {
                self.patience.reset();
                self.subscribed = Some(tended.connection);
                if tended.followed {
                    self.following = Some(tended.connection);
                }
                if tended.connection == connection {
                    // A follower that came during this look is answered by the next.
                    if !self.renew {
                        self.ready.drain(..).for_each(|ready| tell(ready, Ok(())));
                    }
                } else {
                    self.renew |= tended.followed;
                }
                for (id, waited) in answers {
                    self.found(&id, waited);
                }
            }
            Err(error) if error.is_temporary() => {
                for (id, waited) in tended.read {
                    self.found(&id, waited);
                }
                self.patience.next_delay(0.0);
                self.look_again();
            }
            Err(error) => self.give_up(&error),
        }
    }

    fn found(&mut self, id: &str, waited: Waited) {
        match waited {
            Waited::Waiting => {}
            Waited::Ended(ended) => self.end(id, &Ok(ended)),
            Waited::Unknown => {
                let queue = self.queue.name().to_string();
                self.end(
                    id,
                    &Err(Error::NotFound {
                        queue,
                        id: id.to_owned(),
                    }),
                );
            }
        }
    }

    /// Waiting cannot help: everybody hears why.
    fn give_up(&mut self, error: &CallError) {
        self.ready
            .drain(..)
            .for_each(|ready| tell(ready, Err(error.clone().into())));
        let ids: Vec<String> = self.waiters.keys().cloned().collect();
        for id in ids {
            self.end(&id, &Err(error.clone().into()));
        }
        self.followers.clear();
        self.fresh.clear();
    }

    fn end(&mut self, id: &str, answer: &Result<Ended, Error>) {
        for end in self.waiters.remove(id).unwrap_or_default().ends {
            // One that has gone away has run out of time.
            end.send(answer.clone()).ok();
        }
    }

    /// A message of the waiter's channel: one end after the other.
    pub(crate) fn done(&mut self, message: &Bytes) {
        let mut rest = message.clone();
        while let Some((id, text)) = next_end(&mut rest) {
            self.done_one(&id, &text);
        }
    }

    fn done_one(&mut self, id: &str, text: &Bytes) {
        if let Some(job) = id.strip_prefix(JOB) {
            let state = String::from_utf8_lossy(text);
            return self.found(id, job_waited(JobState::parse(&state), job));
        }
        match Ended::parse(text) {
            Ok(ended) => self.end(id, &Ok(ended)),
            Err(error) => self.end(id, &Err(error.into())),
        }
    }

    /// A message of the `finished` channel: lines of id and state.
    pub(crate) fn finished(&mut self, message: &Bytes) {
        for line in String::from_utf8_lossy(message).lines() {
            let Some((id, state)) = line.rsplit_once(' ') else {
                continue;
            };
            let Some(state) = State::parse(state).filter(|state| state.is_terminal()) else {
                continue;
            };
            for follower in &self.followers {
                if follower.try_send(Heard::End(id.to_owned(), state)).is_err() {
                    tracing::debug!(id, "a follower is too slow and misses an end");
                }
            }
        }
    }
}

/// Cuts the first `<bytes of text> <id> LF <text>` off a message. What is not of that form is left alone: a look will tell.
fn next_end(rest: &mut Bytes) -> Option<(String, Bytes)> {
    let line = rest.iter().position(|&b| b == b'\n')?;
    let head = str::from_utf8(&rest[..line]).ok()?;
    let (length, id) = head.split_once(' ')?;
    let (id, from) = (id.to_owned(), line + 1);
    let to = length.parse::<usize>().ok()?.checked_add(from)?;
    if to > rest.len() {
        return None;
    }
    let text = rest.slice(from..to);
    *rest = rest.slice(to..);
    Some((id, text))
}

fn tell(ready: Ready, answer: Result<(), Error>) {
    // One that has gone away has run out of time.
    ready.send(answer).ok();
}

/// What the state of a job means to those who wait for its end. `None`: there is no such job.
fn job_waited(state: Option<JobState>, job: &str) -> Waited {
    let Some(state) = state else {
        return Waited::Unknown;
    };
    match State::parse(state.as_str()).filter(|_| state.is_terminal()) {
        None => Waited::Waiting,
        // What else there is to know stands in the record of the job.
        Some(state) => Waited::Ended(Ended {
            state,
            kind: job.to_owned(),
            created_ms: 0,
            started_ms: 0,
            finished_ms: 0,
            failures: 0,
            crashes: 0,
            releases: 0,
            consumer: String::new(),
            reason: String::new(),
            last_error: String::new(),
            body: Bytes::new(),
        }),
    }
}

struct Look {
    queue: Queue,
    session: SessionId,
    subscribe: bool,
    follow: bool,
    subscribe_ends: bool,
    ids: Vec<String>,
}

impl Look {
    /// To wait is to write one's name down, which a Redis that refuses writes refuses: what is there to be read still is.
    async fn read_only(&self, refusal: &CallError) -> Vec<(String, Waited)> {
        let refuses_writes = matches!(
            refusal,
            CallError::Unavailable {
                outage: Outage::StorageFailing | Outage::OutOfMemory | Outage::ReadOnly,
                ..
            }
        );
        let tasks: Vec<&str> = self
            .ids
            .iter()
            .map(String::as_str)
            .filter(|id| !id.starts_with(JOB))
            .collect();
        if !refuses_writes || tasks.is_empty() {
            return Vec::new();
        }
        // What cannot be read either is told by the next look.
        let seen = self.queue.inspect(&tasks).await.unwrap_or_default();
        tasks
            .iter()
            .map(|id| (*id).to_owned())
            .zip(seen.into_iter().map(Waited::from))
            .collect()
    }

    async fn run(&self) -> Result<Vec<(String, Waited)>, CallError> {
        let (link, keys) = (self.queue.link(), self.queue.keys());
        if self.subscribe {
            link.subscribe(&keys.done_channel(&self.session)).await?;
        }
        if self.follow {
            if self.subscribe_ends {
                link.subscribe(&keys.finished_channel()).await?;
            }
            self.queue.follow(FOLLOW_SPAN).await?;
        }
        if self.ids.is_empty() {
            return Ok(Vec::new());
        }
        let (jobs, tasks): (Vec<&str>, Vec<&str>) =
            self.ids.iter().map(String::as_str).partition(|id| id.starts_with(JOB));
        let mut found = Vec::with_capacity(self.ids.len());
        for name in jobs {
            let id = JobId::new(&name[JOB.len()..])?;
            let state = self.queue.job_wait(&self.session, &id).await?;
            found.push((name.to_owned(), job_waited(state, id.as_str())));
        }
        if !tasks.is_empty() {
            let answers = self.queue.wait(&self.session, &tasks).await?;
            found.extend(tasks.into_iter().map(str::to_owned).zip(answers));
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_one_end_after_the_other_and_a_torn_one_is_left_to_a_look() {
        let mut message = Bytes::from_static(b"9 a\ncompleted3 job x\nmap12 torn\ncompl");
        let (id, text) = next_end(&mut message).unwrap();
        assert_eq!((id.as_str(), &text[..]), ("a", &b"completed"[..]));
        let (id, text) = next_end(&mut message).unwrap();
        assert_eq!((id.as_str(), &text[..]), ("job x", &b"map"[..]));
        assert!(next_end(&mut message).is_none());
    }
}
