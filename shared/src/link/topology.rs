//! Which master of a cluster has which slots, as one of its nodes says.

use redis::Value;

use super::address::Address;
use super::slot::SLOTS;
use crate::error::Error;

/// Owners of slots. Immutable but for single slots that were told to have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    masters: Vec<Address>,
    /// Per slot one more than the position of its master, 0: nobody has it.
    owners: Vec<u16>,
}

impl Topology {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `from`.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is none.
    pub(super) fn read(answer: &Value, from: &Address) -> Result<Self, Error> {
        let mut topology = Self {
            masters: Vec::new(),
            owners: vec![0; usize::from(SLOTS)],
        };
        let ranges = items(answer).ok_or_else(unclear)?;
        for range in ranges {
            let (first, last, master) = read_range(range, from).ok_or_else(unclear)?;
            let owner = topology.position(master);
            for slot in first..=last {
                topology.owners[usize::from(slot)] = owner;
            }
        }
        Ok(topology)
    }

    /// The master that has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        let position = usize::from(*self.owners.get(usize::from(slot))?);
        self.masters.get(position.checked_sub(1)?)
    }

    /// Every master that has slots.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// Whether some slot has another owner there.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        (0..SLOTS).any(|slot| self.owner(slot) != other.owner(slot))
    }

    /// A slot has moved.
    pub(super) fn learn(&mut self, slot: u16, to: Address) {
        if slot < SLOTS {
            self.owners[usize::from(slot)] = self.position(to);
        }
    }

    fn position(&mut self, master: Address) -> u16 {
        let found = self.masters.iter().position(|known| *known == master);
        let at = found.unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        // A cluster has no more masters than slots.
        u16::try_from(at + 1).unwrap_or(0)
    }
}

fn read_range(range: &Value, from: &Address) -> Option<(u16, u16, Address)> {
    let [first, last, master, ..] = items(range)? else {
        return None;
    };
    let (first, last) = (slot(first)?, slot(last)?);
    let [host, port, ..] = items(master)? else { return None };
    let host = match host {
        Value::Nil => String::new(),
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok()?,
        Value::SimpleString(text) => text.clone(),
        _ => return None,
    };
    let Value::Int(port) = port else { return None };
    let master = Address::named(&host, u16::try_from(*port).ok()?, &from.host);
    Some((first, last, master))
}

fn slot(value: &Value) -> Option<u16> {
    match value {
        Value::Int(slot) => u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    }
}

fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn unclear() -> Error {
    Error::Protocol("an answer to CLUSTER SLOTS that is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = |host, port| Value::Array(vec![host, Value::Int(port), Value::SimpleString("id".into())]);
        let replica = node(Value::BulkString(b"r".to_vec()), 1);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), replica])
    }

    fn name(host: &str) -> Value {
        Value::BulkString(host.as_bytes().to_vec())
    }

    #[test]
    fn slots_have_their_masters_and_gaps_have_none() {
        let from = Address::named("seed", 7000, "");
        let answer = Value::Array(vec![
            range(0, 5460, name("a"), 1),
            range(5461, 10000, Value::Nil, 2),
            range(10001, 10001, name("a"), 1),
        ]);
        let mut found = Topology::read(&answer, &from).unwrap();
        let owner = |found: &Topology, slot| found.owner(slot).map(ToString::to_string);
        assert_eq!(owner(&found, 0).as_deref(), Some("a:1"));
        assert_eq!(owner(&found, 10000).as_deref(), Some("seed:2"));
        assert_eq!(owner(&found, 10001).as_deref(), Some("a:1"));
        assert_eq!(owner(&found, 10002), None);
        assert_eq!(found.masters().len(), 2);
        let before = found.clone();
        assert!(!before.differs_from(&found));
        found.learn(0, Address::named("c", 3, ""));
        assert!(before.differs_from(&found));
        assert_eq!(owner(&found, 0).as_deref(), Some("c:3"));
        assert_eq!(owner(&found, 1).as_deref(), Some("a:1"));
    }

    #[test]
    fn an_answer_of_another_form_is_refused() {
        let from = Address::named("seed", 7000, "");
        let bad = [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, name("a"), 1)]),
            Value::Array(vec![range(0, 1, name("a"), 70000)]),
        ];
        for answer in bad {
            assert!(Topology::read(&answer, &from).is_err(), "{answer:?}");
        }
    }
}
