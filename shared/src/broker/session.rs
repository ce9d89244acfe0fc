//! heartbeat, leave, and the health key: a consumer's session.

use std::time::Duration;

use redis::Value;

use super::{Broker, Queue, reply};
use crate::balance::Policy;
use crate::error::Error;
use crate::keys;
use crate::name::SessionId;

/// All consumers of a queue, as the maintainer sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Redis' clock, ms since the epoch.
    pub now_ms: u64,
    /// How the queue chooses among its consumers.
    pub balance: Policy,
    /// Consumers with a session, and what each last reported: JSON, may be empty.
    pub reports: Vec<(String, String)>,
    /// Consumers without a session whose reports are left over.
    pub gone: Vec<String>,
}

/// What a consumer says of itself with a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// JSON, at most 32 KiB; empty: nothing.
    pub vitals: String,
    /// Version of the fleet that it knows.
    pub known: u64,
    /// Where it stands now if it is parked; `None`: as it was.
    pub rank: Option<u64>,
    /// The maintainer should look at once.
    pub urgent: bool,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// The lease is renewed.
    Ok {
        /// Whether this consumer is the queue's maintainer now.
        maintainer: bool,
        /// When maintenance has something to do next, if it has.
        due_in: Option<Duration>,
        /// Ids that were cancelled while this consumer ran them.
        cancelled: Vec<String>,
        /// What the maintainer says of the fleet, if it is news: version and JSON.
        fleet: Option<(u64, String)>,
    },
    /// The lease ended and the work was taken.
    Lost,
}

