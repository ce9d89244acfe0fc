//! What each fault does.
//!
//! Invariant: when [`World::apply`] returns, the fault is over: Redis accepts writes, the networks carry, nobody is frozen.

use std::path::Path;
use std::time::{Duration, Instant};

use workyard_tests::{Fault, FaultProxy, Signal, TestServer, monotonic_ms, wait_for};

use crate::evidence::{Death, Event};
use crate::plan::{Kind, Side, Step};
use crate::store::ask;
use crate::world::{World, hold, hold_until};

/// Replies of each network that are hit at least, and how much longer a fault may last for that.
const LEAST_HITS: u64 = 10;
const HIT_WAIT: Duration = Duration::from_secs(5);
/// Pause between things that happen again and again.
const AGAIN: Duration = Duration::from_millis(200);
/// How late everything is in a slow network.
const DELAY: Duration = Duration::from_millis(80);
/// How far a wrong clock is off, in s.
const CLOCK_OFF: i64 = 3600;
/// Room that a full disk still has: so that it is full soon, and not at once.
const LAST_BYTES: u64 = 4096;
/// About how many bytes of log a command takes, and how long the shortest sleep of Redis is: to make a load slow.
const LOG_BYTES: u64 = 60;
const NAP: Duration = Duration::from_micros(60);
/// How long Redis may take to accept writes again after a fault that left it alive.
const BACK: Duration = Duration::from_secs(60);

impl World {
    /// Makes a fault happen, and ends it.
    pub(crate) async fn apply(&mut self, step: &Step) {
        let began_ms = monotonic_ms();
        match step.kind {
            Kind::KillMaster | Kind::KillMasterAndConsumers => return self.kill_master(step).await,
            Kind::FreezeMaster => return self.freeze_master(step).await,
            Kind::FailOver => return self.fail_over(step).await,
            Kind::KillReplica => self.kill_replica(step.lasts).await,
            Kind::CutReplication => self.cut_replication(step.lasts).await,
            Kind::MoveSlot => return self.move_slot(step).await,
            _ => self.apply_to_one(step).await,
        }
        self.events.push(Event::over(step.name(), began_ms));
        if step.kind == Kind::DiskFull {
            // What docs/operations.md asks of an operator: the log may have a hole, and a Redis that starts from it would refuse to.
            self.server().rewrite_log().await;
        }
    }

    /// As [`Self::apply`], of what does not need several servers.
    async fn apply_to_one(&mut self, step: &Step) {
        let lasts = step.lasts;
        match step.kind {
            Kind::KillConsumers => {
                let victims = self.fleet.kill(step.which, step.victims());
                hold(lasts).await;
                self.fleet.start_again(victims);
            }
            Kind::Deploy => self.deploy(step).await,
            Kind::Freeze => {
                self.fleet.signal(step.which, Signal::STOP);
                hold(lasts).await;
                self.fleet.signal(step.which, Signal::CONT);
            }
            Kind::KillRedis => {
                self.kill_redis();
                hold(lasts).await;
                self.bring_redis_back(&[]).await;
            }
            Kind::PowerLoss => {
                self.lose_power();
                hold(lasts).await;
                self.bring_redis_back(&[]).await;
            }
            Kind::PowerLossOfAll => self.lose_power_of_all(lasts).await,
            Kind::FreezeOverRestart => self.freeze_over_restart(step.which, lasts).await,
            Kind::SlowLoad => self.load_slowly(lasts).await,
            Kind::OutOfMemory => self.fill_memory(lasts).await,
            Kind::DiskFull => self.fill_disk(lasts).await,
            Kind::DropReplies => {
                self.network_fault(step.side, Fault::DropReply(self.one_in), lasts)
                    .await
            }
            Kind::CutReplies => self.network_fault(step.side, Fault::CutReply(self.one_in), lasts).await,
            Kind::Delay => self.network_fault(step.side, Fault::Delay(DELAY), lasts).await,
            Kind::Stall => self.network_fault(step.side, Fault::Stall, lasts).await,
            Kind::BlackHole => self.network_fault(step.side, Fault::BlackHole, lasts).await,
            Kind::CutConnections => {
                self.again_and_again(lasts, async || match self.networks(step.side)[..] {
                    [] => self.cut_clients().await,
                    ref networks => networks.iter().for_each(|network| network.cut_all()),
                })
                .await;
            }
            Kind::MoveClock => {
                let off = if step.which.is_multiple_of(2) {
                    CLOCK_OFF
                } else {
                    -CLOCK_OFF
                };
                self.fleet.move_clock(step.which, off, lasts).await;
            }
            Kind::FlushFunctions => self.again_and_again(lasts, async || self.flush_functions().await).await,
            Kind::KillMaster
            | Kind::KillMasterAndConsumers
            | Kind::FreezeMaster
            | Kind::FailOver
            | Kind::KillReplica
            | Kind::CutReplication
            | Kind::MoveSlot => {}
        }
    }

    /// Whoever was told to end has finished or handed back all that it held, and left no session that others would have to wait out.
    async fn deploy(&mut self, step: &Step) {
        let (ended, wrong) = self.fleet.end(step.which, step.victims()).await;
        self.wrong.extend(wrong);
        let sessions = wait_for(BACK, || async { self.queue.consumers().await.ok() }).await;
        for pid in ended.iter().map(|member| self.fleet.pid(*member)) {
            let left = sessions
                .iter()
                .find(|(id, _)| id.as_str().contains(&format!("-{pid}-")));
            if let Some((id, _)) = left {
                self.wrong
                    .push(format!("a consumer that was told to end left its session {id} behind"));
            }
        }
        hold(step.lasts).await;
        self.fleet.start_again(ended);
    }

