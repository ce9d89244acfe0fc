//! The stored forms of a task, read into types; `lua/record.lua` describes them.
//!
//! Invariant: the payload is a slice of the bytes that Redis sent, never copied or parsed here. What
//! a newer release stored and this one cannot read is an error, and the task stays where it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::envelope::{check_extra, read_extra};
use crate::error::Error;
use crate::options::TaskOptions;

/// A task as stored in the `tasks` hash.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whether options follow in the header; without, every option has its default.
    pub plain: bool,
    /// When it was accepted, in ms by Redis' clock.
    pub created_ms: u64,
    kind: (usize, usize),
    options: (usize, usize),
    extra: (usize, usize),
    payload_from: usize,
    bytes: Bytes,
}

impl Record {
    /// Finds the parts of a stored record.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the bytes are not a record of version 1.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let wrong = || Error::Protocol("a stored task that this version cannot read".to_owned());
        let header_end = bytes.iter().position(|&b| b == b'\n').ok_or_else(wrong)?;
        let extra_len = bytes[header_end + 1..]
            .iter()
            .position(|&b| b == b'\n')
            .ok_or_else(wrong)?;
        let header = std::str::from_utf8(&bytes[..header_end]).map_err(|_| wrong())?;
        let plain = match header.as_bytes().first() {
            Some(b'd') => true,
            Some(b'o' | b'e') => false,
            _ => return Err(wrong()),
        };
        let (created, rest) = header[1..].split_once(' ').ok_or_else(wrong)?;
        let kind_from = 1 + created.len() + 1;
        let kind_len = rest.find(' ').unwrap_or(rest.len());
        let options_from = (kind_from + kind_len + 1).min(header_end);
        Ok(Self {
            plain,
            created_ms: created.parse().map_err(|_| wrong())?,
            kind: (kind_from, kind_from + kind_len),
            options: (options_from, header_end),
            extra: (header_end + 1, header_end + 1 + extra_len),
            payload_from: header_end + 1 + extra_len + 1,
            bytes,
        })
    }

    fn text(&self, (from, to): (usize, usize)) -> &str {
        std::str::from_utf8(&self.bytes[from..to]).unwrap_or_default()
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text(self.kind)
    }

    /// What the task chose.
    #[must_use]
    pub fn options(&self) -> TaskOptions {
        if self.plain {
            TaskOptions::default()
        } else {
            TaskOptions::decode(self.text(self.options))
        }
    }

    /// Headers and unknown fields.
    #[must_use]
    pub fn extra(&self) -> (BTreeMap<String, String>, BTreeMap<String, Box<RawValue>>) {
        if self.extra.0 == self.extra.1 {
            return (BTreeMap::new(), BTreeMap::new());
        }
        read_extra(self.text(self.extra))
    }

    /// Whether headers and unknown fields can be read.
    ///
    /// # Errors
    /// As [`check_extra`].
    pub fn check_extra(&self) -> Result<(), Error> {
        if self.extra.0 == self.extra.1 {
            return Ok(());
        }
        check_extra(self.text(self.extra))
    }

    /// The payload's bytes, as enqueued.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(self.payload_from..)
    }
}

/// The mutable state of a task that has some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Attempts that a handler failed.
    pub failures: u32,
    /// Consumers that died under the task.
    pub crashes: u32,
    /// Times it was handed back by a drain.
    pub releases: u32,
    /// Consumers that knew no handler.
    pub unhandled: u32,
    /// When the last failure was, in ms by Redis' clock.
    pub failed_ms: u64,
    /// One word: error, attempts, final, malformed, refused, timeout, poison, no-handler, no-job.
    pub reason: String,
    /// When the last attempt that ended badly began, in ms by Redis' clock; 0 if it is not known.
    pub started_ms: u64,
    /// The consumer of that attempt; empty if there was none.
    pub consumer: String,
    /// What the handler last said of its progress.
    pub progress: String,
    /// The last error text.
    pub error: String,
}

impl Meta {
    /// Reads a stored meta text; an empty one is a fresh task's.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.splitn(3, '\n');
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or_default();
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (failures, crashes, releases, unhandled) =
            (small(number()), small(number()), small(number()), small(number()));
        let failed_ms = number();
        Self {
            failures,
            crashes,
            releases,
            unhandled,
            failed_ms,
            reason: words.next().unwrap_or_default().to_owned(),
            started_ms: words.next().and_then(|w| w.parse().ok()).unwrap_or_default(),
            consumer: words.next().filter(|w| *w != "-").unwrap_or_default().to_owned(),
            progress: lines.next().unwrap_or_default().to_owned(),
            error: lines.next().unwrap_or_default().to_owned(),
        }
    }
}

/// How a task ended, as kept for its retention and sent to waiters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// completed, failed, cancelled or expired.
    pub state: State,
    /// The kind.
    pub kind: String,
    /// When it was accepted, ms.
    pub created_ms: u64,
    /// When the last attempt began, ms; 0 if none did or it is not known.
    pub started_ms: u64,
    /// When it ended, ms.
    pub finished_ms: u64,
    /// Attempts that failed.
    pub failures: u32,
    /// Consumers that died under it.
    pub crashes: u32,
    /// Times it was handed back.
    pub releases: u32,
    /// Who held it last; empty if nobody.
    pub consumer: String,
    /// One word for why, empty for a completed one.
    pub reason: String,
    /// The last error text, whatever the state; empty if no attempt failed.
    pub last_error: String,
    /// The result (JSON) of a completed task, the error text of a failed one.
    pub body: Bytes,
}

