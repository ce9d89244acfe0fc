//! Jobs of tests, and what their tasks say.

use workyard_producer::{Client, JobHandle, QueueName};
use workyard_shared::broker::Grant;
use workyard_shared::job::{Member, Part};

pub(crate) fn queue() -> QueueName {
    QueueName::new("default").unwrap()
}

pub(crate) fn lines(text: &str) -> Part {
    Part::Inline(text.to_owned().into())
}

pub(crate) fn payload(grant: &Grant) -> String {
    String::from_utf8(grant.record.as_ref().unwrap().payload().to_vec()).unwrap()
}

pub(crate) fn member(grant: &Grant) -> Member {
    Member::of_task(grant.id.as_str()).unwrap().2
}

/// A job over the numbers below `n`, `size` to a chunk.
pub(crate) async fn items(client: &Client, id: &str, n: u64, size: u64) -> JobHandle {
    let job = client.map_reduce(&queue(), "count", "sum").items(0..n).chunk_size(size);
    job.id(id).submit().await.unwrap()
}
