//! The simulation: a heap of events in virtual time, tasks that wait, consumers that claim or are pushed to.
//!
//! Invariant: deterministic for a seed; what a run of a task draws depends on seed, task and attempt
//! only, so that policies are compared on the same luck. Calls on Redis take no time here.

mod claim;
mod push;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use workyard_shared::balance::Fleet;

use crate::consumer::Consumer;
use crate::dispatch::Dispatch;
use crate::scenario::Scenario;
use crate::tally::Raw;
use workyard_bench::profile::Fate;

/// Retries wait 2, 4 ... seconds, three attempts in all: the defaults of a task.
const MAX_ATTEMPTS: u32 = 3;
const BEAT_US: u64 = 1_000_000;
/// How long the end of a dead consumer's session takes.
const LEASE_US: u64 = 3_000_000;
/// A task for which there is nobody is pushed again after this.
const HELD_BACK_US: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive {
        task: u32,
    },
    Due {
        task: u32,
    },
    End {
        consumer: u32,
        task: u32,
        ok: bool,
        took_us: u64,
    },
    Ask {
        consumer: u32,
    },
    Beat,
    Die {
        consumer: u32,
    },
    LeaseEnds {
        consumer: u32,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Task {
    arrived_us: u64,
    started: bool,
    attempts: u32,
}

/// One simulation under way.
#[derive(Debug)]
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    dispatch: Dispatch,
    seed: u64,
    rng: fastrand::Rng,
    now_us: u64,
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    tasks: Vec<Task>,
    pending: VecDeque<u32>,
    /// Consumers that wait, by rank: a non-negative f64 orders as its bits do.
    parked: BTreeSet<(u64, u32)>,
    consumers: Vec<Consumer>,
    fleet: Fleet,
    turn: usize,
    left: usize,
    raw: Raw,
}

