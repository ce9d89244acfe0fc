//! All that a queue with one job holds, as both sides can say it.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;
use redis::aio::MultiplexedConnection;
use workyard_shared::broker::Queue;
use workyard_shared::job::{JobState, Phase};
use workyard_shared::name::{JobId, SessionId};
use workyard_shared::record::Meta;

use super::model::Counts;

/// A queue at one moment. Ids are whole: they carry the start of the job.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    /// State, starts, maps, reduces, accepted losses.
    pub record: Option<(JobState, u64, Phase, Phase, u64)>,
    /// Task -> every place where it stands.
    pub places: BTreeMap<String, Vec<String>>,
    /// Tasks whose record is there.
    pub tasks: BTreeSet<String>,
    /// Task -> failures and crashes, if there are any.
    pub troubles: BTreeMap<String, (u32, u32)>,
    /// Part of the job's keys -> what is in it.
    pub parts: BTreeMap<&'static str, Vec<String>>,
    pub counts: BTreeMap<String, u64>,
    /// Keys of the job that are there although it is not, and its places in the lists of jobs.
    pub left: Vec<String>,
}

pub const COUNTED: [&str; 6] = ["submitted", "completed", "failed", "cancelled", "retried", "stale"];

/// The counters that are compared.
pub fn counted(counts: &Counts) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn take<T: redis::FromRedisValue>(answers: &mut impl Iterator<Item = Value>) -> T {
    redis::from_redis_value(answers.next().expect("an answer")).expect("of this type")
}

const PLACES: [&str; 3] = ["pending", "scheduled", "failed"];
const HASHES: [&str; 3] = ["tasks", "meta", "stats"];
const LISTS: [&str; 2] = ["jobs", "jobs:due"];
pub const PARTS: [(&str, &[&str]); 8] = [
    (":live", &["HKEYS"]),
    (":errors", &["HKEYS"]),
    (":chunks", &["HKEYS"]),
    (":data", &["HKEYS"]),
    (":out", &["HKEYS"]),
    (":failed", &["ZRANGE", "0", "-1"]),
    (":again", &["LRANGE", "0", "-1"]),
    (":tree", &["HGETALL"]),
];

/// The view, and which start of the job it is.
pub async fn read(
    redis: &mut MultiplexedConnection,
    queue: &Queue,
    job: &JobId,
    consumers: &[SessionId],
) -> (View, u64) {
    let key = |name: &str| queue.keys().named(name);
    let mut pipe = redis::pipe();
    for name in PLACES.iter().chain(&LISTS) {
        pipe.cmd("ZRANGE").arg(key(name)).arg(0).arg(-1);
    }
    for name in HASHES {
        pipe.cmd("HGETALL").arg(key(name));
    }
    for consumer in consumers {
        pipe.cmd("HGETALL").arg(queue.keys().running(consumer));
    }
    for (part, words) in PARTS {
        pipe.cmd(words[0]).arg(queue.keys().job_key(job, part)).arg(&words[1..]);
    }
    let answers: Vec<Value> = pipe.query_async(redis).await.expect("an answer");
    let mut answers = answers.into_iter();
    let mut view = View::default();
    for name in PLACES {
        for id in take::<Vec<String>>(&mut answers) {
            view.places.entry(id).or_default().push(name.to_owned());
        }
    }
    let lists: Vec<Vec<String>> = LISTS.iter().map(|_| take(&mut answers)).collect();
    view.tasks = take::<BTreeMap<String, String>>(&mut answers).into_keys().collect();
    for (id, text) in take::<BTreeMap<String, String>>(&mut answers) {
        let meta = Meta::parse(text.as_bytes());
        if meta.failures + meta.crashes > 0 {
            view.troubles.insert(id, (meta.failures, meta.crashes));
        }
    }
    let stats: BTreeMap<String, String> = take(&mut answers);
    for name in COUNTED {
        if let Some(n) = stats.get(name).filter(|n| *n != "0") {
            view.counts.insert(name.to_owned(), n.parse().expect("a number"));
        }
    }
    for n in 0..consumers.len() {
        for (id, value) in take::<BTreeMap<String, String>>(&mut answers) {
            let token = value.split(' ').next().unwrap_or_default();
            let places = view.places.entry(id).or_default();
            places.push(format!("held by {n} with {token}"));
        }
    }
    view.parts = parts(&mut answers);
    let record = queue.job_record(job).await.expect("a record");
    if let Some(record) = &record {
        view.record = Some((
            record.state,
            record.starts,
            record.maps,
            record.reduces,
            record.accepted,
        ));
    } else {
        let mut cmd = redis::cmd("KEYS");
        cmd.arg(format!("{}*", key("job:")));
        view.left = cmd.query_async(redis).await.expect("keys");
        view.left.extend(lists.concat());
    }
    (view, record.map_or(0, |record| record.epoch))
}

fn parts(answers: &mut impl Iterator<Item = Value>) -> BTreeMap<&'static str, Vec<String>> {
    let read = |(part, _)| {
        let mut found: Vec<String> = match part {
            ":tree" => take::<BTreeMap<String, String>>(answers)
                .into_iter()
                .map(|(place, done)| format!("{place}={done}"))
                .collect(),
            _ => take(answers),
        };
        found.sort();
        (part, found)
    };
    PARTS.into_iter().map(read).collect()
}
