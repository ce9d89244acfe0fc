//! Steps of the maintainer and of operators.

use workyard_shared::broker::{CancelAnswer, Deleted, PurgePlace, Waited};

use super::op::IDS;
use super::reference::Place;
use super::world::{World, same, session, task_id};

fn names(ids: &[u8]) -> Vec<String> {
    ids.iter().map(|id| task_id(*id % IDS)).collect()
}

impl World {
    pub async fn dead(&mut self) -> Result<(), String> {
        let mut real = self.queue.dead_consumers().await.map_err(|e| e.to_string())?;
        real.sort();
        let expected: Vec<_> = self
            .reference
            .dead()
            .into_iter()
            .map(|i| self.names[i].clone())
            .collect();
        same("dead", &real, &expected)
    }

    pub async fn reclaim(&mut self, of: usize) -> Result<(), String> {
        let real = self.queue.reclaim(&self.names[of]).await.map_err(|e| e.to_string())?;
        let expected = if self.reference.dead().contains(&of) {
            self.reference.take_back(of, true)
        } else {
            (0, 0)
        };
        same(
            "reclaim",
            &(real.back, real.poisoned, real.more),
            &(expected.0, expected.1, false),
        )
    }

    pub async fn leave(&mut self, by: usize) -> Result<(), String> {
        let real = self.queue.leave(&self.names[by]).await.map_err(|e| e.to_string())?;
        same("leave", &real, &self.reference.take_back(by, false).0)
    }

    pub async fn promote(&mut self, most: u8) -> Result<(), String> {
        let (moved, _) = self.queue.promote(usize::from(most)).await.map_err(|e| e.to_string())?;
        same(
            "promote",
            &moved,
            &self.reference.promote(usize::from(most), self.now_us / 1000),
        )
    }

    pub async fn sweep(&mut self) -> Result<(), String> {
        let real = self.queue.sweep(100).await.map_err(|e| e.to_string())?;
        let (expired, dropped) = self.reference.sweep();
        same(
            "sweep",
            &(real.expired, real.dropped, real.trimmed, real.more),
            &(expired, dropped, 0, false),
        )
    }

    pub async fn cancel(&mut self, id: &str) -> Result<(), String> {
        let real = match self.queue.cancel(id).await.map_err(|e| e.to_string())? {
            CancelAnswer::Cancelled => "cancelled",
            CancelAnswer::Finished => "finished",
            CancelAnswer::Unknown => "unknown",
        };
        same("cancel", &real, &self.reference.cancel(id))
    }

    pub async fn requeue(&mut self, ids: &[u8]) -> Result<(), String> {
        let ids = names(ids);
        let real = self.queue.retry(&ids).await.map_err(|e| e.to_string())?;
        same("retry", &real, &self.reference.requeue(&ids))
    }

    pub async fn delete(&mut self, ids: &[u8]) -> Result<(), String> {
        let ids = names(ids);
        let real = self.queue.delete(&ids).await.map_err(|e| e.to_string())?;
        let letter = |d: &Deleted| match d {
            Deleted::Deleted => 'd',
            Deleted::Alive => 'a',
            Deleted::Unknown => 'n',
        };
        let real: String = real.iter().map(letter).collect();
        same("delete", &real, &self.reference.delete(&ids))
    }

    pub async fn purge(&mut self, place: u8) -> Result<(), String> {
        const PLACES: [PurgePlace; 4] = [
            PurgePlace::Pending,
            PurgePlace::Scheduled,
            PurgePlace::Failed,
            PurgePlace::Results,
        ];
        let real = self.queue.purge_step(PLACES[usize::from(place)]).await;
        same("purge", &real.map_err(|e| e.to_string())?, &self.reference.purge(place))
    }

    pub async fn wait(&mut self, id: &str) -> Result<(), String> {
        let real = self.queue.wait(&session("w"), &[id]).await.map_err(|e| e.to_string())?;
        let real = match &real[..] {
            [Waited::Ended(_)] => "ended",
            [Waited::Waiting] => "waiting",
            _ => "unknown",
        };
        let expected = match self.reference.tasks.get(id).map(|t| &t.place) {
            Some(Place::Failed) => "ended",
            Some(_) => {
                self.reference.waiters.insert(id.to_owned());
                "waiting"
            }
            None if self.reference.results.contains_key(id) => "ended",
            None => "unknown",
        };
        same("wait", &real, &expected)
    }
}
