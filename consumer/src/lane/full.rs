//! Kinds that have no slot free: what of them stays in the lane's hands, and what goes back.
//!
//! A claim does not choose by kind, so a flood of one with few slots would fill the lane. Invariant: of each full kind the next
//! task stays, and those whose turn comes in a moment; nothing that moves fast is handed back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::exchange::LOOKAHEAD;
use super::{Lane, STRANDED};
use crate::registry::Registry;

/// Pause between looks at what waits, if nothing more has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the first runs of a kind may take (a process starts with them) before its tasks make room.
const FIRST_RUNS: Duration = Duration::from_secs(2);

/// What the lane knows of kinds with a limit.
pub(super) struct FullKinds {
    /// When the last task of each was started, or it was first seen full: it may be full of another queue's tasks, and no start
    /// here would ever tell whether it moves.
    started: HashMap<String, Instant>,
    looked_at: Instant,
    /// More tasks have come since.
    news: bool,
}

impl FullKinds {
    pub(super) fn new() -> Self {
        Self {
            started: HashMap::new(),
            looked_at: Instant::now(),
            news: false,
        }
    }

    /// A task of the kind starts.
    pub(super) fn started(&mut self, kind: &str) {
        let now = Instant::now();
        match self.started.get_mut(kind) {
            Some(at) => *at = now,
            None => drop(self.started.insert(kind.to_owned(), now)),
        }
    }

    /// Tasks have been claimed.
    pub(super) fn came(&mut self) {
        self.news = true;
    }

    /// Whether it is time to look at what waits for these.
    fn is_due(&mut self, full: &[String]) -> bool {
        if full.is_empty() || !(self.news || self.looked_at.elapsed() >= LOOK_EVERY) {
            return false;
        }
        (self.news, self.looked_at) = (false, Instant::now());
        for kind in full {
            if !self.started.contains_key(kind) {
                self.started.insert(kind.clone(), self.looked_at);
            }
        }
        true
    }
}

impl Lane {
    /// Hands back what other kinds, and other consumers, have use for the place of: for about as long as its turn takes.
    pub(super) fn return_excess(&mut self, registry: &Registry, full: &[String]) {
        if !self.full.is_due(full) {
            return;
        }
        // Per kind: its pace, and how many are before one in this look.
        let mut kinds: Vec<(&str, (Duration, Duration), u32)> = full
            .iter()
            .map(|kind| (kind.as_str(), self.pace(registry, kind), 0))
            .collect();
        let aways: Vec<Option<Duration>> = self
            .ready
            .iter()
            .map(|grant| {
                let (kind, (pace, patience), ahead) = kinds.iter_mut().find(|(kind, ..)| *kind == grant.kind())?;
                let turn = *pace * *ahead;
                *ahead += 1;
                (turn >= *patience).then(|| self.desk.away(kind, turn))
            })
            .collect();
        if aways.iter().all(Option::is_none) {
            return;
        }
        for (grant, away) in std::mem::take(&mut self.ready).into_iter().zip(aways) {
            let Some(away) = away else {
                self.ready.push_back(grant);
                continue;
            };
            self.let_go(&grant.id);
            self.fleet.slots.unreserve(self.index, 1);
            self.outbox.release(grant.id, grant.token, away);
            self.hungry = true;
        }
    }

    /// How often a slot of a kind comes free, by what its runs take, and how long its tasks may wait for one here: at least
    /// twice as long as what is claimed ahead takes. Where no run has ended yet: by whether any starts.
    fn pace(&self, registry: &Registry, kind: &str) -> (Duration, Duration) {
        let slots = registry.slots(kind);
        let limit = u32::try_from(slots.map_or(1, |slots| slots.now().limit).max(1)).unwrap_or(u32::MAX);
        let usable = u32::try_from(self.fleet.slots.usable()).unwrap_or(u32::MAX);
        let started = self.full.started.get(kind);
        let pace = match self.desk.usual_run(kind) {
            Some(run) => run / limit,
            None if started.is_none_or(|at| at.elapsed() < FIRST_RUNS) => Duration::ZERO,
            None => STRANDED,
        };
        (pace, STRANDED.max(LOOKAHEAD * 2 * usable / limit))
    }
}
