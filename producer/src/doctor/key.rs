//! What a key below the prefix is: read back from its name, as `shared/src/keys.rs` makes it.
//!
//! Invariant: what this does not know is foreign. It does not look at a value.

use std::fmt;
use std::time::Duration;

use workyard_shared::keys::{JOB, SHARED};
use workyard_shared::name::{JobId, Prefix, QueueName, SessionId};

/// A partition of a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) queue: QueueName,
    pub(super) partition: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            0 => write!(f, "{}", self.queue),
            n => write!(f, "{}/{n}", self.queue),
        }
    }
}

/// What a queue's key is of interest for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// One of the keys that a queue has once.
    Own,
    /// What a consumer holds.
    Running(SessionId),
    /// Its session.
    Session(SessionId),
    /// Something of a job.
    Job(JobId),
}

/// A key of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// `None`: it belongs to the installation.
    pub(super) place: Option<(Place, Part)>,
    /// What `TYPE` has to say.
    pub(super) kind: &'static str,
    /// How long it may stay without being written, if it goes by itself.
    pub(super) ttl: Option<Duration>,
}

const MINUTE: Duration = Duration::from_secs(60);

/// Reads the name of a key; `None`: no part of the protocol makes it.
pub(super) fn read(prefix: &Prefix, key: &[u8]) -> Option<Known> {
    let rest = std::str::from_utf8(key).ok()?;
    let rest = rest.strip_prefix(prefix.as_str())?.strip_prefix(':')?;
    let known = |place, kind, ttl| Some(Known { place, kind, ttl });
    if rest == "queues" {
        return known(None, "set", None);
    }
    if let Some(id) = rest.strip_prefix("consumer:") {
        SessionId::new(id).ok()?;
        return known(None, "string", Some(MINUTE));
    }
    let (tag, name) = rest.strip_prefix('{')?.split_once("}:")?;
    let place = read_tag(tag)?;
    let (part, kind, ttl) = read_part(name)?;
    known(Some((place, part)), kind, ttl)
}

fn read_tag(tag: &str) -> Option<Place> {
    let (queue, partition) = match tag.split_once('/') {
        Some((queue, n)) => (queue, n.parse::<u16>().ok().filter(|k| *k > 0 && k.to_string() == n)?),
        None => (tag, 0),
    };
    let queue = QueueName::new(queue).ok()?;
    Some(Place { queue, partition })
}

fn read_part(name: &str) -> Option<(Part, &'static str, Option<Duration>)> {
    if SHARED.contains(&name) {
        let sorted = [
            "pending",
            "scheduled",
            "failed",
            "done",
            "parked",
            "consumers",
            "expiring",
        ];
        let kind = if sorted.contains(&name) { "zset" } else { "hash" };
        return Some((Part::Own, kind, None));
    }
    match name {
        "vitals" => return Some((Part::Own, "hash", None)),
        "fleet" => return Some((Part::Own, "string", Some(MINUTE))),
        "inbox" | "inbox:ingesting" | "rejected" => return Some((Part::Own, "list", None)),
        "audit" => return Some((Part::Own, "stream", None)),
        "jobs" | "jobs:due" => return Some((Part::Own, "zset", None)),
        _ => {}
    }
    let (family, rest) = name.split_once(':')?;
    match family {
        "running" => Some((Part::Running(SessionId::new(rest).ok()?), "hash", None)),
        "session" => Some((Part::Session(SessionId::new(rest).ok()?), "hash", None)),
        "notices" => SessionId::new(rest)
            .ok()
            .map(|_| (Part::Own, "list", Some(10 * MINUTE))),
        "producer" => SessionId::new(rest)
            .ok()
            .map(|_| (Part::Own, "string", Some(60 * MINUTE))),
        "job" => read_job(rest),
        _ => None,
    }
}

fn read_job(rest: &str) -> Option<(Part, &'static str, Option<Duration>)> {
    let from = rest.find(':').unwrap_or(rest.len());
    let (id, part) = rest.split_at(from);
    let part = JOB.into_iter().find(|known| *known == part)?;
    let kind = match part {
        ":failed" => "zset",
        ":runs" | ":again" => "list",
        _ => "hash",
    };
    Some((Part::Job(JobId::new(id).ok()?), kind, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use workyard_shared::keys::{self, Keys};

    #[test]
    fn every_key_that_the_protocol_makes_is_known_and_others_are_not() {
        let (prefix, queue) = (Prefix::default(), QueueName::new("q").unwrap());
        let (session, job) = (SessionId::new("host-1.2").unwrap(), JobId::new("j_1").unwrap());
        for partition in [0, 3] {
            let keys = Keys::new(&prefix, &queue, partition);
            let mut all = keys.shared().to_vec();
            all.extend(keys.job(&job));
            all.extend([keys.running(&session), keys.session(&session), keys.notices(&session)]);
            all.extend([keys.producer(&session), keys.inbox(), keys.ingesting(), keys.rejected()]);
            all.extend(["vitals", "fleet", "audit"].map(|name| keys.named(name)));
            for key in all {
                let known = read(&prefix, key.as_bytes()).unwrap_or_else(|| panic!("{key}"));
                let (place, _) = known.place.unwrap();
                assert_eq!((place.queue.as_str(), place.partition), ("q", partition), "{key}");
            }
        }
        for key in [keys::queues(&prefix), keys::health(&prefix, &session)] {
            assert!(read(&prefix, key.as_bytes()).is_some(), "{key}");
        }
        for key in [
            "workyard:",
            "workyard:{q}:",
            "workyard:{q}:task",
            "workyard:{q/0}:tasks",
            "workyard:{q/01}:tasks",
            "workyard:{}:tasks",
            "workyard:{q}:job:a b",
            "workyard:{q}:job:a:x",
            "workyard:{q}:running:",
            "workyard:q:tasks",
            "workyardx:{q}:tasks",
            "workyard:{q}:tasks:2",
        ] {
            assert_eq!(read(&prefix, key.as_bytes()), None, "{key}");
        }
    }
}
