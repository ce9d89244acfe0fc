//! The protocol as plain data: what docs/protocol.md says of one queue, without Redis.
//!
//! Invariant: written from the document, with one entry per task that knows its one place. That the real queue keeps
//! several sets which agree is what the comparison is for.

use std::collections::{BTreeMap, BTreeSet};

use workyard_shared::broker::Tries;

use super::op::{Expiry, Spec};
use super::world::tries_of;

/// A day and more: nothing that lies so far ahead happens in a test.
pub const HOUR_MS: u64 = 3_600_000;
const SPAN: u64 = 1 << 44;
const POISON: u32 = 3;
const NO_HANDLER: u32 = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Pending {
        score: u64,
    },
    /// `due` is what Redis says, once it was found between `from` and `to`.
    Scheduled {
        priority: u64,
        due: Due,
    },
    Running {
        session: usize,
        token: u64,
        score: u64,
    },
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    At(u64),
    /// This long after the step that scheduled it.
    In(u64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub failures: u32,
    pub crashes: u32,
    pub releases: u32,
    pub unhandled: u32,
    pub reason: String,
    pub progress: String,
}

#[derive(Debug, Clone)]
pub struct Task {
    pub spec: Spec,
    pub place: Place,
    /// None until something has happened to it.
    pub counts: Option<Counts>,
}

impl Task {
    pub fn counts(&mut self) -> &mut Counts {
        self.counts.get_or_insert_with(|| Counts {
            reason: "-".to_owned(),
            ..Counts::default()
        })
    }

    pub fn priority(&self) -> u64 {
        self.spec.priority.map_or(5, u64::from)
    }