impl Queue {
    /// Registers a consumer, or renews its lease.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn heartbeat(&self, consumer: &SessionId, lease: Duration, register: bool) -> Result<Beat, Error> {
        self.beat(consumer, lease, register, &Report::default()).await
    }

    /// A heartbeat with news.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn beat(
        &self,
        consumer: &SessionId,
        lease: Duration,
        register: bool,
        report: &Report,
    ) -> Result<Beat, Error> {
        let own = [
            self.keys.notices(consumer),
            self.keys.named("vitals"),
            self.keys.named("fleet"),
        ];
        let mut cmd = self.fcall("heartbeat", &[&own[0], &own[1], &own[2]]);
        cmd.arg(consumer.as_str())
            .arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        cmd.arg(if register { "1" } else { "0" })
            .arg(&report.vitals)
            .arg(report.known);
        match report.rank {
            Some(rank) => cmd.arg(rank),
            None => cmd.arg(""),
        };
        cmd.arg(if report.urgent { "1" } else { "" });
        let mut items = reply::array(self.link.call(&cmd).await?)?.into_iter();
        let mut next = || {
            items
                .next()
                .ok_or_else(|| Error::Protocol("a short heartbeat answer".to_owned()))
        };
        let (status, maintainer, due, fleet) = (reply::string(next()?)?, next()?, next()?, reply::string(next()?)?);
        if status == "lost" {
            return Ok(Beat::Lost);
        }
        let notices: Vec<String> = items.map(reply::string).collect::<Result<_, _>>()?;
        Ok(Beat::Ok {
            maintainer: reply::int(&maintainer)? == 1,
            due_in: u64::try_from(reply::int(&due)?).ok().map(Duration::from_millis),
            cancelled: notices
                .iter()
                .filter_map(|n| n.strip_prefix("cancel ").map(str::to_owned))
                .collect(),
            fleet: fleet
                .split_once(' ')
                .and_then(|(version, json)| Some((version.parse().ok()?, json.to_owned()))),
        })
    }

    /// What the maintainer reads of all consumers, at most 1,000.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn survey(&self) -> Result<Survey, Error> {
        let vitals = self.keys.named("vitals");
        let mut items = reply::array(self.link.call(&self.fcall("survey", &[&vitals])).await?)?.into_iter();
        let mut next = || items.next().ok_or_else(|| Error::Protocol("a short survey".to_owned()));
        let (now_ms, balance, count) = (
            reply::count(&next()?)?,
            reply::string(next()?)?,
            reply::count(&next()?)?,
        );
        let mut reports = Vec::new();
        for _ in 0..count {
            reports.push((reply::string(next()?)?, reply::string(next()?)?));
        }
        Ok(Survey {
            now_ms,
            balance: if balance.is_empty() {
                Policy::default()
            } else {
                balance.parse()?
            },
            reports,
            gone: items.map(reply::string).collect::<Result<_, _>>()?,
        })
    }

    /// Sets what every consumer of the queue hears with its next beat, and forgets vitals of those that are gone.
    /// The new version.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn set_fleet(&self, json: &str, gone: &[String]) -> Result<u64, Error> {
        let (vitals, fleet) = (self.keys.named("vitals"), self.keys.named("fleet"));
        let mut cmd = self.fcall("fleet", &[&vitals, &fleet]);
        cmd.arg(json).arg(gone);
        reply::count(&self.link.call(&cmd).await?)
    }

    /// What the maintainer last said of the fleet, JSON; `None` if nothing.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn fleet(&self) -> Result<Option<String>, Error> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.keys.named("fleet"));
        match self.link.call(&cmd).await? {
            Value::Nil => Ok(None),
            other => Ok(reply::string(other)?.split_once(' ').map(|(_, json)| json.to_owned())),
        }
    }

    /// Asks not to be woken any more; passes on a wake-up that was under way.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn unpark(&self, consumer: &SessionId) -> Result<(), Error> {
        let mut cmd = self.fcall("unpark", &[]);
        cmd.arg(consumer.as_str());
        self.link.call(&cmd).await.map(|_| ())
    }

    /// Wakes another in place of one that was woken and has no room. Harmless however late it comes.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn pass_on(&self) -> Result<(), Error> {
        self.link.call(&self.fcall("pass_on", &[])).await.map(|_| ())
    }

    /// Says that a task starts that one more death would make poison ([`super::Grant::is_suspect`]): if this consumer dies now,
    /// it is charged with that, and no other of its suspects. `beside`, later: others start beside it from now on, and of deaths
    /// that follow it bears three more. False: the task is not the consumer's any more.
    ///
    /// # Errors
    /// As [`Error`] sorts them; saying it again is harmless.
    pub async fn try_suspect(&self, consumer: &SessionId, id: &str, token: u64, beside: bool) -> Result<bool, Error> {
        let (running, session) = (self.keys.running(consumer), self.keys.session(consumer));
        let mut cmd = self.fcall("try", &[&running, &session]);
        cmd.arg(consumer.as_str()).arg(id).arg(token);
        if beside {
            cmd.arg(1);
        }
        Ok(reply::string(self.link.call(&cmd).await?)? == "ok")
    }

    /// Says good-bye: gives back what is still held, in steps, and ends the session.
    ///
    /// # Errors
    /// As [`Error`] sorts them; calling again goes on where it stopped.
    pub async fn leave(&self, consumer: &SessionId) -> Result<u64, Error> {
        let mut released = 0;
        loop {
            let [back, _, more] = self.take_back("leave", consumer).await?;
            released += back;
            if more == 0 {
                return Ok(released);
            }
        }
    }

    pub(super) async fn take_back(&self, edge: &str, consumer: &SessionId) -> Result<[u64; 3], Error> {
        let own = [
            self.keys.running(consumer),
            self.keys.session(consumer),
            self.keys.notices(consumer),
        ];
        let mut cmd = self.fcall(edge, &[&own[0], &own[1], &own[2]]);
        cmd.arg(consumer.as_str()).arg(200);
        reply::counts(self.link.call(&cmd).await?)
    }

    /// The consumers of this queue and the end of their leases, in ms by Redis' clock.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn consumers(&self) -> Result<Vec<(SessionId, u64)>, Error> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.named("consumers")).arg(0).arg(9999).arg("WITHSCORES");
        leases(self.link.call(&cmd).await?)
    }

    /// The sessions whose lease lives, the latest end first, at most `most` of them.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn live_consumers(&self, most: u64) -> Result<Vec<SessionId>, Error> {
        let mut pipeline = redis::Pipeline::with_capacity(2);
        pipeline.cmd("TIME");
        let set = self.keys.named("consumers");
        pipeline.cmd("ZRANGE").arg(set).arg(0).arg(most.max(1) - 1);
        pipeline.arg("REV").arg("WITHSCORES");
        let mut answers = self.link.pipeline(&pipeline).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let [seconds, micros] = reply::counts(next()?)?;
        let now = seconds * 1000 + micros / 1000;
        let alive = leases(next()?)?.into_iter().filter(|(_, ends)| *ends > now);
        Ok(alive.map(|(id, _)| id).collect())
    }

    /// What Redis says that a consumer holds: ids and tokens, as many as it claimed.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn holds(&self, consumer: &SessionId) -> Result<Vec<(String, u64)>, Error> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.keys.running(consumer));
        let held = reply::pairs(self.link.call(&cmd).await?)?.into_iter();
        let token = |value: String| value.split(' ').next().and_then(|word| word.parse().ok());
        // What somebody else put there has no token, and is nobody's.
        Ok(held.filter_map(|(id, value)| Some((id, token(value)?))).collect())
    }

    /// How many tasks a consumer holds.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn held_by(&self, consumer: &SessionId) -> Result<u64, Error> {
        let mut cmd = redis::cmd("HLEN");
        cmd.arg(self.keys.running(consumer));
        reply::count(&self.link.call(&cmd).await?)
    }
}

