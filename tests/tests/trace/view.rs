//! All that a queue holds, as both sides can say it: read from Redis, and told by the reference.

use std::collections::{BTreeMap, BTreeSet};

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value};
use workyard_shared::broker::Queue;
use workyard_shared::name::SessionId;
use workyard_shared::record::{Ended, Meta, State};

use super::reference::{Due, Place, Reference};
use super::world::session_name;

const SPAN: f64 = 256.0;

/// A queue at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Id -> every place where it stands: a sound task has one. Ids come from the records and from all places.
    pub places: BTreeMap<String, Vec<String>>,
    pub counts: BTreeMap<String, String>,
    pub results: BTreeMap<String, String>,
    pub leaving: BTreeSet<String>,
    pub parked: Vec<String>,
    pub sessions: BTreeMap<String, bool>,
    pub expiring: BTreeSet<String>,
    pub waiters: BTreeSet<String>,
    pub stats: BTreeMap<String, u64>,
    pub maintainer: String,
    pub seq: u64,
}

/// What the reference cannot know before Redis says it.
pub struct Moment {
    pub now_us: u64,
    /// Scheduled tasks and when they are due.
    pub due: BTreeMap<String, u64>,
}

fn take<T: FromRedisValue>(values: &mut impl Iterator<Item = Value>) -> T {
    redis::from_redis_value(values.next().expect("an answer")).expect("of this type")
}

/// A task's counters as text.
fn counts_of(meta: &[u8]) -> String {
    let m = Meta::parse(meta);
    format!(
        "{} failures, {} crashes, {} releases, {} unhandled, {} {:?}",
        m.failures, m.crashes, m.releases, m.unhandled, m.reason, m.progress
    )
}

/// How a task ended, as text.
fn ended_of(text: Vec<u8>) -> String {
    let e = Ended::parse(&text.into()).expect("a terminal text");
    let state = match e.state {
        State::Completed => "completed",
        State::Cancelled => "cancelled",
        State::Expired => "expired",
        other => panic!("{other:?} among the results"),
    };
    format!("{state} {} {} {}", e.failures, e.crashes, e.releases)
}

/// Reads everything in one transaction.
pub async fn read(redis: &mut MultiplexedConnection, queue: &Queue, sessions: &[SessionId]) -> (View, Moment) {
    let key = |name: &str| queue.keys().named(name);
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("TIME").cmd("HKEYS").arg(key("tasks"));
    for set in [
        "pending",
        "scheduled",
        "failed",
        "done",
        "parked",
        "consumers",
        "expiring",
    ] {
        pipe.cmd("ZRANGE").arg(key(set)).arg(0).arg(-1).arg("WITHSCORES");
    }
    for hash in ["meta", "results", "waiters", "stats"] {
        pipe.cmd("HGETALL").arg(key(hash));
    }
    pipe.cmd("HMGET").arg(key("state")).arg("maintainer").arg("seq");
    for session in sessions {
        pipe.cmd("HGETALL").arg(queue.keys().running(session));
    }
    let answers: Vec<Value> = pipe.query_async(redis).await.expect("an answer");
    let mut answers = answers.into_iter();

    let (seconds, micros): (u64, u64) = take(&mut answers);
    let mut view = View::default();
    let mut due = BTreeMap::new();
    for id in take::<Vec<String>>(&mut answers) {
        view.places.entry(id).or_default();
    }
    let mut place = |id: String, text: String| view.places.entry(id).or_default().push(text);
    for (id, score) in take::<Vec<(String, f64)>>(&mut answers) {
        place(id, format!("pending {score}"));
    }
    for (id, score) in take::<Vec<(String, f64)>>(&mut answers) {
        due.insert(id.clone(), score.floor() as u64);
        place(id, format!("scheduled {} for {}", score.floor(), score.fract() * SPAN));
    }
    for (id, _) in take::<Vec<(String, f64)>>(&mut answers) {
        place(id, "failed".to_owned());
    }
    let ids = |scored: Vec<(String, f64)>| scored.into_iter().map(|(id, _)| id);
    view.leaving = ids(take(&mut answers)).collect();
    view.parked = ids(take(&mut answers)).collect();
    let now_ms = (seconds * 1000 + micros / 1000) as f64;
    let leases: Vec<(String, f64)> = take(&mut answers);
    view.sessions = leases.into_iter().map(|(id, ends)| (id, ends > now_ms)).collect();
    view.expiring = ids(take(&mut answers)).collect();
    let metas: BTreeMap<String, Vec<u8>> = take(&mut answers);
    view.counts = metas.into_iter().map(|(id, meta)| (id, counts_of(&meta))).collect();
    let results: BTreeMap<String, Vec<u8>> = take(&mut answers);
    view.results = results.into_iter().map(|(id, text)| (id, ended_of(text))).collect();
    view.waiters = take::<BTreeMap<String, String>>(&mut answers).into_keys().collect();
    view.stats = take(&mut answers);
    view.stats.remove("minute");
    let (maintainer, seq): (Option<String>, Option<u64>) = take(&mut answers);
    (view.maintainer, view.seq) = (maintainer.unwrap_or_default(), seq.unwrap_or_default());
    for session in sessions {
        for (id, held) in take::<BTreeMap<String, String>>(&mut answers) {
            let text = format!("running {} {held}", session.as_str());
            view.places.entry(id).or_default().push(text);
        }
    }
    let now_us = seconds * 1_000_000 + micros;
    (view, Moment { now_us, due })
}

