//! Faults of servers that take each other's place: a master that dies, one that hands over, a slot that moves.
//!
//! Invariant: when one is over, the queue's master has its replicas again, in step. A loss is excused only by a master that
//! did not wait for its replica: one that was killed, and one that a sentinel replaced, which goes on answering until it is told. A
//! failover of a cluster that was asked for and a move of a slot excuse nothing.

use std::time::Duration;

use workyard_tests::{MASTER, TestServer, monotonic_ms, move_slot, wait_for, wait_until};

use crate::evidence::{Death, Event};
use crate::plan::{Kind, Step};
use crate::store::{LONG, Store, ask, is_in_step, role};
use crate::world::{World, hold, hold_until};

/// How long a failover that was asked for may take before it is asked for again.
const HAND_OVER: Duration = Duration::from_secs(10);

impl World {
    /// Kills the master, of which a replica was cut off for a moment; when one has its place it comes back, in a cluster as a
    /// replica, else as the master that it was until the sentinel sees it. Consumers may die with it; their successors start
    /// when nobody has the queue.
    pub(crate) async fn kill_master(&mut self, step: &Step) {
        let master = self.store.master().await;
        let replica = self.store.replica_of(master).await;
        // Frozen, it does not come again, and what the master answers for from now on goes with it.
        replica.sigstop();
        ask::<u64>(master, &["CLIENT", "KILL", "TYPE", "replica"]).await;
        hold(step.lag()).await;
        let began_ms = monotonic_ms();
        master.kill9();
        replica.sigcont();
        if step.kind == Kind::KillMasterAndConsumers {
            let victims = self.fleet.kill(step.which, step.victims());
            self.fleet.start_again(victims);
        }
        self.store.is_taken_over(master).await;
        let healed_ms = monotonic_ms();
        hold_until(began_ms, step.lasts).await;
        let returned_ms = monotonic_ms();
        master.restart().await;
        let sequel = Event::return_of_master(returned_ms);
        is_in_step(master).await;
        self.store.is_whole().await;
        self.deaths.push(Death {
            at_ms: began_ms,
            back_ms: healed_ms,
            ..Death::default()
        });
        self.events.push(Event::failover(step.name(), began_ms, healed_ms));
        self.events.push(sequel);
    }

    /// Stops the master's time until a replica has its place, and lets it go on: connections to it are open, and it answers as
    /// the master that it was, until a node of the cluster or the sentinel tells it.
    pub(crate) async fn freeze_master(&mut self, step: &Step) {
        let master = self.store.master().await;
        let began_ms = monotonic_ms();
        master.sigstop();
        self.store.is_taken_over(master).await;
        let healed_ms = monotonic_ms();
        hold_until(began_ms, step.lasts).await;
        let returned_ms = monotonic_ms();
        master.sigcont();
        wait_until(LONG, || async { role(master).await.as_deref() == Some("slave") }).await;
        // Until it knew, it may have answered.
        self.deaths.push(Death {
            at_ms: began_ms,
            back_ms: monotonic_ms(),
            ..Death::default()
        });
        let sequel = Event::return_of_master(returned_ms);
        is_in_step(master).await;
        self.store.is_whole().await;
        self.events.push(Event::failover(step.name(), began_ms, healed_ms));
        self.events.push(sequel);
    }

    /// Has a replica take the place of a master that lives.
    pub(crate) async fn fail_over(&mut self, step: &Step) {
        let began_ms = monotonic_ms();
        let master = self.store.master().await;
        match &self.store {
            Store::Sentinel(set) => {
                ask_to_fail_over(&set.sentinel).await;
                self.store.is_taken_over(master).await;
            }
            Store::Single(_) | Store::Cluster { .. } => self.hand_over(self.store.replica_of(master).await).await,
        }
        let healed_ms = monotonic_ms();
        wait_until(LONG, || async { role(master).await.as_deref() == Some("slave") }).await;
        if matches!(self.store, Store::Sentinel(_)) {
            self.deaths.push(Death {
                at_ms: began_ms,
                back_ms: monotonic_ms(),
                ..Death::default()
            });
        }
        is_in_step(master).await;
        self.store.is_whole().await;
        hold(step.lasts).await;
        self.events.push(Event::failover(step.name(), began_ms, healed_ms));
    }

    /// Asks a replica of a cluster to take over, until it has: master and replica first get in step, and may run out of time.
    async fn hand_over(&self, replica: &TestServer) {
        wait_for(LONG, || async {
            // Refused if it has just done so.
            ask::<()>(replica, &["CLUSTER", "FAILOVER"]).await;
            tokio::time::timeout(HAND_OVER, self.store.serves(replica)).await.ok()
        })
        .await;
    }

    /// Kills the replica of the queue's master, and starts it again.
    pub(crate) async fn kill_replica(&self, lasts: Duration) {
        let master = self.store.master().await;
        let replica = self.store.replica_of(master).await;
        replica.kill9();
        hold(lasts).await;
        let port = master.port().to_string();
        match &self.store {
            // As its file would say; the nodes of a cluster have one of their own.
            Store::Sentinel(_) => replica.restart_with(&["--replicaof", "127.0.0.1", &port]).await,
            Store::Single(_) | Store::Cluster { .. } => replica.restart().await,
        }
        is_in_step(replica).await;
    }

    /// Closes the connections of clients to every server.
    pub(crate) async fn cut_clients(&self) {
        for server in self.store.servers() {
            for sort in ["normal", "pubsub"] {
                // One that is just being loaded has none.
                ask::<u64>(server, &["CLIENT", "KILL", "TYPE", sort]).await;
            }
        }
    }

    /// Closes the connections of replicas to their masters, and waits until they are back when it is over.
    pub(crate) async fn cut_replication(&self, lasts: Duration) {
        self.again_and_again(lasts, async || {
            for server in self.store.servers() {
                ask::<u64>(server, &["CLIENT", "KILL", "TYPE", "replica"]).await;
            }
        })
        .await;
        self.store.is_whole().await;
    }

    /// Moves the queue's slot to the other master that has a replica; half of its keys are there for a while.
    pub(crate) async fn move_slot(&mut self, step: &Step) {
        let Store::Cluster { slot, .. } = &self.store else {
            return;
        };
        let began_ms = monotonic_ms();
        let source = self.store.master().await;
        let target = self.store.other_home(source).await;
        move_slot(*slot, source, target, || hold(step.lasts)).await;
        self.store.serves(target).await;
        self.events.push(Event::over(step.name(), began_ms));
        is_in_step(self.store.replica_of(target).await).await;
    }
}

/// Asks a sentinel to fail over, until it does: it may not have seen yet that the replica is well. Patiently, since one that answers
/// late has done it, and would do it again.
async fn ask_to_fail_over(sentinel: &TestServer) {
    wait_until(LONG, || async {
        let mut redis = sentinel.connection().await;
        let mut cmd = redis::cmd("SENTINEL");
        cmd.arg("FAILOVER").arg(MASTER);
        cmd.exec_async(&mut redis).await.is_ok()
    })
    .await;
}
