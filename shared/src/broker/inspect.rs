//! inspect, and pages of ids: what operators see. Reads only.

use std::ops::Range;

use bytes::Bytes;
use redis::Value;

use super::{Queue, reply};
use crate::error::Error;
use crate::name::SessionId;
use crate::record::{Ended, Meta, Record, State};

/// Who runs a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The consumer.
    pub consumer: SessionId,
    /// The fencing token of its claim: by construction the time of the claim in us, or a little more.
    pub token: u64,
}

/// Where a live task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In pending.
    Pending,
    /// In scheduled (delayed, or a retry), due at this ms.
    Scheduled(u64),
    /// In the dead-letter set since this ms.
    Failed(u64),
    /// A consumer holds it.
    Running,
}

/// What is known of an id.
#[derive(Debug)]
pub enum Seen {
    /// A task that has not ended, or a dead letter.
    Live {
        /// Where it is.
        place: Place,
        /// The stored task.
        record: Record,
        /// Its counters and last error.
        meta: Meta,
    },
    /// A task that has ended, its result still kept.
    Ended(Ended),
    /// It is here, but of a newer release, or damaged.
    Unreadable {
        /// Where it is; of a result the state that it begins with, else failed.
        state: State,
        /// What is wrong, and what helps.
        why: String,
    },
    /// Nothing.
    Unknown,
}

impl Place {
    /// The state of a task there, as far as its place alone tells.
    #[must_use]
    pub fn state(self) -> State {
        match self {
            Self::Pending => State::Pending,
            Self::Scheduled(_) => State::Scheduled,
            Self::Failed(_) => State::Failed,
            Self::Running => State::Running,
        }
    }
}

impl Seen {
    fn ended(id: &str, text: &Bytes) -> Self {
        Ended::parse(text).map_or_else(
            |error| {
                let word = text.split(|&b| b == b' ').next().unwrap_or_default();
                let state = str::from_utf8(word).ok().and_then(State::parse);
                Self::Unreadable {
                    state: state.filter(|state| state.is_terminal()).unwrap_or(State::Failed),
                    why: format!("{}: `workyard delete {id}` removes it", unread(&error)),
                }
            },
            Self::Ended,
        )
    }

    fn live(id: &str, place: Place, record: Bytes, meta: &Bytes) -> Self {
        Record::parse(record).map_or_else(
            |error| Self::Unreadable {
                state: place.state(),
                why: format!("{}: `workyard cancel {id}` ends it", unread(&error)),
            },
            |record| Self::Live {
                place,
                record,
                meta: Meta::parse(meta),
            },
        )
    }
}