    fn max_attempts(&self) -> u32 {
        self.spec.max_attempts.unwrap_or(3)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Whether Redis knows it; and whether its lease lasts.
    pub here: bool,
    pub alive: bool,
    /// Whether it would get a wake-up.
    pub hears: bool,
    pub claimed: u64,
    pub answers: BTreeMap<&'static str, (u64, String)>,
    pub notices: Vec<String>,
    /// The suspect that it said it starts, under the token of its claim.
    pub tried: Option<(String, u64)>,
    /// Whether others have started beside it since.
    pub beside: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Reference {
    pub tasks: BTreeMap<String, Task>,
    /// How it ended, failures, crashes, releases.
    pub results: BTreeMap<String, (&'static str, u32, u32, u32)>,
    pub sessions: Vec<Session>,
    /// In the order in which they will be woken.
    pub parked: Vec<usize>,
    /// Results that have outlived their retention and wait for the sweep.
    pub old: BTreeSet<String>,
    pub expiring: BTreeSet<String>,
    pub waiters: BTreeSet<String>,
    pub stats: BTreeMap<String, u64>,
    pub producers: [(u64, String); 2],
    pub maintainer: Option<usize>,
    pub paused: bool,
    pub silent: bool,
    pub grace: bool,
    pub seq: u64,
    pub token: u64,
}

impl Reference {
    pub fn count(&mut self, counter: &str, n: u64) {
        if n > 0 {
            *self.stats.entry(counter.to_owned()).or_default() += n;
        }
    }

    pub fn count_kind(&mut self, counter: &str, kind: u8) {
        self.count(counter, 1);
        self.count(&format!("{counter} k{kind}"), 1);
    }

    pub fn next_score(&mut self, priority: u64) -> u64 {
        self.seq += 1;
        priority.min(255) * SPAN + self.seq
    }

    pub fn wake(&mut self, n: u64) {
        let (mut n, mut gone) = (n.min(8), 0);
        while n > 0 && gone < 5 && !self.parked.is_empty() {
            let first = self.parked.remove(0);
            if self.sessions[first].hears {
                n -= 1;
            } else {
                gone += 1;
            }
        }
    }

    pub fn wake_unless_paused(&mut self, n: u64) {
        if n > 0 && !self.paused {
            self.wake(n);
        }
    }

    pub fn pending(&self) -> Vec<String> {
        let waiting = self.tasks.iter().filter_map(|(id, task)| match task.place {
            Place::Pending { score } => Some((score, id.clone())),
            _ => None,
        });
        let mut ids: Vec<_> = waiting.collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    pub fn held_by(&self, session: usize) -> Vec<(String, u64)> {
        let held = self.tasks.iter().filter_map(|(id, task)| match task.place {
            Place::Running { session: s, token, .. } if s == session => Some((id.clone(), token)),
            _ => None,
        });
        held.collect()
    }

    /// The one way into a terminal state other than failed.
    pub fn finish(&mut self, id: &str, state: &'static str) {
        let task = self.tasks.remove(id).expect("a task");
        self.expiring.remove(id);
        self.waiters.remove(id);
        let counts = task.counts.unwrap_or_default();
        if task.spec.keeps {
            let ended = (state, counts.failures, counts.crashes, counts.releases);
            self.old.remove(id);
            self.results.insert(id.to_owned(), ended);
        }
        self.count_kind(state, task.spec.kind);
    }

    pub fn bury(&mut self, id: &str, reason: &str) {
        let task = self.tasks.get_mut(id).expect("a task");
        task.counts().reason = reason.to_owned();
        task.place = Place::Failed;
        let kind = task.spec.kind;
        self.waiters.remove(id);
        self.count_kind("failed", kind);
    }

    /// Letters of an enqueue that is new.
    pub fn add(&mut self, awaited: bool, specs: &[(String, Spec)]) -> String {
        let (mut letters, mut waiting) = (String::new(), 0);
        // Duplicates are found before anything is added.
        let mut known: BTreeSet<String> = self.tasks.keys().chain(self.results.keys()).cloned().collect();
        for (id, spec) in specs {
            if !known.insert(id.clone()) {
                letters.push('d');
                self.count("duplicate", 1);
                continue;
            }
            letters.push('c');
            let priority = spec.priority.map_or(5, u64::from);
            let score = self.next_score(priority);
            let place = if spec.delayed {
                Place::Scheduled {
                    priority,
                    due: Due::In(HOUR_MS),
                }
            } else {
                waiting += 1;
                Place::Pending { score }
            };
            let task = Task {
                spec: spec.clone(),
                place,
                counts: None,
            };
            self.tasks.insert(id.clone(), task);
            if spec.expiry != Expiry::Never {
                self.expiring.insert(id.clone());
            }
            if awaited {
                self.waiters.insert(id.clone());
            }
            self.count_kind("submitted", spec.kind);
        }
        self.wake_unless_paused(waiting);
        letters
    }

    /// The score with which `session` holds the task under this token.
    pub fn held(&self, session: usize, id: &str, token: u64) -> Option<u64> {
        match self.tasks.get(id)?.place {
            Place::Running {
                session: s,
                token: t,
                score,
            } if s == session && t == token => Some(score),
            _ => None,
        }
    }

    /// A failure: retried in `delay` ms (None: the backoff), or dead. The letter.
    pub fn fail(&mut self, id: &str, retry: bool, delay: Option<u64>) -> char {
        let task = self.tasks.get_mut(id).expect("a task");
        let max = task.max_attempts();
        let priority = task.priority();
        let counts = task.counts();
        counts.failures += 1;
        let failures = counts.failures;
        if !retry || failures >= max {
            self.bury(id, if retry { "attempts" } else { "final" });
            return 'f';
        }
        counts.reason = "error".to_owned();
        // base 1 h, factor 2, cap 10 h, jitter 0.1 and half of the chance: see drive.rs
        let backoff = (HOUR_MS << failures).min(10 * HOUR_MS) * 105 / 100;
        task.place = Place::Scheduled {
            priority: (priority + 10 * u64::from(failures)).min(255),
            due: Due::In(delay.unwrap_or(backoff)),
        };
        let kind = task.spec.kind;
        self.count_kind("retried", kind);
        'r'
    }

    /// Handed back, burning no attempt. The letter.
    pub fn release(&mut self, id: &str, score: u64, delay: u64, unhandled: bool) -> char {
        let task = self.tasks.get_mut(id).expect("a task");
        let counts = task.counts();
        counts.releases += 1;
        counts.unhandled += u32::from(unhandled);
        if counts.unhandled >= NO_HANDLER {
            self.bury(id, "no-handler");
            return 'f';
        }
        task.place = if delay > 0 {
            Place::Scheduled {
                priority: score / SPAN,
                due: Due::In(delay),
            }
        } else {
            Place::Pending { score }
        };
        let kind = task.spec.kind;
        self.count_kind("released", kind);
        'p'
    }

    /// All that a session holds goes back. Back and poisoned.
    pub fn take_back(&mut self, session: usize, crashed: bool) -> (u64, u64) {
        let (mut back, mut poisoned) = (0, 0);
        let tried = self.sessions[session].tried.take();
        // What one says that did not promise to say it is not believed.
        let more = if self.sessions[session].beside && tries_of(session) != Tries::Never {
            3
        } else {
            0
        };
        for held in self.held_by(session) {
            // Of the suspects of one that says which it starts only that one can have killed it.
            let is_tried = tried.as_ref() == Some(&held) || tries_of(session) == Tries::Never;
            let (id, _) = held;
            let task = self.tasks.get_mut(&id).expect("a task");
            let bears = task.spec.max_attempts.unwrap_or(0).max(POISON);
            let Place::Running { score, .. } = task.place else {
                unreachable!()
            };
            let counts = task.counts();
            counts.progress.clear();
            let charged = crashed && (is_tried || counts.crashes + 1 < POISON);
            *(if charged {
                &mut counts.crashes
            } else {
                &mut counts.releases
            }) += 1;
            if charged && counts.crashes >= bears + more {
                self.bury(&id, "poison");
                poisoned += 1;
            } else {
                task.place = Place::Pending { score };
                back += 1;
                let kind = task.spec.kind;
                self.count_kind(if crashed { "reclaimed" } else { "released" }, kind);
            }
        }
        self.parked.retain(|s| *s != session);
        if self.maintainer == Some(session) {
            self.maintainer = None;
        }
        let hears = self.sessions[session].hears;
        self.sessions[session] = Session {
            hears,
            ..Session::default()
        };
        if !self.pending().is_empty() {
            self.wake_unless_paused(back.max(1));
        }
        (back, poisoned)
    }

    /// What is due by `now`, in the order in which it is promoted.
    pub fn due(&self, now_ms: u64) -> Vec<String> {
        let ready = self.tasks.iter().filter_map(|(id, task)| match task.place {
            Place::Scheduled {
                priority,
                due: Due::At(at),
            } if at <= now_ms => Some((at, priority, id.clone())),
            _ => None,
        });
        let mut due: Vec<_> = ready.collect();
        due.sort();
        due.into_iter().map(|(_, _, id)| id).collect()
    }
}
