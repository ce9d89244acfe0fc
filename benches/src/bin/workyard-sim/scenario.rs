//! What is simulated: which consumers, which tasks, when they arrive.

use crate::profile::{Fate, Profile};

/// Share of the fleet's capacity that evenly arriving tasks take.
const EVEN_LOAD: f64 = 0.6;

/// One simulation's input.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) consumers: Vec<Profile>,
    pub(crate) tasks: usize,
    /// Seconds between two tasks; 0 is all at once.
    pub(crate) every_s: f64,
    /// A second kind, every fourth task, fails everywhere in this span of seconds.
    pub(crate) dead_kind: Option<(f64, f64)>,
}

impl Scenario {
    /// The names that [`Scenario::of`] knows.
    pub(crate) const NAMES: [&'static str; 5] = ["paper-even", "paper-burst", "mixed-even", "mixed-burst", "dead-kind"];

    /// The scenario of that name.
    pub(crate) fn of(name: &str, consumers: usize, tasks: usize) -> Option<Self> {
        let name = Self::NAMES.into_iter().find(|known| *known == name)?;
        let paper = name.starts_with("paper");
        let consumers = match name {
            "dead-kind" => vec![steady("equal", 0.1, 0.02, 0.0, 10); consumers.min(20)],
            _ if paper => paper_fleet(),
            _ => mixed_fleet(consumers),
        };
        let even = !name.ends_with("burst");
        let every_s = if even {
            1.0 / (EVEN_LOAD * capacity(&consumers))
        } else {
            0.0
        };
        let tasks = if paper { 300 } else { tasks };
        let dead_kind = (name == "dead-kind").then_some((5.0, 15.0));
        Some(Self {
            name,
            consumers,
            tasks,
            every_s,
            dead_kind,
        })
    }
}

/// Runs per second of all consumers together.
fn capacity(consumers: &[Profile]) -> f64 {
    consumers.iter().map(Profile::rate).sum()
}

fn steady(name: &'static str, mean_s: f64, sd_s: f64, error_rate: f64, capacity: usize) -> Profile {
    Profile {
        name,
        mean_s,
        sd_s,
        error_rate,
        capacity,
        fate: Fate::Steady,
    }
}

/// The four workers of the paper's listing.
fn paper_fleet() -> Vec<Profile> {
    vec![
        steady("fast", 0.2, 0.1, 0.05, 8),
        steady("medium", 0.5, 0.2, 0.10, 5),
        steady("slow", 1.0, 0.3, 0.15, 3),
        steady("unreliable", 0.3, 0.1, 0.30, 4),
    ]
}

/// Of ten consumers four are fast, three slow, and one each degrades, fails for ten seconds, dies.
fn mixed_fleet(consumers: usize) -> Vec<Profile> {
    let fast = steady("fast", 0.2, 0.05, 0.01, 8);
    let kinds = [
        fast,
        steady("slow", 0.8, 0.2, 0.01, 8),
        fast,
        Profile {
            name: "degrading",
            fate: Fate::Degrades { from: 5.0 },
            ..fast
        },
        steady("slow", 0.8, 0.2, 0.01, 8),
        fast,
        Profile {
            name: "failing",
            fate: Fate::Fails { from: 5.0, until: 15.0 },
            ..fast
        },
        fast,
        Profile {
            name: "dying",
            fate: Fate::Dies { at: 8.0 },
            ..fast
        },
        steady("slow", 0.8, 0.2, 0.01, 8),
    ];
    kinds.into_iter().cycle().take(consumers).collect()
}
