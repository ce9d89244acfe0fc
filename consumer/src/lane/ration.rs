//! How many lines of a sort the log gets in a second.
//!
//! Invariant: what is not said is counted, and the next line that is says how many there were.

use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(1);
/// Lines in a span.
const MOST: u32 = 10;

/// The lines of one sort.
#[derive(Debug, Default)]
pub(super) struct Ration {
    began: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Ration {
    /// Whether another line is written: with how many that were not, since the last one.
    pub(super) fn another(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now - began >= SPAN) {
            (self.began, self.said) = (Some(now), 0);
        }
        if self.said == MOST {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        let said = (0..100).filter(|_| ration.another(start).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(ration.another(start + SPAN), Some(90));
        assert_eq!(ration.another(start + SPAN), Some(0));
    }
}