/// What is stored is of a newer release, or damaged.
fn unread(error: &Error) -> String {
    match error {
        Error::Protocol(why) => why.clone(),
        other => other.to_string(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds, below 2^53"
)]
fn score_ms(text: &str) -> u64 {
    text.parse::<f64>().map_or(0, |score| score.max(0.0) as u64)
}

/// A minute's number and the totals at its beginning.
/// The token with which a task is held; behind it stands more.
fn held_token(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}

fn read_minute(line: &str) -> Option<(u64, Vec<u64>)> {
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let (minute, totals) = numbers.split_first()?;
    Some((*minute, totals.to_vec()))
}

impl Queue {
    /// What is known of each id; at most 1,000 ids.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn inspect(&self, ids: &[&str]) -> Result<Vec<Seen>, Error> {
        let mut cmd = self.fcall("inspect", &[]);
        cmd.arg(ids);
        let mut items = reply::array(self.link.call(&cmd).await?)?.into_iter();
        let mut seen = Vec::with_capacity(ids.len());
        for id in ids {
            let (Some(place), Some(score), Some(body), Some(meta)) =
                (items.next(), items.next(), items.next(), items.next())
            else {
                return Err(Error::Protocol("a short answer to a look at tasks".to_owned()));
            };
            let (place, score, body) = (reply::string(place)?, reply::string(score)?, reply::bytes(body)?);
            let place = match place.as_str() {
                "unknown" => {
                    seen.push(Seen::Unknown);
                    continue;
                }
                "done" => {
                    seen.push(Seen::ended(id, &body));
                    continue;
                }
                "pending" => Place::Pending,
                "scheduled" => Place::Scheduled(score_ms(&score)),
                "failed" => Place::Failed(score_ms(&score)),
                "running" => Place::Running,
                other => return Err(Error::Protocol(format!("place {other:?}"))),
            };
            seen.push(Seen::live(id, place, body, &reply::bytes(meta)?));
        }
        Ok(seen)
    }

    /// Who runs a task, and since when. `None` if nobody does any more.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn holding(&self, id: &str) -> Result<Option<Holding>, Error> {
        let consumers = self.consumers().await?;
        if consumers.is_empty() {
            return Ok(None);
        }
        let mut pipeline = redis::Pipeline::with_capacity(consumers.len());
        for (consumer, _) in &consumers {
            pipeline.cmd("HGET").arg(self.keys.running(consumer)).arg(id);
        }
        for ((consumer, _), answer) in consumers.into_iter().zip(self.link.pipeline(&pipeline).await?) {
            let text = match answer? {
                Value::Nil => continue,
                other => reply::string(other)?,
            };
            let token =
                held_token(&text).ok_or_else(|| Error::Protocol("a running task without a token".to_owned()))?;
            return Ok(Some(Holding { consumer, token }));
        }
        Ok(None)
    }

    /// Ids of a sorted set (`pending`, `scheduled`, `failed`, `done`) from `offset` on.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn page(&self, set: &str, offset: u64, most: u64, newest_first: bool) -> Result<Vec<String>, Error> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.named(set)).arg(offset).arg(offset + most.max(1) - 1);
        if newest_first {
            cmd.arg("REV");
        }
        reply::strings(self.link.call(&cmd).await?)
    }

    /// Where a member of a sorted set stands: its score, as Redis prints it. `None` if it is not there any more.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn anchor(&self, set: &str, id: &str) -> Result<Option<String>, Error> {
        let mut cmd = redis::cmd("ZSCORE");
        cmd.arg(self.keys.named(set)).arg(id);
        Ok(match self.link.call(&cmd).await? {
            Value::Double(score) => Some(format!("{score}")),
            Value::Nil => None,
            other => Some(reply::string(other)?),
        })
    }

    /// The offset, as [`Self::page`] counts, behind a member that had this score; if it is gone, behind where it would be.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn behind(&self, set: &str, id: &str, score: &str, newest_first: bool) -> Result<u64, Error> {
        let key = self.keys.named(set);
        let mut pipeline = redis::Pipeline::with_capacity(4);
        pipeline.cmd("ZRANK").arg(&key).arg(id).cmd("ZCARD").arg(&key);
        let (from, to) = if newest_first {
            (format!("({score}"), "+inf".to_owned())
        } else {
            ("-inf".to_owned(), format!("({score}"))
        };
        pipeline.cmd("ZCOUNT").arg(&key).arg(from).arg(to);
        pipeline.cmd("ZCOUNT").arg(&key).arg(score).arg(score);
        let answers: Vec<Value> = self
            .link
            .pipeline(&pipeline)
            .await?
            .into_iter()
            .collect::<Result<_, _>>()?;
        let [rank, all, before, equal] = &answers[..] else {
            return Err(Error::Protocol("a short answer to a place in a set".to_owned()));
        };
        match rank {
            Value::Nil => {
                let before = reply::count(before)?;
                self.among_equals(set, id, before..before + reply::count(equal)?, newest_first)
                    .await
            }
            rank if newest_first => Ok(reply::count(all)?.saturating_sub(reply::count(rank)?)),
            rank => Ok(reply::count(rank)? + 1),
        }
    }

    /// Where an id would stand among those of one score, which are in the order of their bytes: halved until it is found, so
    /// some twenty reads among a million.
    async fn among_equals(&self, set: &str, id: &str, equals: Range<u64>, newest_first: bool) -> Result<u64, Error> {
        let Range { mut start, mut end } = equals;
        while start < end {
            let middle = start + (end - start) / 2;
            let other = self.page(set, middle, 1, newest_first).await?.pop();
            let comes_first = other.is_some_and(|other| if newest_first { *other > *id } else { *other < *id });
            if comes_first {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(start)
    }

    /// What a consumer holds, one step of a scan: the next cursor (0: done), and each id with the token of its claim.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn scan_running(&self, consumer: &SessionId, cursor: u64) -> Result<(u64, Vec<(String, u64)>), Error> {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(self.keys.running(consumer)).arg(cursor).arg("COUNT").arg(500);
        let mut items = reply::array(self.link.call(&cmd).await?)?.into_iter();
        let (Some(cursor), Some(pairs)) = (items.next(), items.next()) else {
            return Err(Error::Protocol("a short scan answer".to_owned()));
        };
        let (mut pairs, mut held) = (reply::strings(pairs)?.into_iter(), Vec::new());
        while let (Some(id), Some(text)) = (pairs.next(), pairs.next()) {
            // What cannot be read here is what the functions pass over, too.
            held.push((id, held_token(&text).unwrap_or_default()));
        }
        Ok((reply::count(&cursor)?, held))
    }

    /// Totals at the start of each minute of the last day that had a change: minute number and the
    /// counters in the order of `lua/stats.lua`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn minutes(&self) -> Result<Vec<(u64, Vec<u64>)>, Error> {
        let mut cmd = redis::cmd("HVALS");
        cmd.arg(self.keys.named("minutes"));
        let mut rows = Vec::new();
        for line in reply::strings(self.link.call(&cmd).await?)? {
            rows.extend(read_minute(&line));
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// As [`Self::minutes`], only those of `first` to `last`.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn minutes_between(&self, first: u64, last: u64) -> Result<Vec<(u64, Vec<u64>)>, Error> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.named("minutes"));
        for minute in first..=last {
            cmd.arg(minute % 1440);
        }
        let mut rows = Vec::new();
        for row in reply::array(self.link.call(&cmd).await?)? {
            if row != Value::Nil
                && let Some(row) = read_minute(&reply::string(row)?)
                && (first..=last).contains(&row.0)
            {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// How many tasks are claimed before this one; `None` if it is not pending.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn rank(&self, id: &str) -> Result<Option<u64>, Error> {
        let mut cmd = redis::cmd("ZRANK");
        cmd.arg(self.keys.named("pending")).arg(id);
        match self.link.call(&cmd).await? {
            Value::Nil => Ok(None),
            rank => reply::count(&rank).map(Some),
        }
    }

    /// Refused inbox items, newest first.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn rejected(&self, most: u64) -> Result<Vec<String>, Error> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.keys.rejected()).arg(0).arg(most.max(1) - 1);
        let items = reply::array(self.link.call(&cmd).await?)?;
        items
            .into_iter()
            .map(|value| match value {
                Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                other => reply::string(other),
            })
            .collect()
    }

    /// How many items wait in the inbox.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn inbox_len(&self) -> Result<u64, Error> {
        let mut total = 0;
        for key in [self.keys.inbox(), self.keys.ingesting()] {
            let mut cmd = redis::cmd("LLEN");
            cmd.arg(key);
            total += reply::count(&self.link.call(&cmd).await?)?;
        }
        Ok(total)
    }
}
