//! The parsers of this crate that only its own modules call, for the fuzz targets in `fuzz/`.
//!
//! Compiled with `--cfg fuzzing` alone, which cargo-fuzz sets: nobody else can rely on it.

use bytes::Bytes;
use workyard_shared::broker::{InboxItem, Verdict};
use workyard_shared::name::QueueName;

/// What the ingester decides about a raw item of the inbox of `queue`.
#[must_use]
pub fn inbox_item(queue: &QueueName, item: &[u8]) -> Verdict {
    crate::ingest::judge(queue, &InboxItem::Raw(Bytes::copy_from_slice(item)))
}

/// Reads a line of a worker process.
///
/// # Errors
/// What is wrong with it, as the log says.
pub fn worker_line(line: &[u8]) -> Result<(), String> {
    crate::handlers::worker::read_line(line)
}