/// Runs one simulation and adds what came of it.
pub(crate) fn simulate(scenario: &Scenario, dispatch: Dispatch, seed: u64, raw: Raw) -> Raw {
    let mut world = World::new(scenario, dispatch, seed, raw);
    world.begin();
    while world.left > 0 {
        let Some(Reverse((at, _, event))) = world.events.pop() else {
            break;
        };
        world.now_us = at;
        world.step(event);
    }
    world.finish()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, dispatch: Dispatch, seed: u64, raw: Raw) -> Self {
        Self {
            scenario,
            dispatch,
            seed,
            now_us: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            tasks: vec![Task::default(); scenario.tasks],
            pending: VecDeque::new(),
            parked: BTreeSet::new(),
            consumers: scenario
                .consumers
                .iter()
                .map(|profile| Consumer::new(*profile))
                .collect(),
            fleet: Fleet::default(),
            turn: 0,
            left: scenario.tasks,
            raw,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn begin(&mut self) {
        for (id, profile) in (0..).zip(&self.scenario.consumers) {
            if let Fate::Dies { at } = profile.fate {
                self.after(micros(at), Event::Die { consumer: id });
            }
            self.after(0, Event::Ask { consumer: id });
        }
        self.after(BEAT_US, Event::Beat);
        self.after(1, Event::Arrive { task: 0 });
    }

    fn finish(mut self) -> Raw {
        self.raw.makespans.push(seconds(self.now_us));
        self.raw
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.events
            .push(Reverse((self.now_us + delay_us, self.sequence, event)));
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive { task } => self.arrive(task),
            Event::Due { task } => self.offer(task),
            Event::End {
                consumer,
                task,
                ok,
                took_us,
            } => self.end(consumer, task, ok, took_us),
            Event::Ask { consumer } => {
                self.consumers[consumer as usize].asks = false;
                self.claim(consumer);
            }
            Event::Beat => self.beat(),
            Event::Die { consumer } => self.die(consumer),
            Event::LeaseEnds { consumer } => self.lease_ends(consumer),
        }
    }

    fn arrive(&mut self, first: u32) {
        let last = if self.scenario.every_s > 0.0 {
            first
        } else {
            u32::try_from(self.tasks.len() - 1).unwrap_or(0)
        };
        for task in first..=last {
            self.tasks[task as usize].arrived_us = self.now_us;
            if self.scenario.every_s == 0.0 && matches!(self.dispatch, Dispatch::Claim(_)) {
                self.pending.push_back(task);
            } else {
                self.offer(task);
            }
        }
        self.wake();
        if (last as usize) + 1 < self.tasks.len() {
            let next = micros(self.scenario.every_s * f64::from(last + 1));
            self.after((next + 1).saturating_sub(self.now_us), Event::Arrive { task: last + 1 });
        }
    }

    /// A task may run: it waits for a claim, or is pushed to someone.
    fn offer(&mut self, task: u32) {
        match self.dispatch {
            Dispatch::Claim(_) => {
                self.pending.push_back(task);
                self.wake();
            }
            Dispatch::Push(push) => {
                let Some(chosen) = self.choose(push) else {
                    self.after(HELD_BACK_US, Event::Due { task });
                    return;
                };
                self.consumers[chosen as usize].queue.push_back(task);
                self.serve_own(chosen);
            }
        }
    }

    fn kind(&self, task: u32) -> usize {
        usize::from(self.scenario.dead_kind.is_some() && task % 4 == 3)
    }

    fn start(&mut self, id: u32, task: u32) {
        let kind = self.kind(task);
        let t = &mut self.tasks[task as usize];
        if !t.started {
            t.started = true;
            self.raw.waits.push(seconds(self.now_us - t.arrived_us));
        }
        let luck = (self.seed << 40) ^ (u64::from(task) << 4) ^ u64::from(t.attempts);
        t.attempts += 1;
        self.raw.runs += 1;
        let c = &mut self.consumers[id as usize];
        *self.raw.by_profile.entry(c.profile.name).or_default() += 1;
        let now_s = seconds(self.now_us);
        let (mut ok, mut took_s) = c.profile.run(now_s, &mut fastrand::Rng::with_seed(luck));
        if kind == 1
            && self
                .scenario
                .dead_kind
                .is_some_and(|(from, until)| (from..until).contains(&now_s))
        {
            (ok, took_s) = (false, 0.01);
        }
        c.held.push(task);
        c.running_of[kind] += 1;
        let took_us = micros(took_s);
        self.after(
            took_us,
            Event::End {
                consumer: id,
                task,
                ok,
                took_us,
            },
        );
    }

    fn end(&mut self, id: u32, task: u32, ok: bool, took_us: u64) {
        let kind = self.kind(task);
        let c = &mut self.consumers[id as usize];
        if !c.alive {
            return;
        }
        c.held.retain(|held| *held != task);
        c.running_of[kind] -= 1;
        c.ended(
            kind,
            ok,
            seconds(took_us),
            &self.fleet,
            Duration::from_micros(self.now_us),
        );
        let spared = !ok && c.is_probe(kind);
        self.raw.wasted += u64::from(!ok);
        let t = &mut self.tasks[task as usize];
        t.attempts -= u32::from(spared);
        if ok || t.attempts >= MAX_ATTEMPTS {
            self.left -= 1;
            self.raw.failed += u64::from(!ok);
            self.raw.totals.push(seconds(self.now_us - t.arrived_us));
        } else {
            let backoff_us = BEAT_US << t.attempts;
            self.after(backoff_us, Event::Due { task });
        }
        self.serve_own(id);
        self.claim(id);
    }

    /// Every consumer reports and learns; the maintainer computes the fleet from the reports.
    fn beat(&mut self) {
        let now = Duration::from_micros(self.now_us);
        for c in self.consumers.iter_mut().filter(|c| c.alive) {
            let draw = self.rng.f64();
            c.learn(&self.fleet, draw);
            c.beat(&self.fleet, now);
        }
        self.fleet = self
            .fleet
            .next(self.consumers.iter().filter(|c| c.listed).map(|c| &c.vitals), now);
        for id in 0..u32::try_from(self.consumers.len()).unwrap_or(u32::MAX) {
            self.claim(id);
        }
        self.after(BEAT_US, Event::Beat);
    }

    fn die(&mut self, id: u32) {
        self.unpark(id);
        self.consumers[id as usize].alive = false;
        self.after(LEASE_US, Event::LeaseEnds { consumer: id });
    }

    fn lease_ends(&mut self, id: u32) {
        let c = &mut self.consumers[id as usize];
        c.listed = false;
        let held = std::mem::take(&mut c.held);
        self.raw.wasted += held.len() as u64;
        let queue = std::mem::take(&mut c.queue);
        for task in &held {
            // A delivery is lost, not an attempt.
            self.tasks[*task as usize].attempts -= 1;
        }
        for task in held.into_iter().chain(queue) {
            self.offer(task);
        }
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

fn micros(s: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(s.max(0.0)).as_micros()).unwrap_or(u64::MAX)
}
