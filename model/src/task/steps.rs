//! What each action does to the world.

use super::Mutant;
use super::store::{Claimed, How, Letter, Session, Settle};
use super::world::{Action, Call, Consumer, Fate, Process, Run, State};

impl State {
    pub(super) fn act(&mut self, action: Action, mutant: Option<Mutant>) {
        match action {
            Action::Enqueue(fate) => self.enqueue(fate, mutant),
            Action::Claim(c, fate) => {
                let call = Call::Claim(self.consumers[c].above);
                self.send(c, call, fate, mutant);
            }
            Action::Settle(c, run, how, fate) => self.settle(c, run, how, fate, mutant),
            Action::Repeat(c) => self.repeat(c, mutant),
            Action::Beat(c) => self.beat(c),
            Action::Recount(c) => self.recount(c, mutant),
            Action::Restart(c) => self.join(c),
            Action::LeaseEnds(session) => self.store.sessions[session].lease_ended = self.store.sessions[session].here,
            Action::GracePasses => {
                // A lease is longer than everybody who lives needs to be heard.
                let heard = |c: &Consumer| c.process != Process::Up || !self.store.sessions[c.session].lease_ended;
                if self.consumers.iter().all(heard) {
                    self.store.grace = false;
                }
            }
            Action::Reclaim(session) => self.reclaim(session, mutant),
            Action::Promote(task) => self.promote(task, mutant),
            Action::PutIn => {
                if let Some(task) = self.in_hand.take() {
                    self.store.tasks[task].pending = true;
                }
            }
            Action::Cancel(task) => {
                self.cancels += 1;
                self.store.cancel(task, mutant);
            }
            Action::CopyArrives => {
                if let Some((session, call)) = self.copy.take() {
                    self.apply(session, call, mutant);
                }
            }
            other => self.harm(other),
        }
    }

    fn harm(&mut self, action: Action) {
        self.faults += u8::from(!matches!(action, Action::Thaw(_) | Action::Sync));
        match action {
            Action::Thaw(c) => self.consumers[c].process = Process::Up,
            Action::Sync => self.synced = Some(Box::new(self.store.clone())),
            Action::ProducerDies => self.producing = false,
            Action::Crash(c) => {
                self.consumers[c].process = Process::Down;
                self.consumers[c].runs.clear();
                self.consumers[c].unanswered = None;
            }
            Action::Freeze(c) => {
                self.consumers[c].process = Process::Frozen;
                self.consumers[c].overslept = true;
            }
            Action::Outage => self.away(),
            Action::TailLost => {
                if let Some(synced) = self.synced.take() {
                    self.store = *synced;
                    // Sessions that began behind the end of the log are unknown now.
                    let n = self.consumers.iter().map(|c| c.session + 1).max().unwrap_or(0);
                    self.store
                        .sessions
                        .resize(n.max(self.store.sessions.len()), Session::default());
                    self.rolled_back = true;
                    for consumer in &mut self.consumers {
                        consumer.recount = true;
                    }
                    self.away();
                }
            }
            Action::ClockBack => self.clock = 0,
            _ => unreachable!("{action:?} is no harm"),
        }
    }

    fn away(&mut self) {
        self.store.silent = true;
        for session in &mut self.store.sessions {
            session.lease_ended = session.here;
        }
    }

    fn enqueue(&mut self, fate: Fate, mutant: Option<Mutant>) {
        let number = self.produced + 1;
        self.store.enqueue(number, mutant);
        self.faults += u8::from(fate != Fate::Answered);
        self.asking = fate == Fate::ReplyLost;
        if fate == Fate::Copied {
            self.copy = Some((0, Call::Enqueue(number)));
        }
        if !self.asking {
            self.produced = number;
            self.store.tasks[usize::from(number) - 1].accepted = true;
        }
    }

    fn settle(&mut self, c: usize, run: usize, how: How, fate: Fate, mutant: Option<Mutant>) {
        let consumer = &mut self.consumers[c];
        let run = consumer.runs.remove(run);
        consumer.number += 1;
        let settle = Settle {
            how,
            number: consumer.number,
            task: run.task,
            token: run.token,
            grant: run.grant,
        };
        self.releases += u8::from(how == How::Release);
        self.send(c, Call::Settle(settle), fate, mutant);
        if mutant == Some(Mutant::TwoStepComplete) && how == How::Complete {
            self.in_hand = None; // the other call is never sent: it died in between
        }
    }

