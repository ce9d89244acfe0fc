//! The edges of the protocol on the reference: what each call answers and changes.

use workyard_shared::broker::Tries;

use super::op::{Expiry, How};
use super::reference::{Place, Reference, Session};
use super::world::tries_of;

/// A task that a claim handed out, as its consumer knows it.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: String,
    pub token: u64,
    pub kind: u8,
    pub keeps: bool,
}

impl How {
    pub fn edge(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Retry { .. } | Self::Final => "fail",
            Self::Release { .. } | Self::Unhandled => "release",
        }
    }
}

impl Reference {
    /// Status, and ids with their tokens. `token` is the one that Redis gave, if it gave out anything.
    pub fn claim(
        &mut self,
        by: usize,
        most: usize,
        above: u64,
        park: bool,
        token: u64,
    ) -> (&'static str, Vec<(String, u64)>) {
        if !self.sessions[by].here {
            return ("lost", Vec::new());
        }
        if self.sessions[by].claimed > above {
            let held = self.held_by(by);
            let lowest = held.iter().map(|(_, t)| *t).filter(|t| *t > above).min();
            if let Some(lowest) = lowest {
                return ("more", held.into_iter().filter(|(_, t)| *t == lowest).collect());
            }
        }
        let waiting: Vec<_> = if self.paused { Vec::new() } else { self.pending() };
        let taken = &waiting[..waiting.len().min(most)];
        let mut given = Vec::new();
        for id in taken {
            let task = self.tasks.get_mut(id).expect("a task");
            if task.spec.expiry == Expiry::Past {
                self.finish(id, "expired");
                continue;
            }
            let Place::Pending { score } = task.place else {
                unreachable!()
            };
            task.place = Place::Running {
                session: by,
                token,
                score,
            };
            given.push((id.clone(), token));
        }
        let holds_one = given.len() == 1 && tries_of(by) == Tries::HoldsNothing && self.held_by(by).len() == 1;
        if !given.is_empty() {
            self.token = token;
            self.sessions[by].claimed = token;
            if holds_one {
                self.sessions[by].tried = given.first().cloned();
                self.sessions[by].beside = false;
            }
        }
        let mut status = if self.paused { "paused" } else { "ok" };
        if taken.len() < most {
            if park {
                self.parked.retain(|s| *s != by);
                self.parked.push(by);
            }
        } else {
            self.parked.retain(|s| *s != by);
            if given.len() < most {
                status = "more";
            }
            if waiting.len() > taken.len() {
                self.wake(1);
            }
        }
        (status, given)
    }

    /// The letters of a settle.
    pub fn settle(&mut self, by: usize, how: How, number: u64, tasks: &[Known]) -> String {
        let stale = |reference: &mut Self| {
            reference.count("stale", tasks.len() as u64);
            "s".repeat(tasks.len())
        };
        if !self.sessions[by].here {
            return stale(self);
        }
        match self.sessions[by].answers.get(how.edge()) {
            Some((last, letters)) if *last == number => return letters.clone(),
            Some((last, _)) if *last > number => return stale(self),
            _ => {}
        }
        let (mut letters, mut ready) = (String::new(), 0);
        for task in tasks {
            let letter = self.settle_one(by, how, task);
            if letter == 's' {
                self.count("stale", 1);
            }
            ready += u64::from(letter == 'p' && !matches!(how, How::Release { delayed: true }));
            letters.push(letter);
        }
        self.wake_unless_paused(ready);
        self.sessions[by].answers.insert(how.edge(), (number, letters.clone()));
        letters
    }

    fn settle_one(&mut self, by: usize, how: How, task: &Known) -> char {
        let Some(score) = self.held(by, &task.id, task.token) else {
            return 's';
        };
        match how {
            How::Complete => {
                self.finish(&task.id, "completed");
                'k'
            }
            How::Retry { now } => self.fail(&task.id, true, now.then_some(0)),
            How::Final => self.fail(&task.id, false, None),
            How::Release { delayed } => {
                let delay = if delayed { super::reference::HOUR_MS } else { 0 };
                self.release(&task.id, score, delay, false)
            }
            How::Unhandled => self.release(&task.id, score, 0, true),
        }
    }

    pub fn progress(&mut self, by: usize, id: &str, token: u64, text: &str) -> bool {
        if self.held(by, id, token).is_none() {
            self.count("stale", 1);
            return false;
        }
        text.clone_into(&mut self.tasks.get_mut(id).expect("a task").counts().progress);
        true
    }

    pub fn try_suspect(&mut self, by: usize, id: &str, token: u64, beside: bool) -> bool {
        let is_held = self.held(by, id, token).is_some();
        let session = &mut self.sessions[by];
        let tried = Some((id.to_owned(), token));
        // Said late, of what was not the last to start, it changes nothing.
        if is_held && (!beside || session.tried == tried) {
            (session.tried, session.beside) = (tried, beside);
        }
        is_held
    }

