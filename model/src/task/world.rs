//! The processes and the network around Redis: what each may do next, and what may happen to it.

#![expect(missing_docs, reason = "fields and steps are named as what they are")]

use stateright::{Model, Property};

use super::Mutant;
use super::check;
use super::store::{How, Letter, Session, Settle, Store, TaskNo};

/// Which faults may happen, `most` of them in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    pub most: u8,
    /// A consumer or the producer dies.
    pub crash: bool,
    /// A consumer stands still, maybe beyond its lease, and goes on or does not.
    pub freeze: bool,
    /// The reply to a call is lost: the call comes again.
    pub reply_lost: bool,
    /// The network keeps a copy of a call and brings it at any later moment.
    pub copy: bool,
    /// Redis is away for longer than a lease, and keeps its data.
    pub outage: bool,
    /// Redis comes back as it was at the last sync.
    pub tail_lost: bool,
    /// Redis' clock goes back to the beginning.
    pub clock_back: bool,
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub tasks: usize,
    pub consumers: usize,
    /// Whether handlers fail, too.
    pub failures: bool,
    /// How many tasks are handed back; how many are cancelled.
    pub releases: u8,
    pub cancels: u8,
    pub faults: Faults,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Tasks {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    Up,
    Frozen,
    Down,
}

/// A handler that runs, or has run and was not settled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    pub task: TaskNo,
    pub token: u8,
    pub grant: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Enqueue(u8),
    Claim(u8),
    Settle(Settle),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Consumer {
    pub process: Process,
    /// Its session's place in the store.
    pub session: usize,
    pub above: u8,
    pub number: u8,
    pub runs: Vec<Run>,
    /// A call without a reply, and what the lost reply said.
    pub unanswered: Option<(Call, Option<Letter>)>,
    /// It stood still since its last heartbeat.
    pub overslept: bool,
    /// Its connection was lost: it will compare what it holds with what Redis says.
    pub recount: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Store,
    /// What Redis comes back with when it loses the tail of its log.
    pub synced: Option<Box<Store>>,
    pub consumers: Vec<Consumer>,
    /// Enqueues that were answered; whether one is under way; whether the producer lives.
    pub produced: u8,
    pub asking: bool,
    pub producing: bool,
    /// A call that the network kept, and whose it was.
    pub copy: Option<(usize, Call)>,
    /// Taken out of scheduled, not yet in pending: of [`Mutant::TwoStepPromote`].
    pub in_hand: Option<TaskNo>,
    /// Redis' clock: a tick per claim.
    pub clock: u8,
    pub faults: u8,
    pub releases: u8,
    pub cancels: u8,
    pub rolled_back: bool,
    /// Ghost: grants so far.
    pub grants: u8,
    /// Ghosts: what must never be.
    pub stale_accepted: bool,
    pub robbed: bool,
    pub answer_changed: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Answered,
    ReplyLost,
    Copied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Enqueue(Fate),
    Claim(usize, Fate),
    Settle(usize, usize, How, Fate),
    Repeat(usize),
    Beat(usize),
    Recount(usize),
    Restart(usize),
    LeaseEnds(usize),
    GracePasses,
    Reclaim(usize),
    Promote(TaskNo),
    PutIn,
    Cancel(TaskNo),
    Thaw(usize),
    Sync,
    CopyArrives,
    ProducerDies,
    Crash(usize),
    Freeze(usize),
    Outage,
    TailLost,
    ClockBack,
}

impl Tasks {
    fn may_fail(self, state: &State) -> bool {
        state.faults < self.bounds.faults.most
    }

    fn fates(self, state: &State) -> Vec<Fate> {
        let faults = self.bounds.faults;
        let mut fates = vec![Fate::Answered];
        if self.may_fail(state) && faults.reply_lost {
            fates.push(Fate::ReplyLost);
        }
        if self.may_fail(state) && faults.copy && state.copy.is_none() {
            fates.push(Fate::Copied);
        }
        fates
    }