    fn send(&mut self, c: usize, call: Call, fate: Fate, mutant: Option<Mutant>) {
        let session = self.consumers[c].session;
        let answer = self.apply(session, call, mutant);
        self.faults += u8::from(fate != Fate::Answered);
        match fate {
            Fate::ReplyLost => {
                let letter = match answer {
                    Answer::Settled(letter) => Some(letter),
                    _ => None,
                };
                self.consumers[c].unanswered = Some((call, letter));
                return;
            }
            Fate::Copied => self.copy = Some((session, call)),
            Fate::Answered => {}
        }
        self.hear(c, answer);
    }

    fn repeat(&mut self, c: usize, mutant: Option<Mutant>) {
        let Some((call, first)) = self.consumers[c].unanswered.take() else {
            return;
        };
        let session = self.consumers[c].session;
        let known = self.store.sessions[session].here;
        let answer = self.apply(session, call, mutant);
        if let (Answer::Settled(letter), Some(first)) = (answer, first) {
            self.answer_changed |= letter != first && known && !self.rolled_back;
        }
        self.hear(c, answer);
    }

    fn hear(&mut self, c: usize, answer: Answer) {
        match answer {
            Answer::Settled(_) | Answer::Nothing => {}
            Answer::Granted(run) => {
                let consumer = &mut self.consumers[c];
                consumer.above = consumer.above.max(run.token);
                consumer.runs.push(run);
            }
            Answer::Lost => self.join(c),
        }
    }

    /// A call at Redis.
    fn apply(&mut self, session: usize, call: Call, mutant: Option<Mutant>) -> Answer {
        match call {
            Call::Enqueue(number) => {
                self.store.enqueue(number, mutant);
                Answer::Nothing
            }
            Call::Claim(above) => match self.store.claim(session, above, self.clock + 1, mutant) {
                None => Answer::Lost,
                Some(Claimed::Nothing) => Answer::Nothing,
                Some(Claimed::Again(task, token)) => Answer::Granted(Run {
                    task,
                    token,
                    grant: self.store.newest[task],
                }),
                Some(Claimed::New(task, token)) => {
                    self.clock += 1;
                    self.grants += 1;
                    self.store.newest[task] = self.grants;
                    let grant = self.grants;
                    Answer::Granted(Run { task, token, grant })
                }
            },
            Call::Settle(settle) => {
                let before = self.store.tasks[settle.task].clone();
                let letter = self.store.settle(session, settle, mutant);
                let written = before != self.store.tasks[settle.task];
                self.stale_accepted |= written && settle.grant != self.store.newest[settle.task];
                Answer::Settled(letter)
            }
        }
    }

    fn beat(&mut self, c: usize) {
        let consumer = &mut self.consumers[c];
        consumer.overslept = false;
        if !self.store.heartbeat(consumer.session, false) {
            self.join(c);
        }
    }

    /// What Redis says that it holds, and it knows of no more, goes back: the log lost that it has ended.
    fn recount(&mut self, c: usize, mutant: Option<Mutant>) {
        let consumer = &mut self.consumers[c];
        let settling = matches!(consumer.unanswered, Some((Call::Settle(_), _)));
        if !consumer.recount || settling {
            return;
        }
        consumer.recount = false;
        let known = |task, token| consumer.runs.iter().any(|run| run.task == task && run.token == token);
        let held = &self.store.sessions[consumer.session].running;
        let ghosts = held
            .iter()
            .filter(|(task, token)| *token <= consumer.above && !known(*task, *token));
        if mutant == Some(Mutant::NoRecount) {
            return;
        }
        for (task, token) in ghosts.copied().collect::<Vec<_>>() {
            let consumer = &mut self.consumers[c];
            consumer.number += 1;
            let settle = Settle {
                how: How::Release,
                number: consumer.number,
                task,
                token,
                grant: self.store.newest[task],
            };
            self.apply(self.consumers[c].session, Call::Settle(settle), mutant);
        }
    }

    /// A new session: also of one that learned that its lease is lost. Its handlers are stopped.
    fn join(&mut self, c: usize) {
        let session = self.store.sessions.len();
        self.store.sessions.push(Session::default());
        self.store.heartbeat(session, true);
        self.consumers[c] = Consumer::new(session);
    }

    fn reclaim(&mut self, session: usize, mutant: Option<Mutant>) {
        if !self.store.may_reclaim(session, mutant) {
            return;
        }
        let owner = self.consumers.iter().find(|c| c.session == session);
        self.robbed |= owner.is_some_and(|c| c.process == Process::Up && !c.overslept);
        self.store.reclaim(session, mutant);
    }

    fn promote(&mut self, task: usize, mutant: Option<Mutant>) {
        if !self.store.tasks[task].scheduled {
            return;
        }
        if mutant == Some(Mutant::TwoStepPromote) {
            self.store.tasks[task].scheduled = false;
            self.in_hand = Some(task);
        } else {
            self.store.promote(task);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Nothing,
    Lost,
    Granted(Run),
    Settled(Letter),
}