/// Consumers with the end of their leases. Somebody else may have put anything into the set: only names are consumers.
fn leases(value: Value) -> Result<Vec<(SessionId, u64)>, Error> {
    let scored = reply::scored(value)?.into_iter();
    Ok(scored
        .filter_map(|(id, ends)| Some((SessionId::new(id).ok()?, ends)))
        .collect())
}

impl Broker {
    /// Writes a consumer's health key, gone by itself after `ttl`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn report_health(&self, consumer: &SessionId, json: &str, ttl: Duration) -> Result<(), Error> {
        let mut cmd = redis::cmd("SET");
        cmd.arg(keys::health(&self.prefix, consumer)).arg(json);
        cmd.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self.link.call(&cmd).await.map(|_| ())
    }

    /// Removes a consumer's health key.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn clear_health(&self, consumer: &SessionId) -> Result<(), Error> {
        let mut cmd = redis::cmd("DEL");
        cmd.arg(keys::health(&self.prefix, consumer));
        self.link.call(&cmd).await.map(|_| ())
    }

    /// The health reports of several consumers in one round trip; `None` for those that do not report, or whose key
    /// something else has made one of another type: one damaged report must not hide the others.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn healths(&self, consumers: &[SessionId]) -> Result<Vec<Option<String>>, Error> {
        if consumers.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::Pipeline::with_capacity(consumers.len());
        for consumer in consumers {
            pipeline.cmd("GET").arg(keys::health(&self.prefix, consumer));
        }
        let answers = self.link.pipeline(&pipeline).await?;
        let report = |answer: Result<Value, Error>| match answer {
            Ok(Value::Nil) => Ok(None),
            Ok(other) => reply::string(other).map(Some),
            Err(error) if error.is_foreign_key() => Ok(None),
            Err(error) => Err(error),
        };
        answers.into_iter().map(report).collect()
    }

    /// A consumer's health report, if it still reports.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn health(&self, consumer: &SessionId) -> Result<Option<String>, Error> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(keys::health(&self.prefix, consumer));
        match self.link.call(&cmd).await? {
            Value::Nil => Ok(None),
            other => reply::string(other).map(Some),
        }
    }
}
