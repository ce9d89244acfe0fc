//! Redis as the functions see it, and the functions: one method is one call, all of it or nothing.
//!
//! Invariant: a method uses nothing but its arguments and the store. Some fields are ghosts that no function reads:
//! they remember for the checks what was accepted, how often a task has ended, who got it last. They come and go with the log.

#![expect(unreachable_pub, reason = "a state of the model can be read by whoever checks it")]

use super::Mutant;

/// Tasks by number.
pub type TaskNo = usize;
/// Poison after so many deaths: 2 here, so that few faults reach it.
pub const POISON: u8 = 2;
/// Attempts of a task.
pub const ATTEMPTS: u8 = 2;

/// How a consumer settles a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    Complete,
    Fail,
    Release,
}

/// The answer to a settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Letter {
    Done,
    Stale,
}

/// A consumer's session in Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Session {
    pub here: bool,
    pub lease_ended: bool,
    /// Task and token.
    pub running: Vec<(TaskNo, u8)>,
    pub claimed: u8,
    /// Last number and answer, per edge.
    pub answers: [Option<(u8, Letter)>; 3],
}

/// A task's record and where it stands; a sound one stands in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Task {
    pub exists: bool,
    pub failures: u8,
    pub crashes: u8,
    pub pending: bool,
    pub scheduled: bool,
    pub failed: bool,
    /// Ghost: whether its producer was told that it is accepted.
    pub accepted: bool,
    /// Ghost: how often it has reached a terminal state.
    pub ended: u8,
}

/// Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Store {
    pub tasks: Vec<Task>,
    pub sessions: Vec<Session>,
    pub token: u8,
    /// Last enqueue that was answered.
    pub producer: u8,
    pub silent: bool,
    pub grace: bool,
    /// Ghost: the newest grant of each task. Of what the log lost nothing is left here either.
    pub newest: Vec<u8>,
}

impl Store {
    pub fn enqueue(&mut self, number: u8, mutant: Option<Mutant>) {
        if number <= self.producer && mutant != Some(Mutant::EnqueueNotIdempotent) {
            return;
        }
        self.producer = number;
        let task = &mut self.tasks[usize::from(number) - 1];
        (task.exists, task.pending) = (true, true);
    }

    pub fn heartbeat(&mut self, session: usize, register: bool) -> bool {
        if !self.sessions[session].here && !register {
            return false;
        }
        self.grace |= self.silent;
        self.silent = false;
        let session = &mut self.sessions[session];
        (session.here, session.lease_ended) = (true, false);
        true
    }

    /// None: lost. Else what is handed out, and whether it was handed out before.
    pub fn claim(&mut self, session: usize, above: u8, clock: u8, mutant: Option<Mutant>) -> Option<Claimed> {
        let s = &self.sessions[session];
        if !s.here {
            return None;
        }
        if s.claimed > above && mutant != Some(Mutant::NoRedelivery) {
            let lowest = s.running.iter().map(|(_, token)| *token).filter(|t| *t > above).min();
            let again = s.running.iter().find(|(_, token)| Some(*token) == lowest);
            if let Some((task, token)) = again {
                return Some(Claimed::Again(*task, *token));
            }
        }
        let Some(task) = self.tasks.iter().position(|t| t.pending) else {
            return Some(Claimed::Nothing);
        };
        self.token = match mutant {
            Some(Mutant::TokenIsCounter) => self.token + 1,
            Some(Mutant::TokenIsClock) => clock,
            _ => clock.max(self.token + 1),
        };
        self.tasks[task].pending = false;
        let s = &mut self.sessions[session];
        s.running.push((task, self.token));
        s.claimed = self.token;
        Some(Claimed::New(task, self.token))
    }

    pub fn settle(&mut self, session: usize, batch: Settle, mutant: Option<Mutant>) -> Letter {
        let s = &self.sessions[session];
        if !s.here {
            return Letter::Stale;
        }
        match s.answers[batch.how as usize] {
            Some((number, letter)) if number == batch.number && mutant != Some(Mutant::NoSettleMemory) => {
                return letter;
            }
            Some((number, _)) if number > batch.number && mutant != Some(Mutant::OldBatchForgets) => {
                return Letter::Stale;
            }
            _ => {}
        }
        let fenced = mutant != Some(Mutant::NoFence);
        let mine = |(task, token): &(TaskNo, u8)| *task == batch.task && (*token == batch.token || !fenced);
        let at = s.running.iter().position(mine);
        let letter = if at.is_some() { Letter::Done } else { Letter::Stale };
        let s = &mut self.sessions[session];
        s.answers[batch.how as usize] = Some((batch.number, letter));
        if let Some(at) = at {
            s.running.remove(at);
            self.settle_one(batch, mutant);
        }
        letter
    }

    fn settle_one(&mut self, batch: Settle, mutant: Option<Mutant>) {
        let task = &mut self.tasks[batch.task];
        match batch.how {
            How::Complete if mutant == Some(Mutant::TwoStepComplete) => {}
            How::Complete => task.finish(),
            How::Release => task.pending = true,
            How::Fail => {
                task.failures += 1;
                if task.failures < ATTEMPTS || mutant == Some(Mutant::NoLastAttempt) {
                    task.scheduled = true;
                } else {
                    task.bury();
                }
            }
        }
    }

    pub fn promote(&mut self, task: TaskNo) {
        let task = &mut self.tasks[task];
        (task.scheduled, task.pending) = (false, true);
    }

    pub fn may_reclaim(&self, session: usize, mutant: Option<Mutant>) -> bool {
        let judged = !self.silent && !self.grace || mutant == Some(Mutant::NoGrace);
        let s = &self.sessions[session];
        s.here && (s.lease_ended && judged || mutant == Some(Mutant::ReclaimUnchecked))
    }

    /// Takes back all that a session holds, and ends it.
    pub fn reclaim(&mut self, session: usize, mutant: Option<Mutant>) {
        for (no, _) in std::mem::take(&mut self.sessions[session]).running {
            let task = &mut self.tasks[no];
            if !task.exists {
                continue;
            }
            task.crashes += 1;
            if task.crashes >= POISON && mutant != Some(Mutant::NoPoison) {
                task.bury();
            } else {
                task.pending = true;
            }
        }
    }

    pub fn cancel(&mut self, no: TaskNo, mutant: Option<Mutant>) {
        let task = &mut self.tasks[no];
        if !task.exists || task.failed {
            return;
        }
        (task.pending, task.scheduled) = (false, false);
        task.finish();
        if mutant != Some(Mutant::CancelKeepsHolder) {
            for session in &mut self.sessions {
                session.running.retain(|(task, _)| *task != no);
            }
        }
    }
}

impl Task {
    fn finish(&mut self) {
        self.exists = false;
        self.ended += 1;
    }

    fn bury(&mut self) {
        self.failed = true;
        self.ended += 1;
    }
}

/// A settle of one task, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settle {
    pub how: How,
    pub number: u8,
    pub task: TaskNo,
    pub token: u8,
    /// Ghost: which of all grants this is of.
    pub grant: u8,
}

/// What a claim hands out: task and token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claimed {
    Nothing,
    New(TaskNo, u8),
    Again(TaskNo, u8),
}
