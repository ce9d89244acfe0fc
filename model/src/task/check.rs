//! What must hold of one task, in every state.

use stateright::{Model, Property};

use super::store::{ATTEMPTS, POISON, Task};
use super::world::{Process, State, Tasks};

fn places(state: &State, no: usize, task: &Task) -> usize {
    let running = state.store.sessions.iter().flat_map(|s| &s.running);
    let running = running.filter(|(task, _)| *task == no).count();
    usize::from(task.pending) + usize::from(task.scheduled) + usize::from(task.failed) + running
}

/// Whether nothing goes on by itself any more, with somebody there who could work.
fn at_rest(model: &Tasks, state: &State) -> bool {
    let mut actions = Vec::new();
    model.progress(state, &mut actions);
    let up = state.consumers.iter().any(|c| c.process == Process::Up);
    up && actions
        .into_iter()
        .all(|action| model.next_state(state, action).is_none())
}

pub(super) fn properties() -> Vec<Property<Tasks>> {
    vec![
        Property::always("a task has one terminal state", |_, state: &State| {
            state.store.tasks.iter().all(|task| task.ended <= 1)
        }),
        Property::always("no stale write is accepted", |_, state: &State| !state.stale_accepted),
        Property::always("a task is in one place, and only a task is", |_, state: &State| {
            let mut tasks = state.store.tasks.iter().enumerate();
            tasks.all(|(no, task)| places(state, no, task) == usize::from(task.exists))
        }),
        Property::always(
            "a task bears no more deaths and failures than it may",
            |_, state: &State| {
                let mut tasks = state.store.tasks.iter();
                tasks.all(|task| !task.exists || task.failed || (task.crashes < POISON && task.failures < ATTEMPTS))
            },
        ),
        Property::always("nobody who lives is robbed", |_, state: &State| !state.robbed),
        Property::always("a repeat gets the first answer", |_, state: &State| {
            !state.answer_changed
        }),
        Property::always("each accepted task ends", |model: &Tasks, state: &State| {
            let ended = state.store.tasks.iter().all(|task| !task.accepted || task.ended >= 1);
            ended || !at_rest(model, state)
        }),
    ]
}
