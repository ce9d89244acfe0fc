//! The job's record in Redis, its tasks, and the functions: one method is one call.

use super::Mutant;

/// A step of the job: a chunk, or the reduce, which is numbered behind them; and whether it is a backup copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    pub no: u8,
    pub copy: bool,
}

impl Member {
    fn first(self) -> Self {
        Self { copy: false, ..self }
    }

    fn twin(self) -> Self {
        Self {
            copy: !self.copy,
            ..self
        }
    }
}

/// A task's id: the start that made it, and its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub epoch: u8,
    pub member: Member,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Mapping,
    Reducing,
    Completed,
    Failed,
    Cancelled,
}

impl Phase {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// The record, with the tasks of the job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Job {
    pub phase: Phase,
    pub epoch: u8,
    pub maps: u8,
    pub allow: u8,
    pub next: u8,
    pub done: u8,
    pub failed: u8,
    /// Children of the reduce that are done or left out.
    pub tree: u8,
    pub mapped: bool,
    /// Chunks whose output is kept, whose loss is noted; as bits.
    pub outputs: u8,
    pub lost: u8,
    pub again: Vec<Member>,
    pub live: Vec<Member>,
    /// Records, and those that stand in pending.
    pub tasks: Vec<Id>,
    pub pending: Vec<Id>,
    /// Ghosts: reduces added in this start; one was added before its time; ends of this start.
    pub reduces: u8,
    pub early: bool,
    pub ends: u8,
}

fn remove<T: PartialEq>(list: &mut Vec<T>, item: &T) -> bool {
    let before = list.len();
    list.retain(|other| other != item);
    list.len() < before
}

impl Job {
    pub fn submit(maps: u8, allow: u8) -> Self {
        let mut job = Self {
            phase: Phase::Mapping,
            epoch: 1,
            maps,
            allow,
            next: 0,
            done: 0,
            failed: 0,
            tree: 0,
            mapped: false,
            outputs: 0,
            lost: 0,
            again: Vec::new(),
            live: Vec::new(),
            tasks: Vec::new(),
            pending: Vec::new(),
            reduces: 0,
            early: false,
            ends: 0,
        };
        job.feed();
        job
    }

    fn reduce(&self) -> Member {
        Member {
            no: self.maps,
            copy: false,
        }
    }

    fn id(&self, member: Member) -> Id {
        Id {
            epoch: self.epoch,
            member,
        }
    }

    fn add(&mut self, member: Member) {
        let id = self.id(member);
        if member == self.reduce() {
            self.reduces += 1;
            self.early |= !self.mapped || self.tree < self.maps;
        }
        self.live.push(member);
        self.tasks.push(id);
        self.pending.push(id);
    }

    fn feed(&mut self) {
        for member in std::mem::take(&mut self.again) {
            self.add(member);
        }
        while self.next < self.maps {
            let no = self.next;
            self.next += 1;
            self.add(Member { no, copy: false });
        }
    }

    fn child_done(&mut self) -> bool {
        self.tree += 1;
        self.tree == self.maps
    }

    fn check_mapped(&mut self, mutant: Option<Mutant>) -> bool {
        if self.mapped || self.done + self.failed < self.maps {
            return false;
        }
        self.mapped = true;
        self.phase = Phase::Reducing;
        let mut ready = self.tree == self.maps;
        if mutant != Some(Mutant::AcceptEarly) {
            for _ in 0..self.failed {
                ready |= self.child_done();
            }
        }
        ready
    }

    fn drop_member(&mut self, member: Member) {
        if remove(&mut self.live, &member) {
            // The holder's running hash is not touched: the fence is that the member is not live.
            self.tasks.retain(|id| id.member != member);
            self.pending.retain(|id| id.member != member);
        }
    }

    fn end(&mut self, phase: Phase, mutant: Option<Mutant>) {
        self.phase = phase;
        self.ends += 1;
        for member in self.live.clone() {
            self.drop_member(member);
            if phase != Phase::Completed && mutant != Some(Mutant::DropForgets) && !self.live.contains(&member.twin()) {
                self.again.push(member.first());
            }
        }
    }

