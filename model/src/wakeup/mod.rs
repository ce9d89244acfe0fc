//! Wake-ups: whether an idle consumer gets what is pending, with no poll to save it.
//!
//! A claim that finds less than it asked for parks in the same call; whoever adds work wakes the first of those that
//! are parked; a consumer that is told claims again. A poll would hide every mistake here, so there is none, and no
//! message is lost either: a message that Redis could not deliver counts as not sent, and Redis sees that.

#![expect(missing_docs, reason = "fields and steps are named as what they are")]

mod queue;

use stateright::{Model, Property};

use queue::MOST_WOKEN;
pub use queue::{Consumer, Life, Reply, State};

/// A fault of the protocol, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// An empty claim parks with a call of its own.
    ParkLater,
    /// A claim that leaves something behind tells nobody.
    NoPassOn,
    /// What a dead consumer gives back is told to nobody.
    ReclaimIsSilent,
    /// A consumer that drains after it was woken tells nobody.
    DrainIsSilent,
    /// Resuming tells nobody.
    ResumeIsSilent,
    /// A consumer that was woken and has no room any more tells nobody.
    FullIsSilent,
    /// Work is told of before it is there.
    WakeBeforeAdd,
    /// The client rests on a claim's empty answer, although it was woken after it sent the claim.
    RestOnOldAnswer,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct WakeUps {
    pub consumers: usize,
    /// What a consumer runs at a time.
    pub slots: u8,
    pub tasks: u8,
    pub crashes: u8,
    pub drains: u8,
    pub pauses: u8,
    /// Consumers that lose their subscription once.
    pub deaf: u8,
    /// Claims out of turn, and slots that another queue takes from under a consumer.
    pub polls: u8,
    pub crowds: u8,
    pub mutant: Option<Mutant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Claim(usize),
    Answer(usize),
    Hear(usize),
    Park(usize),
    Reclaim(usize),
    Subscribe(usize),
    Arrive,
    Finish(usize),
    Add(u8),
    Die(usize),
    Drain(usize),
    Pause,
    Resume,
    GoDeaf(usize),
    PassOn(usize),
    Poll(usize),
    Crowd(usize),
    Uncrowd(usize),
}

impl WakeUps {
    /// What goes on whatever handlers and producers do.
    fn progress(self, state: &State, actions: &mut Vec<Action>) {
        for (c, consumer) in state.consumers.iter().enumerate() {
            if consumer.life == Life::Dead {
                actions.push(Action::Reclaim(c));
            }
            if consumer.life != Life::Up {
                continue;
            }
            if consumer.hears
                && consumer.hungry
                && consumer.reply.is_none()
                && !consumer.about_to_park
                && consumer.room(self.slots) > 0
            {
                actions.push(Action::Claim(c));
            }
            // One claim under way at a time: only then it knows whether there is room.
            let full = consumer.woken && consumer.reply.is_none() && consumer.room(self.slots) == 0;
            actions.extend(full.then_some(Action::PassOn(c)));
            actions.extend(consumer.reply.is_some().then_some(Action::Answer(c)));
            actions.extend(consumer.message.then_some(Action::Hear(c)));
            actions.extend((consumer.about_to_park && consumer.reply.is_none()).then_some(Action::Park(c)));
            actions.extend((!consumer.hears).then_some(Action::Subscribe(c)));
        }
        actions.extend((state.coming > 0).then_some(Action::Arrive));
    }

    fn step(self, state: &mut State, action: Action) {
        let mutant = self.mutant;
        match action {
            Action::Claim(c) => state.claim(c, self.slots, mutant),
            Action::Answer(c) => state.answer(c, mutant),
            Action::Hear(c) => {
                let consumer = &mut state.consumers[c];
                (consumer.message, consumer.hungry, consumer.woken) = (false, true, true);
            }
            Action::Park(c) => {
                state.consumers[c].about_to_park = false;
                state.park(c);
            }
            Action::Reclaim(c) => state.leave(c, Life::Gone, mutant),
            Action::Subscribe(c) => state.consumers[c].hears = true,
            Action::Arrive => {
                state.pending += state.coming;
                state.coming = 0;
            }
            Action::Finish(c) => {
                let consumer = &mut state.consumers[c];
                consumer.running -= 1;
                consumer.held -= 1;
                // Its next claim goes with the settle.
                consumer.hungry = true;
            }
            Action::Add(n) => {
                state.tasks_left -= n;
                if mutant == Some(Mutant::WakeBeforeAdd) {
                    state.coming += n;
                    state.wake(n);
                } else {
                    state.pending += n;
                    state.tell(n);
                }
            }
            Action::PassOn(c) => {
                state.consumers[c].woken = false;
                let parked = state.parked.len();
                state.parked.retain(|p| *p != c);
                if mutant != Some(Mutant::FullIsSilent) && parked == state.parked.len() {
                    state.tell(1);
                }
            }
            other => self.harm(state, other),
        }
    }

