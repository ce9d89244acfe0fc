//! Consumers, the maintainer and people around a job, and what must hold of it.

#![expect(missing_docs, reason = "fields and steps are named as what they are")]

use stateright::{Model, Property};

use super::Mutant;
use super::job::{Id, Job, Member, Phase};

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct FanIn {
    pub maps: u8,
    pub consumers: usize,
    /// Chunks that may be lost.
    pub allow: u8,
    /// How many handlers fail for good, consumers die, are frozen beyond their lease and go on, replies are lost.
    pub failures: u8,
    pub crashes: u8,
    pub freezes: u8,
    pub lost_replies: u8,
    /// How often somebody cancels, retries, purges a task; how many backup copies there are.
    pub cancels: u8,
    pub retries: u8,
    pub purges: u8,
    pub backups: u8,
    pub mutant: Option<Mutant>,
}

/// A consumer, and what Redis keeps of its session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// Redis' side: what it holds, and the answer to its last settle.
    pub held: Vec<Id>,
    pub answered: Option<(u8, bool)>,
    pub number: u8,
    /// Its own side: what it runs, and a settle whose reply was lost.
    pub runs: Vec<Run>,
    pub unanswered: Option<(Run, bool, bool)>,
    /// The reduce is ready, and this one has to say so: of [`Mutant::TwoStepReduce`].
    pub to_add: bool,
}

/// A handler that runs, and whether under the last claim of its session: what came back from a lost one has an older token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    pub id: Id,
    pub current: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub job: Job,
    pub consumers: Vec<Consumer>,
    /// Used up: failures, crashes, lost replies, cancels, retries, purges, backups, freezes.
    pub used: [u8; 8],
    pub answer_changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Claim(usize),
    Settle {
        by: usize,
        run: usize,
        well: bool,
        lost: bool,
    },
    Repeat(usize),
    AddReduce(usize),
    Tend,
    Die(usize),
    /// Its lease ends, its work is taken, and it goes on as if nothing had been.
    Freeze(usize),
    Cancel,
    Retry,
    Purge,
    Backup(Member),
}

impl State {
    fn settle(&mut self, by: usize, Run { id, current }: Run, well: bool, mutant: Option<Mutant>) -> bool {
        let consumer = &mut self.consumers[by];
        if let Some((number, kept)) = consumer.answered
            && number == consumer.number
        {
            return kept;
        }
        let held = consumer.held.iter().position(|held| current && *held == id);
        if let Some(at) = held {
            consumer.held.remove(at);
        }
        let holds = held.is_some() || mutant == Some(Mutant::NoFence);
        let outcome = holds.then(|| self.job.settle(id, well, mutant)).flatten();
        let consumer = &mut self.consumers[by];
        consumer.to_add |= outcome == Some(true);
        consumer.answered = Some((consumer.number, outcome.is_some()));
        outcome.is_some()
    }

    fn act(&mut self, action: Action, mutant: Option<Mutant>) {
        match action {
            Action::Claim(c) => {
                if !self.job.pending.is_empty() {
                    let id = self.job.pending.remove(0);
                    // A task that comes back to who ran it before is held under the new token only.
                    self.consumers[c].held.retain(|held| *held != id);
                    self.consumers[c].held.push(id);
                    self.consumers[c].runs.push(Run { id, current: true });
                }
            }
            Action::Settle { by, run, well, lost } => {
                self.used[0] += u8::from(!well);
                self.used[2] += u8::from(lost);
                let run = self.consumers[by].runs.remove(run);
                self.consumers[by].number += 1;
                let kept = self.settle(by, run, well, mutant);
                self.consumers[by].unanswered = lost.then_some((run, well, kept));
            }
            Action::Repeat(c) => {
                if let Some((run, well, kept)) = self.consumers[c].unanswered.take() {
                    // Answers are forgotten with the session.
                    self.answer_changed |= self.settle(c, run, well, mutant) != kept && run.current;
                }
            }
            Action::AddReduce(c) => {
                if std::mem::take(&mut self.consumers[c].to_add) {
                    self.job.add_reduce();
                }
            }
            Action::Tend => self.job.tend(mutant),
            Action::Die(c) => {
                self.used[1] += 1;
                // Its lease has ended, its work was taken, another process has its place.
                for id in std::mem::take(&mut self.consumers[c]).held {
                    self.job.give_back(id);
                }
            }
            Action::Freeze(c) => {
                self.used[7] += 1;
                let consumer = &mut self.consumers[c];
                consumer.answered = None;
                consumer.runs.iter_mut().for_each(|run| run.current = false);
                if let Some((run, ..)) = &mut consumer.unanswered {
                    run.current = false;
                }
                for id in std::mem::take(&mut consumer.held) {
                    self.job.give_back(id);
                }
            }
            Action::Cancel => {
                self.used[3] += 1;
                self.job.cancel(mutant);
            }
            Action::Retry => {
                self.used[4] += 1;
                self.job.retry(mutant);
            }
            Action::Purge => {
                self.used[5] += 1;
                self.job.purge();
            }
            Action::Backup(member) => {
                self.used[6] += 1;
                self.job.backup(member);
            }
        }
    }
}

