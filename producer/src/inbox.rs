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

/// What a bounded look into the inbox says of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboxPlace {
    /// It is there: so many items are taken in before it.
    Behind(u64),
    /// It is not among the first items, and so many more were not looked at.
    Unseen(u64),
    /// It is not there.
    Absent,
}

/// Where the item of this id is.
pub(crate) async fn place(calls: &Queue, id: &str) -> Result<InboxPlace, CallError> {
    let (most, bytes) = SEEN;
    let position = |items: &[InboxItem]| {
        items
            .iter()
            .position(|item| id_of(item).is_some_and(|found| found == id))
    };
    let coming = calls.peek(&calls.keys().inbox(), most, bytes).await?;
    let judged = calls.peek(&calls.keys().ingesting(), most, bytes).await?;
    if let Some(n) = position(&judged).or_else(|| position(&coming).map(|n| n + judged.len())) {
        return Ok(InboxPlace::Behind(n as u64));
    }
    let seen = (judged.len() + coming.len()) as u64;
    Ok(match calls.inbox_len().await?.saturating_sub(seen) {
        0 => InboxPlace::Absent,
        unseen => InboxPlace::Unseen(unseen),
    })
}

impl Client {
    /// Where in the inbox the task of this id is, which was pushed raw (`RPUSH`): as long as it is there, it is no task
    /// yet, and no other call knows it. The first 1,000 items or 4 MiB are looked at.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn place_in_inbox(&self, queue: &QueueName, id: &str) -> Result<InboxPlace, Error> {
        let calls = self.queue(queue);
        self.patiently(|| place(&calls, id)).await
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