    fn fail_member(&mut self, member: Member, mutant: Option<Mutant>) -> bool {
        remove(&mut self.live, &member);
        if self.live.contains(&member.twin()) && mutant != Some(Mutant::TwinForgotten) {
            return false;
        }
        if member.first() == self.reduce() {
            self.again.push(member.first());
            self.end(Phase::Failed, mutant);
            return false;
        }
        self.lost |= 1 << member.no;
        self.failed += 1;
        let ready = mutant == Some(Mutant::AcceptEarly) && self.child_done();
        if self.failed > self.allow {
            self.end(Phase::Failed, mutant);
            return false;
        }
        self.check_mapped(mutant) || ready
    }

    /// The end of a task that its consumer holds. None: stale. Else whether the reduce is ready and was not added here.
    pub fn settle(&mut self, id: Id, well: bool, mutant: Option<Mutant>) -> Option<bool> {
        let member = id.member;
        let known = id.epoch == self.epoch;
        let wanted = self.live.contains(&member) || mutant == Some(Mutant::BareCounter);
        if !known || self.phase.is_over() || !wanted {
            return None;
        }
        remove(&mut self.live, &member);
        let current = self.id(member);
        remove(&mut self.tasks, &current);
        let ready = if !well {
            self.fail_member(member, mutant)
        } else if member.first() == self.reduce() {
            self.end(Phase::Completed, mutant);
            false
        } else {
            self.drop_member(member.twin());
            self.outputs |= 1 << member.no;
            self.done += 1;
            let ready = self.child_done() && self.done == self.maps;
            self.check_mapped(mutant) || ready
        };
        Some(self.go_on(ready, mutant))
    }

    fn go_on(&mut self, ready: bool, mutant: Option<Mutant>) -> bool {
        if self.phase.is_over() {
            return false;
        }
        self.feed();
        if ready && mutant == Some(Mutant::TwoStepReduce) {
            return true;
        }
        if ready {
            self.add(self.reduce());
        }
        false
    }

    /// The second call of [`Mutant::TwoStepReduce`].
    pub fn add_reduce(&mut self) {
        self.add(self.reduce());
    }

    /// What the maintainer does: a member whose task has gone has failed.
    pub fn tend(&mut self, mutant: Option<Mutant>) {
        if self.phase.is_over() || mutant == Some(Mutant::NoAudit) {
            return;
        }
        let gone = |member: &&Member| !self.tasks.iter().any(|id| id.member == **member);
        let Some(member) = self.live.iter().find(gone).copied() else {
            return;
        };
        let ready = self.fail_member(member, mutant);
        self.go_on(ready, None);
    }

    pub fn cancel(&mut self, mutant: Option<Mutant>) {
        if !self.phase.is_over() {
            self.end(Phase::Cancelled, mutant);
        }
    }

    pub fn retry(&mut self, mutant: Option<Mutant>) {
        if !self.phase.is_over() || self.phase == Phase::Completed {
            return;
        }
        if !self.mapped {
            for no in (0..self.maps).filter(|no| self.lost & (1 << no) != 0) {
                self.again.push(Member { no, copy: false });
            }
            self.lost = 0;
            if mutant != Some(Mutant::RetryKeepsLost) {
                self.failed = 0;
            }
        }
        self.epoch += u8::from(mutant != Some(Mutant::NoEpoch));
        (self.reduces, self.ends) = (0, 0);
        self.phase = if self.mapped { Phase::Reducing } else { Phase::Mapping };
        self.feed();
    }

    /// A second copy of a member that is slow.
    pub fn backup(&mut self, member: Member) {
        let wanted = !member.copy && self.live.contains(&member) && !self.live.contains(&member.twin());
        if wanted && !self.phase.is_over() {
            let copy = member.twin();
            let id = self.id(copy);
            self.live.push(copy);
            self.tasks.push(id);
            self.pending.push(id);
        }
    }

    /// Somebody removes a pending task by hand.
    pub fn purge(&mut self) {
        if let Some(id) = self.pending.pop() {
            remove(&mut self.tasks, &id);
        }
    }

    /// What a dead consumer held goes back, if it still is a task.
    pub fn give_back(&mut self, id: Id) {
        if self.tasks.contains(&id) {
            self.pending.push(id);
        }
    }
}