    /// The one Redis of a run; of several, which faults here do not know, the first.
    fn server(&self) -> &TestServer {
        self.store.servers()[0]
    }

    fn kill_redis(&mut self) {
        self.deaths.push(Death {
            at_ms: monotonic_ms(),
            back_ms: u64::MAX,
            ..Death::default()
        });
        self.server().kill9();
    }

    fn lose_power(&mut self) {
        let at_ms = monotonic_ms();
        let cut = self.server().lose_power();
        self.deaths.push(Death::with(at_ms, &cut));
    }

    /// Consumers are there first afterwards, as on a machine that boots: they have to wait for Redis.
    async fn lose_power_of_all(&mut self, lasts: Duration) {
        let victims = self.fleet.kill(0, self.fleet.len());
        self.lose_power();
        hold(lasts).await;
        self.fleet.start_again(victims);
        self.bring_redis_back(&[]).await;
    }

    /// One consumer sleeps through a restart of Redis, and through the end of its lease.
    async fn freeze_over_restart(&mut self, which: usize, lasts: Duration) {
        let began_ms = monotonic_ms();
        self.fleet.signal(which, Signal::STOP);
        self.kill_redis();
        hold(AGAIN).await;
        self.bring_redis_back(&[]).await;
        hold_until(began_ms, lasts).await;
        self.fleet.signal(which, Signal::CONT);
    }

    async fn bring_redis_back(&mut self, args: &[&str]) {
        self.server().restart_with(args).await;
        if let Some(death) = self.deaths.last_mut() {
            death.back_ms = monotonic_ms();
        }
    }

    /// Does something at once, and again with pauses, which are part of what is asked for, until the time is over.
    pub(crate) async fn again_and_again(&self, lasts: Duration, act: impl AsyncFn()) {
        let begun = Instant::now();
        while begun.elapsed() < lasts {
            act().await;
            hold(AGAIN).await;
        }
    }

    fn networks(&self, side: Side) -> Vec<&FaultProxy> {
        match side {
            Side::Producers => self.network.iter().collect(),
            Side::Consumer(which) => self.fleet.networks(Some(which)),
            Side::All => {
                let mut all = self.fleet.networks(None);
                all.extend(&self.network);
                all
            }
        }
    }

    async fn network_fault(&self, side: Side, fault: Fault, lasts: Duration) {
        let networks = self.networks(side);
        let before: Vec<u64> = networks.iter().map(|network| network.hits()).collect();
        networks.iter().for_each(|network| network.set(fault));
        hold(lasts).await;
        if matches!(fault, Fault::DropReply(_) | Fault::CutReply(_)) {
            // On a slow machine few replies come by in that time.
            let hit = networks
                .iter()
                .zip(&before)
                .map(|(network, before)| network.has_hit(before + LEAST_HITS));
            tokio::time::timeout(HIT_WAIT, futures_util::future::join_all(hit))
                .await
                .ok();
        }
        networks.iter().for_each(|network| network.set(Fault::None));
    }

    /// Kills Redis, and has it sleep so often while it loads that this takes about as long as it should.
    async fn load_slowly(&mut self, lasts: Duration) {
        self.kill_redis();
        let commands = u128::from(size_of_log(self.server().dir()).0 / LOG_BYTES).max(1);
        let naps = (lasts.as_micros() / NAP.as_micros()).max(1);
        // Redis reads a negative number as: a nap every so many commands.
        let delay = if commands > naps {
            format!("-{}", commands / naps)
        } else {
            (lasts.as_micros() / commands).to_string()
        };
        self.bring_redis_back(&["--key-load-delay", &delay]).await;
    }

    async fn fill_memory(&self, lasts: Duration) {
        let info: redis::InfoDict = self.admin(&["INFO", "memory"]).await;
        let used: u64 = info.get("used_memory").unwrap_or(0);
        let limit = (used * 9 / 10).max(1 << 20).to_string();
        self.admin::<()>(&["CONFIG", "SET", "maxmemory", &limit]).await;
        hold(lasts).await;
        self.admin::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }

    /// No file of Redis may grow. One that syncs before it answers ends by itself then: it cannot do what it promised.
    async fn fill_disk(&mut self, lasts: Duration) {
        let (_, largest) = size_of_log(self.server().dir());
        let at_ms = monotonic_ms();
        self.server().limit_files(Some(largest + LAST_BYTES));
        hold(lasts).await;
        if !self.server().is_running() {
            self.deaths.push(Death {
                at_ms,
                back_ms: u64::MAX,
                ..Death::default()
            });
            self.bring_redis_back(&[]).await;
            return;
        }
        self.server().limit_files(None);
        // It looks once a second whether it can write again.
        self.admin::<()>(&["SET", "chaos:written", "1"]).await;
    }

    async fn flush_functions(&self) {
        self.admin::<()>(&["FUNCTION", "FLUSH"]).await;
        self.admin::<()>(&["SCRIPT", "FLUSH"]).await;
    }

    /// A command of the operator's, to a Redis that is there, until it is answered: a busy machine may take its time.
    async fn admin<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        wait_for(BACK, || async { ask(self.store.find_master().await?, words).await }).await
    }
}

/// Bytes of all append-only files, and of the largest.
fn size_of_log(dir: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(dir.join("appendonlydir"))
        .into_iter()
        .flatten()
        .flatten();
    let sizes = files.filter_map(|file| file.metadata().ok()).map(|data| data.len());
    sizes.fold((0, 0), |(sum, largest), size| (sum + size, largest.max(size)))
}