    /// None: lost. Else whether it is the maintainer, and what was cancelled under it.
    pub fn beat(&mut self, by: usize, register: bool) -> Option<(bool, Vec<String>)> {
        if !self.sessions[by].here && !register {
            return None;
        }
        self.grace |= self.silent;
        self.silent = false;
        let session = &mut self.sessions[by];
        (session.here, session.alive) = (true, true);
        let cancelled = std::mem::take(&mut session.notices);
        let taken = self.maintainer.is_some_and(|m| m != by && self.sessions[m].alive);
        if !taken {
            self.maintainer = Some(by);
        }
        Some((!taken, cancelled))
    }

    pub fn dead(&self) -> Vec<usize> {
        let judged = !self.silent && !self.grace;
        let dead = |s: &&Session| s.here && !s.alive;
        let all = self.sessions.iter().enumerate();
        all.filter(|(_, s)| judged && dead(s)).map(|(i, _)| i).collect()
    }

    pub fn promote(&mut self, most: usize, now_ms: u64) -> u64 {
        let due = self.due(now_ms);
        let due = &due[..due.len().min(most)];
        for id in due {
            let Place::Scheduled { priority, .. } = self.tasks[id].place else {
                unreachable!()
            };
            let score = self.next_score(priority);
            let task = self.tasks.get_mut(id).expect("a task");
            task.place = Place::Pending { score };
            let kind = task.spec.kind;
            self.count_kind("promoted", kind);
        }
        self.wake_unless_paused(due.len() as u64);
        due.len() as u64
    }

    /// Expired and dropped.
    pub fn sweep(&mut self) -> (u64, u64) {
        let past = self
            .expiring
            .iter()
            .filter(|id| self.tasks[*id].spec.expiry == Expiry::Past);
        let past: Vec<String> = past.cloned().collect();
        let mut expired = 0;
        for id in past {
            if matches!(self.tasks[&id].place, Place::Pending { .. } | Place::Scheduled { .. }) {
                self.finish(&id, "expired");
                expired += 1;
            }
            self.expiring.remove(&id);
        }
        let old = std::mem::take(&mut self.old);
        self.results.retain(|id, _| !old.contains(id));
        (expired, old.len() as u64)
    }

    pub fn cancel(&mut self, id: &str) -> &'static str {
        let Some(task) = self.tasks.get(id) else {
            return if self.results.contains_key(id) {
                "finished"
            } else {
                "unknown"
            };
        };
        match task.place {
            Place::Failed => return "finished",
            Place::Running { session, .. } => self.sessions[session].notices.push(id.to_owned()),
            _ => {}
        }
        self.finish(id, "cancelled");
        "cancelled"
    }

    pub fn requeue(&mut self, ids: &[String]) -> Vec<bool> {
        let mut answers = Vec::new();
        for id in ids {
            let failed = self.tasks.get(id).is_some_and(|t| t.place == Place::Failed);
            answers.push(failed);
            if failed {
                let score = self.next_score(self.tasks[id].priority());
                let task = self.tasks.get_mut(id).expect("a task");
                (task.counts, task.place) = (None, Place::Pending { score });
                let kind = task.spec.kind;
                self.count_kind("requeued", kind);
            }
        }
        self.wake_unless_paused(answers.iter().filter(|failed| **failed).count() as u64);
        answers
    }

    pub fn delete(&mut self, ids: &[String]) -> String {
        let mut letters = String::new();
        for id in ids {
            letters.push(match self.tasks.get(id).map(|t| &t.place) {
                Some(Place::Failed) => {
                    self.tasks.remove(id);
                    self.expiring.remove(id);
                    'd'
                }
                Some(_) => 'a',
                None if self.results.remove(id).is_some() => {
                    self.old.remove(id);
                    'd'
                }
                None => 'n',
            });
        }
        self.count("deleted", letters.matches('d').count() as u64);
        letters
    }

    pub fn purge(&mut self, place: u8) -> u64 {
        let goes = |p: &Place| match p {
            Place::Pending { .. } => place == 0,
            Place::Scheduled { .. } => place == 1,
            Place::Failed => place == 2,
            Place::Running { .. } => false,
        };
        let (mut gone, tasks) = (0, std::mem::take(&mut self.tasks));
        for (id, task) in tasks {
            if goes(&task.place) {
                self.expiring.remove(&id);
                self.waiters.remove(&id);
                gone += 1;
            } else {
                self.tasks.insert(id, task);
            }
        }
        self.count("purged", gone);
        if place == 3 {
            gone = self.results.len() as u64;
            self.results.clear();
            self.old.clear();
        }
        self.count("deleted", gone);
        gone
    }

    pub fn unpark(&mut self, by: usize) {
        if self.parked.contains(&by) {
            self.parked.retain(|s| *s != by);
        } else if !self.pending().is_empty() {
            self.wake_unless_paused(1);
        }
    }
}
