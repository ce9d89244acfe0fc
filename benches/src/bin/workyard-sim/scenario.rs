//! What is simulated: which consumers, which tasks, when they arrive.

use workyard_bench::profile::{Fate, Profile, capacity};

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
            "dead-kind" => vec![Profile::steady("equal", 0.1, 0.02, 0.0, 10); consumers.min(20)],
            _ if paper => Profile::of_the_paper().to_vec(),
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

/// Of ten consumers four are fast, three slow, and one each degrades, fails for ten seconds, dies.
fn mixed_fleet(consumers: usize) -> Vec<Profile> {
    let fast = Profile::steady("fast", 0.2, 0.05, 0.01, 8);
    let kinds = [
        fast,
        Profile::steady("slow", 0.8, 0.2, 0.01, 8),
        fast,
        Profile {
            name: "degrading",
            fate: Fate::Degrades { from: 5.0 },
            ..fast
        },
        Profile::steady("slow", 0.8, 0.2, 0.01, 8),
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
        Profile::steady("slow", 0.8, 0.2, 0.01, 8),
    ];
    kinds.into_iter().cycle().take(consumers).collect()
}