    /// What somebody does to it from outside.
    fn harm(self, state: &mut State, action: Action) {
        match action {
            Action::Die(c) => {
                state.crashes_left -= 1;
                state.consumers[c].life = Life::Dead;
            }
            Action::Drain(c) => {
                state.drains_left -= 1;
                state.leave(c, Life::Draining, self.mutant);
            }
            Action::Poll(c) => {
                state.polls_left -= 1;
                state.consumers[c].hungry = true;
            }
            Action::Crowd(c) => {
                state.crowds_left -= 1;
                state.consumers[c].crowded = true;
            }
            Action::Uncrowd(c) => (state.consumers[c].crowded, state.consumers[c].hungry) = (false, true),
            Action::Pause => (state.paused, state.pauses_left) = (true, state.pauses_left - 1),
            Action::Resume => {
                state.paused = false;
                if self.mutant != Some(Mutant::ResumeIsSilent) {
                    state.wake(MOST_WOKEN);
                }
            }
            Action::GoDeaf(c) => {
                state.deaf_left -= 1;
                // It notices, and counts it as a wake-up: the next claim, behind the subscription, finds what came.
                let consumer = &mut state.consumers[c];
                (consumer.hears, consumer.hungry, consumer.woken) = (false, true, true);
            }
            _ => unreachable!("{action:?} goes on by itself"),
        }
    }
}

/// Somebody has room and rests, something is pending, and nothing will bring them together.
fn forgotten(model: &WakeUps, state: &State) -> bool {
    let mut actions = Vec::new();
    model.progress(state, &mut actions);
    let idle = |c: &Consumer| c.life == Life::Up && c.room(model.slots) > 0;
    state.pending > 0 && !state.paused && actions.is_empty() && state.consumers.iter().any(idle)
}

impl Model for WakeUps {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let consumer = Consumer {
            life: Life::Up,
            hears: true,
            message: false,
            hungry: true,
            woken: false,
            reply: None,
            held: 0,
            running: 0,
            about_to_park: false,
            crowded: false,
        };
        vec![State {
            pending: 0,
            parked: Vec::new(),
            consumers: vec![consumer; self.consumers],
            paused: false,
            tasks_left: self.tasks,
            crashes_left: self.crashes,
            drains_left: self.drains,
            pauses_left: self.pauses,
            deaf_left: self.deaf,
            polls_left: self.polls,
            crowds_left: self.crowds,
            coming: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        actions.extend((1..=state.tasks_left).map(Action::Add));
        actions.extend((!state.paused && state.pauses_left > 0).then_some(Action::Pause));
        actions.extend(state.paused.then_some(Action::Resume));
        for (c, consumer) in state.consumers.iter().enumerate().filter(|(_, c)| c.life == Life::Up) {
            actions.extend((consumer.running > 0).then_some(Action::Finish(c)));
            actions.extend((state.crashes_left > 0).then_some(Action::Die(c)));
            actions.extend((state.polls_left > 0).then_some(Action::Poll(c)));
            // A slot is reserved before a claim is sent: nobody takes it while that is under way.
            let free = consumer.reply.is_none() && consumer.room(self.slots) > 0;
            actions.extend((free && state.crowds_left > 0).then_some(Action::Crowd(c)));
            actions.extend(consumer.crowded.then_some(Action::Uncrowd(c)));
            actions.extend((state.drains_left > 0 && consumer.reply.is_none()).then_some(Action::Drain(c)));
            actions.extend((state.deaf_left > 0 && consumer.hears).then_some(Action::GoDeaf(c)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("no wake-up is lost", |model, state| {
            !forgotten(model, state)
        })]
    }
}