impl FanIn {
    fn progress(self, state: &State, actions: &mut Vec<Action>) {
        for (by, consumer) in state.consumers.iter().enumerate() {
            if consumer.unanswered.is_some() {
                actions.push(Action::Repeat(by));
                continue;
            }
            actions.push(Action::AddReduce(by));
            actions.push(Action::Claim(by));
            for run in 0..consumer.runs.len() {
                for well in [true, false] {
                    for lost in [false, true] {
                        let may =
                            (well || state.used[0] < self.failures) && (!lost || state.used[2] < self.lost_replies);
                        actions.extend(may.then_some(Action::Settle { by, run, well, lost }));
                    }
                }
            }
        }
        actions.push(Action::Tend);
    }

    fn at_rest(self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.progress(state, &mut actions);
        actions
            .into_iter()
            .all(|action| self.next_state(state, action).is_none())
    }
}

impl Model for FanIn {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            job: Job::submit(self.maps, self.allow),
            consumers: vec![Consumer::default(); self.consumers],
            used: [0; 8],
            answer_changed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        let dies = state.used[1] < self.crashes;
        actions.extend((0..self.consumers).filter(|_| dies).map(Action::Die));
        let freezes = state.used[7] < self.freezes;
        actions.extend((0..self.consumers).filter(|_| freezes).map(Action::Freeze));
        actions.extend((state.used[3] < self.cancels && !state.job.phase.is_over()).then_some(Action::Cancel));
        actions.extend((state.used[4] < self.retries && state.job.phase.is_over()).then_some(Action::Retry));
        actions.extend((state.used[5] < self.purges && !state.job.pending.is_empty()).then_some(Action::Purge));
        let live = state.job.live.iter().copied().filter(|member| !member.copy);
        actions.extend(live.filter(|_| state.used[6] < self.backups).map(Action::Backup));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.act(action, self.mutant);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the reduce is added once", |_, state: &State| state.job.reduces <= 1),
            Property::always(
                "the reduce is not added before its inputs are there",
                |_, state: &State| !state.job.early,
            ),
            Property::always("counts are those of different chunks", |_, state: &State| {
                let job = &state.job;
                job.phase == Phase::Completed
                    || u32::from(job.done) == job.outputs.count_ones()
                        && u32::from(job.failed) == job.lost.count_ones()
                        && job.outputs & job.lost == 0
            }),
            Property::always("a job ends once for each start", |_, state: &State| state.job.ends <= 1),
            Property::always("what is completed lacks no more than it may", |_, state: &State| {
                let job = &state.job;
                job.phase != Phase::Completed
                    || job.outputs.count_ones() + u32::from(job.allow.min(job.failed)) >= u32::from(job.maps)
            }),
            Property::always("a task is in one place, and only a task is", one_place),
            Property::always("nothing is left of a job that is over", |_, state: &State| {
                !state.job.phase.is_over() || (state.job.live.is_empty() && state.job.tasks.is_empty())
            }),
            Property::always("a repeat gets the first answer", |_, state: &State| {
                !state.answer_changed
            }),
            Property::always("the job ends", |model: &Self, state: &State| {
                state.job.phase.is_over() || !model.at_rest(state)
            }),
        ]
    }
}

fn one_place(_: &FanIn, state: &State) -> bool {
    let places = |id: &Id| {
        let held = state.consumers.iter().flat_map(|c| &c.held);
        held.chain(&state.job.pending).filter(|other| *other == id).count()
    };
    let sound = state.job.tasks.iter().all(|id| places(id) == 1);
    sound && state.job.pending.iter().all(|id| state.job.tasks.contains(id))
}
