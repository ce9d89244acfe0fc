//! The parts together over time: consumers with a beat a second, and a maintainer that computes the
//! fleet half a second after them. How soon a failing consumer is cut off, a mended one is back, a dead
//! kind is parked; and that one which fails at once is told from a kind that fails, where the others take seconds.

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
            let took = Duration::from_millis(30);
            self.watches[kind].record(Outcome::of(ok), took, now);
            if self.circuit.on_result(ok, took, now).is_some() {
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

/// One consumer of a kind whose runs take time: it keeps its slots full, as far as it may.
struct Slow {
    slots: usize,
    took_ms: u64,
    circuit: Circuit,
    watch: Watch,
    report: Vitals,
    /// When what runs ends.
    runs: Vec<u64>,
    done: u32,
    burnt: u32,
}

impl Slow {
    fn new(slots: usize, took_ms: u64) -> Self {
        Self {
            slots,
            took_ms,
            circuit: Circuit::new(),
            watch: Watch::new(),
            report: Vitals::default(),
            runs: Vec::new(),
            done: 0,
            burnt: 0,
        }
    }

    fn step(&mut self, ok: bool, ms: u64) {
        let now = Duration::from_millis(ms);
        let ended = self.runs.iter().filter(|end| **end <= ms).count();
        self.runs.retain(|end| *end > ms);
        for _ in 0..ended {
            self.done += u32::from(ok);
            self.burnt += u32::from(!ok && !self.watch.is_probing());
            let took = Duration::from_millis(self.took_ms);
            self.watch.record(Outcome::of(ok), took, now);
            if self.circuit.on_result(ok, took, now).is_some() {
                self.watch.clear();
            }
        }
        while self.runs.len() < self.slots
            && !matches!(self.watch.admits(self.runs.len(), now), Allowed::Nothing { .. })
            && !matches!(self.circuit.may_claim(now), Allowed::Nothing { .. })
        {
            self.runs.push(ms + self.took_ms);
        }
    }

    fn beat(&mut self, fleet: &Fleet, ms: u64) {
        let now = Duration::from_millis(ms);
        let breaker = fleet.kinds.get("mail").map(|k| k.breaker).unwrap_or_default();
        self.watch.learn(breaker, fleet.consumers, 0.0);
        let kind = KindVitals {
            running: u32::try_from(self.runs.len()).unwrap(),
            ..self.watch.vitals(now)
        };
        self.report = Vitals {
            capacity: 8,
            running: kind.running,
            kinds: [("mail".to_owned(), kind)].into(),
            ..Vitals::default()
        };
        let blame = Blame::of(&self.report, fleet);
        let health = health_score(&self.report, fleet);
        if self.circuit.on_health(health, blame.rate, blame.runs, now).is_some() {
            self.watch.clear();
        }
    }
}

/// The first of them fails in ten milliseconds, the others complete what they run.
fn one_fails_at_once(slots: usize, others: usize, took_ms: u64, look: impl Fn(u64, &[Slow], &Fleet)) {
    let mut consumers = vec![Slow::new(slots, STEP_MS)];
    consumers.extend((0..others).map(|_| Slow::new(slots, took_ms)));
    let mut fleet = Fleet::default();
    for ms in (0..300_000).step_by(usize::try_from(STEP_MS).unwrap()) {
        for (n, consumer) in consumers.iter_mut().enumerate() {
            consumer.step(n > 0, ms);
            let every = if consumer.watch.is_failing() { 250 } else { 1000 };
            if (ms + 130 * n as u64) % every < STEP_MS {
                consumer.beat(&fleet, ms);
            }
        }
        if ms % 500 == 250 {
            fleet = fleet.next(consumers.iter().map(|c| &c.report), Duration::from_millis(ms));
        }
        look(ms, &consumers, &fleet);
    }
}

#[test]
fn one_that_fails_at_once_is_told_from_a_kind_that_fails_where_the_others_take_seconds() {
    for (slots, others, took_ms) in [(8, 3, 3000), (1, 3, 3000), (1, 1, 3000), (4, 1, 12_000), (2, 3, 30_000)] {
        let case = format!("{others} others with {slots} slots, {took_ms} ms");
        // The first results are in, and then five of them to compare with.
        let known = 5 * took_ms + 20_000;
        one_fails_at_once(slots, others, took_ms, |ms, consumers, fleet| {
            if ms > known {
                let breaker = fleet.kinds.get("mail").map(|k| k.breaker).unwrap_or_default();
                assert_eq!(breaker, Breaker::Closed, "{case}, at {ms}: it works for others");
                assert!(
                    !consumers[0].circuit.is_closed(),
                    "{case}, at {ms}: it gets probes only"
                );
            }
            for well in &consumers[1..] {
                assert!(well.circuit.is_closed(), "{case}, at {ms}: the others are not to blame");
            }
            if ms + STEP_MS == 300_000 {
                let could = u32::try_from(300_000 / took_ms).unwrap() * u32::try_from(slots).unwrap();
                let least = consumers[1..].iter().map(|c| c.done).min().unwrap();
                println!("{case}: {least} of {could} done, {} attempts burnt", consumers[0].burnt);
                assert!(
                    least * 10 > could * 7,
                    "{case}: the others worked on: {least} of {could}"
                );
                assert!(consumers[0].burnt < 300, "{case}: {} burnt", consumers[0].burnt);
            }
        });
    }
}
