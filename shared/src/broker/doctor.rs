//! examine, checkup, adopt and bounded scans: what doctor looks with. See `lua/diagnose.lua`.
//!
//! Invariant: a scan reads a page at a time and changes nothing; what is mended is judged anew in the very call that mends it.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::{Broker, Queue, reply};
use crate::error::Error;
use crate::link::Link;
use crate::name::{JobId, SessionId};

/// Keys in one step of a scan.
const KEYS_AT_ONCE: usize = 500;

/// What is wrong, as the functions name it, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Odd {
    /// An id, a consumer, a field: bytes, since anybody may have written them.
    pub subject: Bytes,
    /// One word.
    pub finding: String,
}

/// Whether a call only looks, or mends what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It reads.
    Look,
    /// It mends.
    Mend,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its name.
    pub key: Bytes,
    /// Its type, as `TYPE` names it; `none` if it has gone.
    pub kind: String,
    /// It has a time to live.
    pub expires: bool,
}

/// One page of a hash or sorted set: what it holds with value or score.
#[derive(Debug)]
pub struct ScanPage {
    /// Where the next one begins; 0: this was the last.
    pub next: u64,
    /// Member and score, or field and value.
    pub items: Vec<(Bytes, Bytes)>,
}

fn odds(items: impl Iterator<Item = Value>) -> Result<Vec<Odd>, Error> {
    let flat: Vec<Bytes> = items.map(reply::bytes).collect::<Result<_, _>>()?;
    let (pairs, _) = flat.as_chunks::<2>();
    let odd = |[subject, finding]: &[Bytes; 2]| Odd {
        subject: subject.clone(),
        finding: String::from_utf8_lossy(finding).into_owned(),
    };
    Ok(pairs.iter().map(odd).collect())
}

/// A score comes as a number in RESP3.
fn item(value: Value) -> Result<Bytes, Error> {
    match value {
        Value::Double(score) => Ok(Bytes::from(score.to_string())),
        Value::Int(score) => Ok(Bytes::from(score.to_string())),
        other => reply::bytes(other),
    }
}

/// The cursor and the items of a SCAN.
fn page(value: Value) -> Result<(u64, Vec<Value>), Error> {
    let mut parts = reply::array(value)?.into_iter();
    let (Some(cursor), Some(items)) = (parts.next(), parts.next()) else {
        return Err(Error::Protocol("a short scan answer".to_owned()));
    };
    Ok((reply::count(&cursor)?, reply::array(items)?))
}

impl Queue {
    /// What is wrong with these ids, none of them a step of a job. `running`: the hashes of all consumers. `None`: one with a
    /// session was not among them, so nothing was judged.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn examine(&self, care: Care, running: &[String], ids: &[Bytes]) -> Result<Option<Vec<Odd>>, Error> {
        let own: Vec<&str> = running.iter().map(String::as_str).collect();
        let mut cmd = match care {
            Care::Look => self.fcall("examine", &own),
            Care::Mend => self.fcall("mend", &own),
        };
        for id in ids {
            cmd.arg(&id[..]);
        }
        self.judged(&cmd).await
    }

    /// The same for steps of a job, and for the job itself if `whole`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_examine(
        &self,
        care: Care,
        job: &JobId,
        running: &[String],
        whole: bool,
        ids: &[Bytes],
    ) -> Result<Option<Vec<Odd>>, Error> {
        let own: Vec<&str> = running.iter().map(String::as_str).collect();
        let mut cmd = match care {
            Care::Look => self.job_call("job_examine", job, &own),
            Care::Mend => self.job_call("job_mend", job, &own),
        };
        cmd.arg(if whole { "1" } else { "" });
        for id in ids {
            cmd.arg(&id[..]);
        }
        self.judged(&cmd).await
    }

    async fn judged(&self, cmd: &Cmd) -> Result<Option<Vec<Odd>>, Error> {
        let mut items = reply::array(self.link.call(cmd).await?)?.into_iter();
        match items.next() {
            Some(Value::Int(1)) => odds(items).map(Some),
            _ => Ok(None),
        }
    }

    /// What is wrong with the state, the counters and the consumers.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn checkup(&self, care: Care) -> Result<Vec<Odd>, Error> {
        let cmd = match care {
            Care::Look => self.fcall("checkup", &[]),
            Care::Mend => self.fcall("set_right", &[]),
        };
        odds(reply::array(self.link.call(&cmd).await?)?.into_iter())
    }

    /// Gives back what the keys of a consumer without a session hold, and removes them: how many tasks came back.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn adopt(&self, consumer: &SessionId) -> Result<u64, Error> {
        let mut back = 0;
        loop {
            let step = self.take_back("adopt", consumer).await?;
            back += step[0];
            if step[2] == 0 {
                return Ok(back);
            }
        }
    }

    /// One page of a key of this partition: a sorted set or a hash, or nothing.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn scan(&self, key: &str, sorted: bool, cursor: u64, count: usize) -> Result<ScanPage, Error> {
        let mut cmd = redis::cmd(if sorted { "ZSCAN" } else { "HSCAN" });
        cmd.arg(key).arg(cursor).arg("COUNT").arg(count);
        let (next, items) = page(self.link.call(&cmd).await?)?;
        let flat: Vec<Bytes> = items.into_iter().map(item).collect::<Result<_, _>>()?;
        let (pairs, _) = flat.as_chunks::<2>();
        Ok(ScanPage {
            next,
            items: pairs.iter().map(|[a, b]| (a.clone(), b.clone())).collect(),
        })
    }
}

impl Broker {
    /// One page of the keys of this installation on one server, with what is known of them; and where the next one begins.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn scan_keys(&self, server: &Link, cursor: u64) -> Result<(u64, Vec<KeyFacts>), Error> {
        let mut cmd = redis::cmd("SCAN");
        cmd.arg(cursor).arg("MATCH").arg(format!("{}:*", self.prefix));
        cmd.arg("COUNT").arg(KEYS_AT_ONCE);
        let (next, keys) = page(server.call(&cmd).await?)?;
        let keys: Vec<Bytes> = keys.into_iter().map(reply::bytes).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Ok((next, Vec::new()));
        }
        let mut pipeline = redis::Pipeline::with_capacity(2 * keys.len());
        for key in &keys {
            pipeline.cmd("TYPE").arg(&key[..]);
            pipeline.cmd("PTTL").arg(&key[..]);
        }
        let mut answers = server.pipeline(&pipeline).await?.into_iter();
        let mut facts = Vec::with_capacity(keys.len());
        for key in keys {
            let (Some(kind), Some(ttl)) = (answers.next(), answers.next()) else {
                return Err(Error::Protocol("a short pipeline answer".to_owned()));
            };
            facts.push(KeyFacts {
                key,
                kind: reply::string(kind?)?,
                expires: reply::int(&ttl?)? >= 0,
            });
        }
        Ok((next, facts))
    }

    /// Gives a key a time to live, unless it has one: whether it had none.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn expire_unless_it_does(&self, key: &[u8], ttl: Duration) -> Result<bool, Error> {
        let mut cmd = redis::cmd("PEXPIRE");
        cmd.arg(key)
            .arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
            .arg("NX");
        Ok(reply::int(&self.link.call(&cmd).await?)? == 1)
    }
}