    /// What goes on by itself: without any of these left, nothing will ever happen any more.
    pub fn progress(self, state: &State, actions: &mut Vec<Action>) {
        let fates = self.fates(state);
        if state.producing && usize::from(state.produced) < self.bounds.tasks {
            actions.extend(fates.iter().map(|fate| Action::Enqueue(*fate)));
        }
        for (c, consumer) in state.consumers.iter().enumerate() {
            match consumer.process {
                Process::Down => actions.push(Action::Restart(c)),
                Process::Frozen => {}
                Process::Up => self.of_consumer(state, c, consumer, &fates, actions),
            }
        }
        for session in 0..state.store.sessions.len() {
            let renewed = |c: &Consumer| c.session == session && c.process == Process::Up;
            if !state.consumers.iter().any(renewed) {
                actions.push(Action::LeaseEnds(session));
            }
            actions.push(Action::Reclaim(session));
        }
        actions.extend((0..self.bounds.tasks).map(Action::Promote));
        actions.extend([Action::GracePasses, Action::PutIn, Action::CopyArrives]);
    }

    fn of_consumer(self, state: &State, c: usize, consumer: &Consumer, fates: &[Fate], actions: &mut Vec<Action>) {
        actions.push(Action::Beat(c));
        actions.push(Action::Recount(c));
        if consumer.unanswered.is_some() {
            // One claim and one settle under way at a time; here one of both.
            actions.push(Action::Repeat(c));
            return;
        }
        for fate in fates {
            if consumer.runs.len() < self.bounds.tasks {
                actions.push(Action::Claim(c, *fate));
            }
            for run in 0..consumer.runs.len() {
                actions.push(Action::Settle(c, run, How::Complete, *fate));
                if self.bounds.failures {
                    actions.push(Action::Settle(c, run, How::Fail, *fate));
                }
                if state.releases < self.bounds.releases {
                    actions.push(Action::Settle(c, run, How::Release, *fate));
                }
            }
        }
    }

    fn harm(self, state: &State, actions: &mut Vec<Action>) {
        let faults = self.bounds.faults;
        for (c, consumer) in state.consumers.iter().enumerate() {
            if consumer.process == Process::Frozen {
                actions.push(Action::Thaw(c));
            }
            if self.may_fail(state) && consumer.process == Process::Up {
                actions.extend(faults.crash.then_some(Action::Crash(c)));
                actions.extend(faults.freeze.then_some(Action::Freeze(c)));
            }
        }
        if state.cancels < self.bounds.cancels {
            actions.extend((0..self.bounds.tasks).map(Action::Cancel));
        }
        if self.may_fail(state) {
            actions.extend((faults.crash && state.producing).then_some(Action::ProducerDies));
            actions.extend(faults.outage.then_some(Action::Outage));
            actions.extend(faults.clock_back.then_some(Action::ClockBack));
            // Synced once at any moment, or never: that is every prefix of the log.
            let sync = if state.synced.is_none() {
                Action::Sync
            } else {
                Action::TailLost
            };
            actions.extend(faults.tail_lost.then_some(sync));
        }
    }
}

impl Model for Tasks {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut store = Store {
            tasks: vec![Default::default(); self.bounds.tasks],
            sessions: vec![Session::default(); self.bounds.consumers],
            newest: vec![0; self.bounds.tasks],
            ..Store::default()
        };
        let mut consumers = Vec::new();
        for session in 0..self.bounds.consumers {
            store.heartbeat(session, true);
            consumers.push(Consumer::new(session));
        }
        vec![State {
            store,
            synced: None,
            consumers,
            produced: 0,
            asking: false,
            producing: true,
            copy: None,
            in_hand: None,
            clock: 0,
            faults: 0,
            releases: 0,
            cancels: 0,
            rolled_back: false,
            grants: 0,
            stale_accepted: false,
            robbed: false,
            answer_changed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        self.harm(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.act(action, self.mutant);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        check::properties()
    }
}

impl Consumer {
    pub(super) fn new(session: usize) -> Self {
        Self {
            process: Process::Up,
            session,
            above: 0,
            number: 0,
            runs: Vec::new(),
            unanswered: None,
            overslept: false,
            recount: false,
        }
    }
}
