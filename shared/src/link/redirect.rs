//! What a node of a cluster answers about a slot that is not, or not only, its own.

use super::address::Address;
use crate::error::{Error, Outage};

/// Where a call belongs. It has not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot has another owner.
    Moved(u16, Address),
    /// The slot is on its way there, and this key has arrived: for this one call.
    Ask(Address),
}

impl Redirect {
    /// Reads the answer of the node at `from`; `None` if it is something else.
    pub(super) fn of(error: &Error, from: &Address) -> Option<Self> {
        let Error::Unavailable {
            outage: Outage::ClusterDown,
            detail,
        } = error
        else {
            return None;
        };
        let mut words = detail.split_ascii_whitespace();
        let (word, slot, at) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let to = Address::read(at, &from.host)?;
        match word {
            "MOVED" => Some(Self::Moved(slot, to)),
            "ASK" => Some(Self::Ask(to)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_told_from_other_answers() {
        let from = Address::named("a", 1, "");
        let read = |code, detail| Redirect::of(&Error::from_answer(code, detail), &from);
        let to = |host| Address::named(host, 7002, "");
        assert_eq!(read("MOVED", "3999 b:7002"), Some(Redirect::Moved(3999, to("b"))));
        assert_eq!(read("ASK", "3999 :7002"), Some(Redirect::Ask(to("a"))));
        assert_eq!(read("CLUSTERDOWN", "The cluster is down"), None);
        assert_eq!(read("TRYAGAIN", "Multiple keys request during rehashing of slot"), None);
        assert_eq!(read("READONLY", "You can't write"), None);
    }
}
