//! What only time does, written into the keys by hand, since Redis' clock cannot be moved.

use redis::Cmd;

use super::reference::{Due, Place};
use super::world::World;

impl World {
    async fn write(&mut self, cmd: &Cmd) -> Result<(), String> {
        cmd.exec_async(&mut self.redis).await.map_err(|e| e.to_string())
    }

    fn cmd(&self, name: &str, key: &str) -> Cmd {
        let mut cmd = redis::cmd(name);
        cmd.arg(self.queue.keys().named(key));
        cmd
    }

    pub async fn end_lease(&mut self, of: usize) -> Result<(), String> {
        if !self.reference.sessions[of].here {
            return Ok(());
        }
        self.reference.sessions[of].alive = false;
        let mut cmd = self.cmd("ZADD", "consumers");
        self.write(cmd.arg("XX").arg(1).arg(self.names[of].as_str())).await
    }

    pub async fn silence(&mut self) -> Result<(), String> {
        self.reference.silent = true;
        let mut cmd = self.cmd("HSET", "state");
        self.write(cmd.arg("tick").arg(1)).await
    }

    pub async fn grace_over(&mut self) -> Result<(), String> {
        self.reference.grace = false;
        let mut cmd = self.cmd("HSET", "state");
        self.write(cmd.arg("grace").arg(0)).await
    }

    /// In the order of ids, a millisecond apart; every other two share one, so that the priority decides.
    pub async fn all_due(&mut self) -> Result<(), String> {
        let mut cmd = self.cmd("ZADD", "scheduled");
        cmd.arg("XX");
        let mut at = 1000;
        for (id, task) in &mut self.reference.tasks {
            if let Place::Scheduled { priority, due } = &mut task.place {
                *due = Due::At(at / 2);
                cmd.arg((at / 2) as f64 + *priority as f64 / 256.0).arg(id);
                at += 1;
            }
        }
        if at == 1000 {
            return Ok(());
        }
        self.write(&cmd).await
    }

    pub async fn results_old(&mut self) -> Result<(), String> {
        self.reference.old = self.reference.results.keys().cloned().collect();
        if self.reference.old.is_empty() {
            return Ok(());
        }
        let mut cmd = self.cmd("ZADD", "done");
        cmd.arg("XX");
        for id in &self.reference.old {
            cmd.arg(1).arg(id);
        }
        self.write(&cmd).await
    }
}
