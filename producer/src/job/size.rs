//! How large a chunk is that nobody gave a size.
//!
//! Invariant: four chunks per slot of the consumers that live, so that none idles while another ends its last one, and
//! files in pieces that are worth the way. Pure, but for the question who lives.

use serde::Deserialize;
use workyard_shared::name::QueueName;

use crate::client::Client;
use crate::error::Error;

/// Chunks for each slot.
const PER_SLOT: u64 = 4;
/// Slots that a consumer is taken to have per CPU while none lives.
const SLOTS_PER_CPU: u64 = 4;
/// Least bytes of a chunk of files.
pub(crate) const MIN_BYTES: u64 = 64 << 10;
/// Most bytes of a chunk of files.
pub(crate) const MAX_BYTES: u64 = 32 << 20;

/// Most bytes that a consumer reads for one task.
pub(crate) const MAX_READ: u64 = 256 << 20;

/// Items per chunk.
pub(crate) fn of_items(items: u64, slots: u64) -> u64 {
    (items / (slots * PER_SLOT).max(1)).max(1)
}

/// Bytes of files per chunk.
pub(crate) fn of_bytes(bytes: u64, slots: u64) -> u64 {
    (bytes / (slots * PER_SLOT).max(1)).clamp(MIN_BYTES, MAX_BYTES)
}

impl Client {
    /// Tasks that the consumers of this queue can run at the same time, by their health reports.
    pub(crate) async fn slots(&self, queue: &QueueName) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Report {
            capacity: u64,
        }
        let consumers = self.consumers(std::slice::from_ref(queue)).await?;
        let slots: u64 = consumers
            .iter()
            .filter(|consumer| consumer.alive)
            .filter_map(|consumer| consumer.health.as_ref()?.parse::<Report>().ok())
            .map(|report| report.capacity)
            .sum();
        if slots > 0 {
            return Ok(slots);
        }
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Ok(cpus * SLOTS_PER_CPU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_four_per_slot_within_their_limits() {
        assert_eq!((of_items(0, 8), of_items(31, 8), of_items(1000, 8)), (1, 1, 31));
        assert_eq!(of_items(10_000_000, 4), 625_000);
        assert_eq!(of_bytes(0, 8), MIN_BYTES);
        assert_eq!(of_bytes(10 << 30, 8), MAX_BYTES);
        assert_eq!(of_bytes(320 << 20, 8), 10 << 20);
        assert_eq!(of_bytes(5, 0), MIN_BYTES);
    }
}
