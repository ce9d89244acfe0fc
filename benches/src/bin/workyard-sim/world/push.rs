//! The dispatchers for comparison: each task goes to a consumer at once, which queues what its slots cannot take.

use super::World;
use crate::consumer::Consumer;
use crate::dispatch::Push;

impl World<'_> {
    pub(super) fn choose(&mut self, push: Push) -> Option<u32> {
        let n = self.consumers.len();
        let listed = |c: &Consumer| c.listed;
        match push {
            Push::PaperRoundRobin => (0..n).find_map(|_| {
                let chosen = self.turn % n;
                self.turn += 1;
                let c = &self.consumers[chosen];
                (c.listed && c.errors * 2 <= c.runs).then_some(chosen)
            }),
            Push::Random => (0..100)
                .map(|_| self.rng.usize(0..n))
                .find(|chosen| listed(&self.consumers[*chosen])),
            Push::TwoChoices => {
                let mut draw = || {
                    (0..100)
                        .map(|_| self.rng.usize(0..n))
                        .find(|chosen| listed(&self.consumers[*chosen]))
                };
                let (a, b) = (draw()?, draw()?);
                let better = self.consumers[a].fullness() <= self.consumers[b].fullness();
                Some(if better { a } else { b })
            }
        }
        .and_then(|chosen| u32::try_from(chosen).ok())
    }

    pub(super) fn serve_own(&mut self, id: u32) {
        while self.consumers[id as usize].alive && self.consumers[id as usize].free() > 0 {
            let Some(task) = self.consumers[id as usize].queue.pop_front() else {
                return;
            };
            self.start(id, task);
        }
    }
}