impl Ended {
    /// Reads a terminal text.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is none of version 1.
    pub fn parse(bytes: &Bytes) -> Result<Self, Error> {
        let wrong = || Error::Protocol("a stored result that this version cannot read".to_owned());
        let line_end = bytes.iter().position(|&b| b == b'\n').ok_or_else(wrong)?;
        let line = std::str::from_utf8(&bytes[..line_end]).map_err(|_| wrong())?;
        let words: Vec<&str> = line.split(' ').collect();
        let [
            state,
            kind,
            created,
            started,
            finished,
            failures,
            crashes,
            releases,
            consumer,
            reason,
            ref error_len @ ..,
        ] = words[..]
        else {
            return Err(wrong());
        };
        let state = State::parse(state).ok_or_else(wrong)?;
        let error_from = line_end + 1;
        let body_from = match error_len {
            [] => error_from,
            [len] => len
                .parse::<usize>()
                .ok()
                .and_then(|len| error_from.checked_add(len))
                .ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        let error = bytes.get(error_from..body_from).ok_or_else(wrong)?;
        let body = bytes.slice(body_from..);
        let last_error = if state == State::Failed { &body[..] } else { error };
        let ms = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let count = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let word = |text: &str| if text == "-" { String::new() } else { text.to_owned() };
        Ok(Self {
            state,
            kind: kind.to_owned(),
            created_ms: ms(created)?,
            started_ms: ms(started)?,
            finished_ms: ms(finished)?,
            failures: count(failures)?,
            crashes: count(crashes)?,
            releases: count(releases)?,
            consumer: word(consumer),
            reason: word(reason),
            last_error: String::from_utf8_lossy(last_error).into_owned(),
            body,
        })
    }
}

/// The states of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its time.
    Scheduled,
    /// Waits for a consumer.
    Pending,
    /// A consumer holds it.
    Running,
    /// Failed, waits for its next attempt.
    Retrying,
    /// Ended well.
    Completed,
    /// Ended in the dead-letter set.
    Failed,
    /// Ended by a cancel.
    Cancelled,
    /// Ended because it was not started in time.
    Expired,
}

impl State {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether a task in it has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_records_are_read_field_by_field() {
        let record = Record::parse(Bytes::from_static(
            b"o1700000000000 mail:send priority=1 timeout=30000\n{\"headers\":{\"a\":\"b\"}}\n[1,\n2]",
        ))
        .unwrap();
        assert_eq!((record.kind(), record.created_ms), ("mail:send", 1_700_000_000_000));
        assert_eq!(record.options().priority, Some(1));
        assert_eq!(record.extra().0["a"], "b");
        assert_eq!(record.payload(), Bytes::from_static(b"[1,\n2]"));
        let plain = Record::parse(Bytes::from_static(b"d1 k\n\n{}")).unwrap();
        assert_eq!((plain.kind(), plain.plain), ("k", true));
        assert_eq!(plain.payload(), Bytes::from_static(b"{}"));
        for bad in ["", "x", "d1 k", "d1 k\n", "z1 k\n\n1", "dx k\n\n1"] {
            assert!(
                Record::parse(Bytes::copy_from_slice(bad.as_bytes())).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn golden_meta_and_terminal_texts_are_read() {
        let meta = Meta::parse(b"2 1 3 0 1700000000000 error 1699999999000 c1\n50%\nboom\nand more");
        assert_eq!((meta.failures, meta.crashes, meta.releases), (2, 1, 3));
        assert_eq!((meta.progress.as_str(), meta.error.as_str()), ("50%", "boom\nand more"));
        assert_eq!((meta.started_ms, meta.consumer.as_str()), (1_699_999_999_000, "c1"));
        assert_eq!(Meta::parse(b""), Meta::default());
        let text = Bytes::from_static(b"completed k 1 2 3 0 1 2 c1 -\n{\"a\":\n1}");
        let ended = Ended::parse(&text).unwrap();
        assert_eq!(
            (ended.state, ended.consumer.as_str(), ended.reason.as_str()),
            (State::Completed, "c1", "")
        );
        assert_eq!(ended.body, Bytes::from_static(b"{\"a\":\n1}"));
        assert_eq!(ended.last_error, "");
    }

    #[test]
    fn a_terminal_text_has_the_last_error_in_front_of_the_body() {
        let parse = |text: &'static [u8]| Ended::parse(&Bytes::from_static(text));
        let ended = parse(b"completed k 1 2 3 2 0 0 c1 - 9\nboom\nmore[1]").unwrap();
        assert_eq!(
            (ended.last_error.as_str(), &ended.body[..]),
            ("boom\nmore", &b"[1]"[..])
        );
        let expired = parse(b"expired k 1 0 3 1 0 0 - expired 5\n\xc3\xa9\n\nx").unwrap();
        assert_eq!((expired.last_error.as_str(), &expired.body[..]), ("é\n\nx", &b""[..]));
        let failed = parse(b"failed k 1 2 3 2 0 0 c1 attempts\nboom").unwrap();
        assert_eq!((failed.last_error.as_str(), &failed.body[..]), ("boom", &b"boom"[..]));
        for bad in [
            &b"completed k 1 2 3 2 0 0 c1 - 5\nboom"[..],
            b"completed k 1 2 3 2 0 0 c1 - x\nboom",
            b"completed k 1 2 3 2 0 0 c1 - 1 2\nboom",
            b"completed k 1 2 3 2 0 0 c1 - 18446744073709551615\nboom",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
