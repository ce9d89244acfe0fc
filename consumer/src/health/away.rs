//! For how long a task stays away that is handed back because it cannot run here now.
//!
//! Invariant: the more of a kind goes round, the longer each stays away, and none longer than its bound. It hands nothing back.

use std::time::Duration;

use super::gauge::Gauge;

/// Tasks of a kind that this consumer hands back in a second without asking them to stay away for longer ...
const HANDED_BACK: f64 = 100.0;
/// ... and of one whose breaker is open: none of them can run, so each hand-back is work for nothing.
const HANDED_BACK_BROKEN: f64 = 10.0;
/// What is handed back comes again after this at the latest: as long as the longest pause of a breaker.
const LONGEST_AWAY: Duration = Duration::from_secs(8);
/// Or, behind a breaker that has been open for long, after half of that time, up to this: nobody waits much longer for the
/// end of an outage than it lasted.
const LONGEST_AWAY_BROKEN: Duration = Duration::from_secs(60);

/// A large backlog of a kind that waits comes less often the larger it is: else Redis would do little but hand it
/// out and take it back. Spread, so that it does not come again in one wave.
pub(super) fn away(gauge: &mut Gauge, least: Duration, now: Duration) -> Duration {
    let (at_ease, longest) = match gauge.broken_since() {
        None => (HANDED_BACK, LONGEST_AWAY),
        Some(since) => {
            let half = now.saturating_sub(since) / 2;
            (HANDED_BACK_BROKEN, half.clamp(LONGEST_AWAY, LONGEST_AWAY_BROKEN))
        }
    };
    let more = Duration::from_secs(1).mul_f64(gauge.handed_back(now) / at_ease);
    (least + more).min(longest).mul_f64(1.0 + fastrand::f64() / 4.0)
}

#[cfg(test)]
mod tests {
    use workyard_shared::balance::Breaker;

    use super::*;

    #[test]
    fn what_a_breaker_holds_comes_again_the_later_the_more_it_is_and_the_longer_it_lasts() {
        let away_for = |broken: bool, tasks: u32, at: u64| {
            let now = Duration::from_secs(at);
            let mut gauge = Gauge::default();
            if broken {
                let (until_ms, pause_ms) = (1000, 1000);
                gauge.hears(Breaker::Open { until_ms, pause_ms }, Duration::ZERO);
            }
            (0..tasks).for_each(|_| {
                gauge.handed_back(now);
            });
            away(&mut gauge, Duration::from_secs(1), now).as_secs_f64()
        };
        for (broken, tasks, at, least, most) in [
            (true, 0, 300, 1.1, 1.4),
            (true, 49, 300, 6.0, 7.5),
            (true, 999, 4, 8.0, 10.0),
            (true, 999, 60, 30.0, 37.5),
            (true, 999, 3600, 60.0, 75.0),
            (false, 99, 300, 2.0, 2.5),
            (false, 9999, 300, 8.0, 10.0),
        ] {
            let away = away_for(broken, tasks, at);
            assert!((least..=most).contains(&away), "{broken} {tasks} {at}: {away}");
        }
    }
}
