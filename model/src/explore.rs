//! Running a model to its end.
//!
//! Invariant: a report without a broken property means that every reachable state was looked at, and that no run is
//! endless: steps lead from state to state without a circle. A property of the states in which nothing can happen any
//! more so holds for the end of every run, which is how "finally" is checked here.

use std::collections::HashMap;
use std::fmt::{Debug, Display, Formatter};
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// The property that was broken first, and the steps that led there.
    pub broken: Option<(String, String)>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match &self.broken {
            None => write!(f, "{} states, every property holds", self.states),
            Some((name, steps)) => write!(f, "{} states, broken: {name}{steps}", self.states),
        }
    }
}

/// Looks at all states of `model`, until a property is broken.
pub fn explore<M>(model: &M) -> Report
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Hash + Eq + Clone + Debug + Send + Sync,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let checker = model.clone().checker().finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let states = checker.unique_state_count();
    let mut broken = None;
    for property in model.properties() {
        let Some(path) = checker.discovery(property.name) else {
            continue;
        };
        let steps = path.into_actions().into_iter();
        let steps = steps.map(|action| format!("\n  {action:?}")).collect();
        broken = broken.or(Some((property.name.to_owned(), steps)));
    }
    if broken.is_none()
        && let Some(circle) = circle(model)
    {
        let states = circle.iter().map(|state| format!("\n  {state:?}")).collect();
        broken = Some(("every run ends".to_owned(), states));
    }
    Report { states, broken }
}

/// States that lead one to another and back to the first, if there are any.
fn circle<M: Model>(model: &M) -> Option<Vec<M::State>>
where
    M::State: Hash + Eq + Clone,
{
    // false: on the way from the start to here; true: all behind it was seen.
    let mut seen: HashMap<M::State, bool> = HashMap::new();
    let mut way: Vec<(M::State, Vec<M::State>)> = Vec::new();
    for start in model.init_states() {
        let next = model.next_states(&start);
        seen.insert(start.clone(), false);
        way.push((start, next));
    }
    while let Some((state, next)) = way.last_mut() {
        let Some(child) = next.pop() else {
            seen.insert(state.clone(), true);
            way.pop();
            continue;
        };
        match seen.get(&child) {
            Some(true) => {}
            Some(false) => {
                let way = way.into_iter().map(|(state, _)| state);
                return Some(way.skip_while(|state| *state != child).collect());
            }
            None => {
                let next = model.next_states(&child);
                seen.insert(child.clone(), false);
                way.push((child, next));
            }
        }
    }
    None
}
