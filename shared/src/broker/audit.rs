//! The audit of a queue: what operators did. Written by the functions that do it, see `lua/audit.lua`; here it is read.

use std::collections::HashMap;

use redis::Value;

use super::{Queue, reply};
use crate::error::Error;

/// Most bytes of the text that says who acts, with room for what a function adds.
const MAX_WHO: usize = 200;

/// Something that an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its place in the audit: what comes later has a higher one.
    pub id: String,
    /// When, by Redis' clock: ms since the epoch.
    pub at_ms: u64,
    /// The user of Redis, as the client said.
    pub user: String,
    /// Who that was, as the client said.
    pub name: String,
    /// `set`, `cancel`, `retry`, `delete`, `purge`, `cancel-job`, `retry-job` or `delete-job`.
    pub action: String,
    /// To how many tasks or settings.
    pub count: u64,
    /// Settings, a place, a job, or the first ids.
    pub detail: String,
}

/// `<user> <name>`, on one line and bounded, whatever a client calls itself.
pub(super) fn who(user: &str, name: &str) -> String {
    let mut text = format!("{} {name}", user.replace(' ', "_"));
    text = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let end = (0..=MAX_WHO.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

impl Queue {
    /// The last `most` acts, newest first.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn audit(&self, most: u64) -> Result<Vec<AuditEntry>, Error> {
        let mut cmd = redis::cmd("XREVRANGE");
        cmd.arg(self.keys.audit()).arg("+").arg("-").arg("COUNT").arg(most);
        entries(self.link.call(&cmd).await?)
    }

    /// Up to 1,000 acts behind the one with this id, oldest first.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn audit_after(&self, id: &str) -> Result<Vec<AuditEntry>, Error> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.keys.audit()).arg(format!("({id}")).arg("+");
        cmd.arg("COUNT").arg(1000);
        entries(self.link.call(&cmd).await?)
    }
}

fn entries(answer: Value) -> Result<Vec<AuditEntry>, Error> {
    reply::array(answer)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<AuditEntry, Error> {
    let short = || Error::Protocol("an entry of the audit without id or fields".to_owned());
    let mut parts = reply::array(value)?.into_iter();
    let id = reply::string(parts.next().ok_or_else(short)?)?;
    let mut fields = HashMap::new();
    let mut words = reply::strings(parts.next().ok_or_else(short)?)?.into_iter();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        fields.insert(name, value);
    }
    // What somebody else put there is shown as far as it can be.
    let mut field = |name: &str| fields.remove(name).unwrap_or_default();
    let who = field("who");
    let (user, name) = who.split_once(' ').unwrap_or((&who, ""));
    Ok(AuditEntry {
        at_ms: id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default(),
        user: user.to_owned(),
        name: name.to_owned(),
        action: field("what"),
        count: field("count").parse().unwrap_or_default(),
        detail: field("detail"),
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_stands_on_one_short_line() {
        assert_eq!(who("operator", "ada@host"), "operator ada@host");
        assert_eq!(who("a b", "x\ny"), "a_b x?y");
        let long = who("operator", &"ä".repeat(300));
        assert!(long.len() <= MAX_WHO && long.ends_with('ä'), "{long}");
    }

    #[test]
    fn an_entry_is_read_and_a_foreign_one_is_shown() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let of = |id: &str, fields: &[&str]| {
            Value::Array(vec![text(id), Value::Array(fields.iter().map(|f| text(f)).collect())])
        };
        let fields = ["who", "op ada b", "what", "purge", "count", "7", "detail", "failed"];
        let read = entries(Value::Array(vec![
            of("1700000000000-3", &fields),
            of("5-0", &["a", "b"]),
        ]))
        .unwrap();
        let first = &read[0];
        assert_eq!(
            (first.at_ms, first.user.as_str(), first.name.as_str()),
            (1_700_000_000_000, "op", "ada b")
        );
        assert_eq!(
            (first.action.as_str(), first.count, first.detail.as_str()),
            ("purge", 7, "failed")
        );
        assert_eq!((read[1].at_ms, read[1].action.as_str()), (5, ""));
        assert!(entries(Value::Array(vec![text("x")])).is_err());
    }
}
