//! The inbox: where a task is that was pushed raw and that nobody has taken in yet.
//!
//! Invariant: a look is bounded, and goes the way of the items: first where they come in, then where they are judged, so
//! that one that moves meanwhile is seen or a task by then. It takes nothing out.

use serde::Deserialize;
use workyard_shared::Error as CallError;
use workyard_shared::broker::{InboxItem, Queue};
use workyard_shared::name::QueueName;

use crate::client::Client;
use crate::error::Error;

/// Raw items of each inbox list that are searched for a task which is nowhere else, and their bytes.
const SEEN: (usize, usize) = (1000, 4 << 20);

/// The id of a raw item, if it has one of its own.
fn id_of(item: &InboxItem) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: Option<String>,
    }
    match item {
        InboxItem::Raw(bytes) => serde_json::from_slice::<Named>(bytes).ok()?.id,
        InboxItem::Oversize(_) => None,
    }
}

/// How many items are taken in before the one of this id; `None` if it is not among the first.
pub(crate) async fn ahead(calls: &Queue, id: &str) -> Result<Option<u64>, CallError> {
    let (most, bytes) = SEEN;
    let place = |items: &[InboxItem]| {
        items
            .iter()
            .position(|item| id_of(item).is_some_and(|found| found == id))
    };
    let coming = calls.peek(&calls.keys().inbox(), most, bytes).await?;
    let judged = calls.peek(&calls.keys().ingesting(), most, bytes).await?;
    let found = place(&judged).or_else(|| place(&coming).map(|n| n + judged.len()));
    Ok(found.map(|n| n as u64))
}

impl Client {
    /// How many items of the inbox are taken in before the task of this id, which was pushed raw (`RPUSH`): as long as it
    /// is there, it is no task yet, and no other call knows it. `None` if it is not among the first 1,000 items or 4 MiB.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn ahead_in_inbox(&self, queue: &QueueName, id: &str) -> Result<Option<u64>, Error> {
        let calls = self.queue(queue);
        self.patiently(|| ahead(&calls, id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_raw_item_is_found_and_nothing_else() {
        let raw = |text: &'static str| InboxItem::Raw(text.into());
        assert_eq!(
            id_of(&raw(r#"{"kind":"k","id":"a","payload":{"id":"b"}}"#)).as_deref(),
            Some("a")
        );
        assert_eq!(id_of(&raw(r#"{"kind":"k"}"#)), None);
        assert_eq!(id_of(&raw("junk")), None);
        assert_eq!(id_of(&InboxItem::Oversize(9)), None);
    }
}
