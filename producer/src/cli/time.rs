//! Times as people read them: how long ago, or in how long.
//!
//! Invariant: "now" is Redis' clock, given by the caller. JSON output does not come here: it has
//! RFC 3339.

use std::time::Duration;

use workyard_producer::Moment;
use workyard_shared::duration;

/// Redis' time at the moment of the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Moment,
}

impl Clock {
    /// "3s ago", "in 5m 10s", "now".
    pub(crate) fn relative(self, at: Moment) -> String {
        let (now, at) = (self.now.ms(), at.ms());
        let span = |ms: u64| {
            // Below a minute seconds will do; nobody reads milliseconds in "3h 5m ago".
            let ms = if ms >= 1000 { ms - ms % 1000 } else { ms };
            duration::format(Duration::from_millis(ms))
        };
        match at.cmp(&now) {
            std::cmp::Ordering::Less => format!("{} ago", span(now - at)),
            std::cmp::Ordering::Equal => "now".to_owned(),
            std::cmp::Ordering::Greater => format!("in {}", span(at - now)),
        }
    }

    /// As [`Self::relative`], or "-" for a time that is not known.
    pub(crate) fn cell(self, at: Option<Moment>) -> String {
        at.map_or_else(|| "-".to_owned(), |at| self.relative(at))
    }

    /// The time and how long ago: "2026-01-31 08:00:00 UTC (3s ago)".
    pub(crate) fn full(self, at: Moment) -> String {
        let text = at.to_string();
        let shown = text
            .get(..19)
            .map_or_else(|| text.clone(), |head| format!("{} UTC", head.replace('T', " ")));
        format!("{shown} ({})", self.relative(at))
    }
}

/// The time of day of a moment: "08:00:00".
pub(crate) fn time_of_day(at: Moment) -> String {
    at.to_string().get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let clock = Clock {
            now: Moment::from_ms(1_700_000_000_000),
        };
        let at = |delta: i64| Moment::from_ms(1_700_000_000_000_u64.saturating_add_signed(delta));
        assert_eq!(clock.relative(at(0)), "now");
        assert_eq!(clock.relative(at(-3200)), "3s ago");
        assert_eq!(clock.relative(at(-200)), "200ms ago");
        assert_eq!(clock.relative(at(310_400)), "in 5m 10s");
        assert_eq!(clock.full(at(-3000)), "2023-11-14 22:13:17 UTC (3s ago)");
        assert_eq!(time_of_day(at(0)), "22:13:20");
    }
}
