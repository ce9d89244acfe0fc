//! A histogram that many threads add to without a lock.
//!
//! Invariant: each observation is one relaxed add to its bucket and one to the sum. A reader may see one without the
//! other: a scrape is of about now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use workyard_shared::metrics::Histogram;

/// Bounds for times, in microseconds: 1 ms to 10 minutes, coarse, since each is a series per queue and kind.
pub(super) const RUN_US: [u64; 9] = [
    1_000,
    5_000,
    25_000,
    100_000,
    500_000,
    2_500_000,
    10_000_000,
    60_000_000,
    600_000_000,
];
/// Bounds for round trips, in microseconds: 100 us to 5 s.
pub(super) const CALL_US: [u64; 9] = [100, 250, 500, 1_000, 2_500, 10_000, 50_000, 500_000, 5_000_000];
/// Bounds for batches, in tasks.
pub(super) const BATCH: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 250, 500];

/// Observations in buckets.
#[derive(Debug)]
pub(super) struct Spread {
    bounds: &'static [u64; 9],
    buckets: [AtomicU64; 10],
    sum: AtomicU64,
}

impl Spread {
    pub(super) fn new(bounds: &'static [u64; 9]) -> Self {
        Self {
            bounds,
            buckets: Default::default(),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 20));
    }

    /// `None` before the first observation; `unit` is how many of ours make one of the family's.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has nothing but doubles")]
    pub(super) fn read(&self, unit: f64) -> Option<Histogram> {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        if counts.iter().all(|n| *n == 0) {
            return None;
        }
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::MAX]);
        Some(Histogram {
            sum: self.sum.load(Ordering::Relaxed) as f64 / unit,
            buckets: bounds.zip(counts).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_what_is_above_all_to_the_last() {
        let spread = Spread::new(&BATCH);
        assert_eq!(spread.read(1.0), None);
        for value in [1, 2, 3, 500, 501] {
            spread.add(value);
        }
        let read = spread.read(1.0).unwrap();
        let counts: Vec<u64> = read.buckets.iter().map(|(_, n)| *n).collect();
        assert_eq!(counts, [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((read.sum, read.buckets[9].0), (1007.0, f64::MAX));
    }
}
