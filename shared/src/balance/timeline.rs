//! The parts together over time: two consumers with a beat a second, and a maintainer that computes the
//! fleet half a second after them. How soon a failing consumer is cut off, a mended one is back, a dead
//! kind is parked.

use std::time::Duration;

use super::*;

const STEP_MS: u64 = 10;

/// One consumer that starts a task of each kind every 50 ms, as far as it may.
#[derive(Default)]
struct Consumer {
    circuit: Circuit,
    watches: [Watch; 2],
    report: Vitals,
    ran: [u32; 2],
    burnt: u32,
}

const KINDS: [&str; 2] = ["mail", "report"];

impl Consumer {
    fn run(&mut self, kind: usize, ok: bool, now: Duration) {
        if self.watches[kind].admits(0, now) == Allowed::All || self.watches[kind].admits(0, now) == Allowed::Probe {
            match self.circuit.may_claim(now) {
                Allowed::Nothing { .. } => return,
                Allowed::All | Allowed::Probe => {}
            }
            self.ran[kind] += 1;
            self.burnt += u32::from(!ok);
            self.watches[kind].record(Outcome::of(ok), Duration::from_millis(30), now);
            if self.circuit.on_result(ok, now).is_some() {
                self.watches.iter_mut().for_each(Watch::clear);
            }
        }
    }

    fn judge(&mut self, fleet: &Fleet, now: Duration) {
        self.report = Vitals {
            capacity: 4,
            running: 1,
            ..Vitals::default()
        };
        for (kind, watch) in KINDS.into_iter().zip(&self.watches) {
            self.report.kinds.insert(kind.to_owned(), watch.vitals(now));
        }
        let blame = Blame::of(&self.report, fleet);
        let health = health_score(&self.report, fleet);
        if self.circuit.on_health(health, blame.rate, blame.runs, now).is_some() {
            self.watches.iter_mut().for_each(Watch::clear);
        }
    }
}

/// Steps until `until_ms`; `works(consumer, kind, ms)` says what succeeds, `look` sees each step.
fn play(until_ms: u64, works: impl Fn(usize, usize, u64) -> bool, mut look: impl FnMut(u64, &[Consumer; 2], &Fleet)) {
    let (mut consumers, mut fleet) = ([Consumer::default(), Consumer::default()], Fleet::default());
    for ms in (0..until_ms).step_by(usize::try_from(STEP_MS).unwrap()) {
        let now = Duration::from_millis(ms);
        for (n, consumer) in consumers.iter_mut().enumerate() {
            if ms % 50 == 0 {
                (0..2).for_each(|kind| consumer.run(kind, works(n, kind, ms), now));
            }
            // A failing consumer looks and reports four times a second, the others once.
            let every = if consumer.watches.iter().any(Watch::is_failing) {
                250
            } else {
                1000
            };
            if ms % every == 0 {
                for (kind, watch) in KINDS.into_iter().zip(&mut consumer.watches) {
                    let breaker = fleet.kinds.get(kind).map(|k| k.breaker).unwrap_or_default();
                    watch.learn(breaker, fleet.consumers, 0.0);
                }
                consumer.judge(&fleet, now);
            }
        }
        if ms % 1000 == 500 {
            fleet = fleet.next(consumers.iter().map(|c| &c.report), now);
        }
        look(ms, &consumers, &fleet);
    }
}

#[test]
fn a_failing_consumer_is_cut_off_in_three_seconds_and_back_ten_after_it_is_mended() {
    let works = |consumer, _, ms| consumer == 0 || !(5000..20_000).contains(&ms);
    play(35_000, works, |ms, consumers, fleet| {
        assert!(consumers[0].circuit.is_closed(), "{ms}: the other one is not disturbed");
        assert!(
            fleet.kinds.values().all(|k| k.breaker == Breaker::Closed),
            "{ms}: nor is the kind"
        );
        let closed = consumers[1].circuit.is_closed();
        match ms {
            0..5000 | 30_000.. => assert!(closed, "{ms}"),
            8000..20_000 => assert!(!closed, "{ms}"),
            _ => {}
        }
    });
}

#[test]
fn a_dead_kind_is_parked_in_two_seconds_and_burns_little() {
    let works = |_, kind, ms| kind == 0 || !(5000..20_000).contains(&ms);
    let mut burnt = 0;
    play(40_000, works, |ms, consumers, fleet| {
        assert!(
            consumers.iter().all(|c| c.circuit.is_closed()),
            "{ms}: it is nobody's fault"
        );
        assert_eq!(
            consumers[0].ran[0],
            u32::try_from(ms / 50 + 1).unwrap(),
            "{ms}: the other kind goes on"
        );
        let closed = fleet.kinds.get("report").is_none_or(|k| k.breaker == Breaker::Closed);
        match ms {
            0..5000 | 31_000.. => assert!(closed, "{ms}"),
            7000..20_000 => assert!(!closed, "{ms}"),
            _ => {}
        }
        burnt = consumers.iter().map(|c| c.burnt).sum();
    });
    assert!(burnt < 80, "of 1,600 runs of the kind: {burnt}");
}