impl Reference {
    /// Believes Redis' due times, if they are what they should be.
    pub fn learn(&mut self, moment: &Moment, before_us: u64) -> Result<(), String> {
        for (id, task) in &mut self.tasks {
            if let Place::Scheduled { due, .. } = &mut task.place
                && let (Due::In(ms), Some(at)) = (*due, moment.due.get(id))
            {
                let (from, to) = (before_us / 1000 + ms, moment.now_us / 1000 + ms);
                if !(from..=to).contains(at) {
                    return Err(format!("{id} is due at {at}, not in {from}..={to}"));
                }
                *due = Due::At(*at);
            }
        }
        Ok(())
    }

    pub fn view(&self) -> View {
        let name = session_name;
        let mut view = View {
            leaving: self.results.keys().cloned().collect(),
            parked: self.parked.iter().map(|s| name(*s)).collect(),
            expiring: self.expiring.clone(),
            waiters: self.waiters.clone(),
            stats: self.stats.clone(),
            maintainer: self.maintainer.map(name).unwrap_or_default(),
            seq: self.seq,
            ..View::default()
        };
        for (id, task) in &self.tasks {
            let place = match task.place {
                Place::Pending { score } => format!("pending {score}"),
                Place::Scheduled { priority, due } => match due {
                    Due::At(ms) => format!("scheduled {ms} for {priority}"),
                    Due::In(ms) => format!("scheduled in {ms} for {priority}"),
                },
                Place::Running { session, token, score } => format!("running {} {token} {score}", name(session)),
                Place::Failed => "failed".to_owned(),
            };
            view.places.insert(id.clone(), vec![place]);
            if let Some(c) = &task.counts {
                let text = format!(
                    "{} failures, {} crashes, {} releases, {} unhandled, {} {:?}",
                    c.failures, c.crashes, c.releases, c.unhandled, c.reason, c.progress
                );
                view.counts.insert(id.clone(), text);
            }
        }
        for (id, (state, failures, crashes, releases)) in &self.results {
            view.results
                .insert(id.clone(), format!("{state} {failures} {crashes} {releases}"));
        }
        for (i, session) in self.sessions.iter().enumerate().filter(|(_, s)| s.here) {
            view.sessions.insert(name(i), session.alive);
        }
        view
    }
}
