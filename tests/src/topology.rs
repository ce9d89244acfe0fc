//! Redis Clusters and servers behind Sentinel, made of [`TestServer`]s.
//!
//! `WORKYARD_TEST_TOPOLOGY` (`cluster`, `sentinel`) makes every [`TestServer::start`] the one node of such a set that has
//! the queue `q`, so that tests which know nothing of it run on both; what fails over and moves is made here by name.

#![expect(clippy::expect_used, reason = "its only callers are tests")]

use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use workyard_shared::acl::Role;

use crate::entry::Entry;
use crate::roles::{ADMIN, PASSWORD};
use crate::server::{Part, TestServer};
use crate::wait_until;

/// Environment variable with the topology that all tests run on.
pub const TOPOLOGY_VARIABLE: &str = "WORKYARD_TEST_TOPOLOGY";
/// Name of the master that the sentinels of a test watch.
pub const MASTER: &str = "yard";

/// Slots of a cluster.
const SLOTS: u32 = 16384;
/// How long one key may take to move, ms.
const MIGRATE_MS: u32 = 30_000;
/// Longest wait for a set to be formed.
const FORMED: Duration = Duration::from_secs(60);

/// What surrounds a server.
#[derive(Debug)]
pub(crate) enum Company {
    /// Nothing.
    None,
    /// The other masters of its cluster, without replicas.
    Cluster(Vec<TestServer>),
    /// The sentinel that watches it, slow enough never to fail over.
    Sentinel(Box<TestServer>),
}

impl Company {
    /// As the environment says, for a server that was just started with these arguments.
    pub(crate) async fn gather(server: &TestServer, args: &[&str]) -> Self {
        match Topology::from_env() {
            Topology::Single => Self::None,
            Topology::Cluster => {
                let others = [(); 2].map(|()| TestServer::start_as(Part::Node, args));
                let others: Vec<TestServer> = futures_util::future::join_all(others).await;
                let all: Vec<&TestServer> = std::iter::once(server).chain(&others).collect();
                form(&all, home(server, "{q}").await).await;
                Self::Cluster(others)
            }
            Topology::Sentinel => Self::Sentinel(Box::new(watch(server, Duration::from_secs(3600)).await)),
        }
    }

    /// The address of all of them for this user; `None` if it is alone.
    pub(crate) fn url(&self, server: &TestServer, user: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Cluster(others) => Some(cluster_url(server.entry(), user, std::iter::once(server).chain(others))),
            Self::Sentinel(sentinel) => Some(sentinel_url(server.entry(), user, &[sentinel])),
        }
    }
}

/// The topologies that tests can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    Single,
    Cluster,
    Sentinel,
}

impl Topology {
    pub(crate) fn from_env() -> Self {
        match std::env::var(TOPOLOGY_VARIABLE).unwrap_or_default().as_str() {
            "" => Self::Single,
            "cluster" => Self::Cluster,
            "sentinel" => Self::Sentinel,
            other => panic!("{TOPOLOGY_VARIABLE} is \"{other}\": it must be cluster, sentinel, or empty"),
        }
    }

    /// What the first server of a set is started as.
    pub(crate) fn part(self) -> Part {
        match self {
            Self::Single | Self::Sentinel => Part::Alone,
            Self::Cluster => Part::Node,
        }
    }
}

/// A cluster of three masters, and replicas.
#[derive(Debug)]
pub struct TestCluster {
    /// Those who are masters at the start; the slots of the queue `q` are the first one's.
    pub masters: Vec<TestServer>,
    /// Replicas of the first master, behind them those of others that were added.
    pub replicas: Vec<TestServer>,
}

impl TestCluster {
    /// Starts three masters and so many replicas of the one that has the queue `q`.
    pub async fn start(replicas: usize, args: &[&str]) -> Self {
        let all = (0..3 + replicas).map(|_| TestServer::start_as(Part::Node, args));
        let mut masters: Vec<TestServer> = futures_util::future::join_all(all).await;
        let replicas = masters.split_off(3);
        let all: Vec<&TestServer> = masters.iter().collect();
        form(&all, home(&masters[0], "{q}").await).await;
        for replica in &replicas {
            follow(&masters[0], replica).await;
        }
        Self { masters, replicas }
    }

    /// Starts another replica, of the master with this number.
    pub async fn add_replica(&mut self, of: usize, args: &[&str]) {
        let replica = TestServer::start_as(Part::Node, args).await;
        follow(&self.masters[of], &replica).await;
        self.replicas.push(replica);
    }

    /// The address for the test itself, who may do anything.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(ADMIN)
    }

    /// The address for who has this role.
    #[must_use]
    pub fn role_url(&self, role: Role) -> String {
        self.url_of(role.name())
    }

    fn url_of(&self, user: &str) -> String {
        cluster_url(self.masters[0].entry(), user, &self.masters)
    }

    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        slot_of(&self.masters[0], key).await
    }

    /// Gives a slot, with its keys, from one master to another, key by key as `redis-cli --cluster reshard` does;
    /// `between` runs while half of that is done.
    pub async fn move_slot<F: Future<Output = ()>>(
        &self,
        slot: u16,
        from: usize,
        to: usize,
        between: impl FnOnce() -> F,
    ) {
        move_slot(slot, &self.masters[from], &self.masters[to], between).await;
    }

    /// The first step of moving a slot: both nodes know that it is on its way.
    pub async fn begin_to_move(&self, slot: u16, from: usize, to: usize) {
        begin_to_move(slot, &self.masters[from], &self.masters[to]).await;
    }

    /// Takes that step back.
    pub async fn stay(&self, slot: u16, from: usize, to: usize) {
        for node in [from, to] {
            let mut cmd = redis::cmd("CLUSTER");
            cmd.arg("SETSLOT").arg(slot).arg("STABLE");
            done(&cmd, &mut self.masters[node].connection().await).await;
        }
    }
}

/// As [`TestCluster::move_slot`], between nodes that are masters now. Both stand still while a large hash moves: the more
/// there is in the queue, the longer.
pub async fn move_slot<F: Future<Output = ()>>(
    slot: u16,
    source: &TestServer,
    target: &TestServer,
    between: impl FnOnce() -> F,
) {
    begin_to_move(slot, source, target).await;
    let mut old = source.connection().await;
    let mut between = Some(between);
    loop {
        let mut look = redis::cmd("CLUSTER");
        look.arg("GETKEYSINSLOT").arg(slot).arg(2);
        let keys: Vec<String> = look.query_async(&mut old).await.expect("keys of the slot");
        if keys.is_empty() {
            break;
        }
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(target.port()).arg("").arg(0);
        migrate.arg(MIGRATE_MS);
        if target.entry().is_guarded() {
            migrate.arg("AUTH2").arg(ADMIN).arg(PASSWORD);
        }
        migrate.arg("KEYS").arg(&keys);
        done(&migrate, &mut old).await;
        if let Some(between) = between.take() {
            between().await;
        }
    }
    set_slot(slot, target, "NODE", target).await;
    set_slot(slot, source, "NODE", target).await;
}

async fn begin_to_move(slot: u16, source: &TestServer, target: &TestServer) {
    set_slot(slot, target, "IMPORTING", source).await;
    set_slot(slot, source, "MIGRATING", target).await;
}

async fn set_slot(slot: u16, on: &TestServer, state: &str, about: &TestServer) {
    let id = id(&mut about.connection().await).await;
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SETSLOT").arg(slot).arg(state).arg(id);
    done(&cmd, &mut on.connection().await).await;
}

/// A master, its replicas, and a sentinel that fails over within seconds.
#[derive(Debug)]
pub struct TestSentinel {
    /// The master at the start.
    pub master: TestServer,
    /// Its replicas.
    pub replicas: Vec<TestServer>,
    /// Who watches them.
    pub sentinel: TestServer,
}

impl TestSentinel {
    /// Starts the three; the sentinel takes a master for dead after a second.
    pub async fn start(args: &[&str]) -> Self {
        Self::start_patient(args, 1, Duration::from_secs(1)).await
    }

    /// As [`Self::start`], with so many replicas; the sentinel takes a master for dead after `patience`.
    pub async fn start_patient(args: &[&str], replicas: usize, patience: Duration) -> Self {
        let all = (0..=replicas).map(|_| TestServer::start_as(Part::Alone, args));
        let mut replicas: Vec<TestServer> = futures_util::future::join_all(all).await;
        let master = replicas.remove(0);
        for replica in &replicas {
            let mut redis = replica.connection().await;
            let mut follow = redis::cmd("REPLICAOF");
            follow.arg("127.0.0.1").arg(master.port());
            done(&follow, &mut redis).await;
            in_step(replica).await;
        }
        let sentinel = watch(&master, patience).await;
        let set = Self {
            master,
            replicas,
            sentinel,
        };
        // It learns of replicas from the master, every ten seconds, or when it sees the master for the first time.
        wait_until(FORMED, || async {
            let mut redis = set.sentinel.connection().await;
            let mut cmd = redis::cmd("SENTINEL");
            cmd.arg("REPLICAS").arg(MASTER);
            let found: Vec<Value> = cmd.query_async(&mut redis).await.unwrap_or_default();
            found.len() == set.replicas.len()
        })
        .await;
        set
    }

    /// The address for the test itself, who may do anything.
    #[must_use]
    pub fn url(&self) -> String {
        sentinel_url(self.master.entry(), ADMIN, &[&self.sentinel])
    }

    /// The address for who has this role.
    #[must_use]
    pub fn role_url(&self, role: Role) -> String {
        sentinel_url(self.master.entry(), role.name(), &[&self.sentinel])
    }

    /// Another sentinel, which knows the first master and nothing of what came since, for a second or two.
    pub async fn latecomer(&self) -> TestServer {
        watch(&self.master, Duration::from_secs(30)).await
    }

    /// As [`Self::role_url`], of this sentinel and then the other.
    #[must_use]
    pub fn role_url_of(&self, role: Role, first: &TestServer) -> String {
        sentinel_url(self.master.entry(), role.name(), &[first, &self.sentinel])
    }
}

/// Starts a sentinel for `master` that takes it for dead after `patience`.
async fn watch(master: &TestServer, patience: Duration) -> TestServer {
    let ms = patience.as_millis();
    let mut settings = format!(
        "sentinel monitor {MASTER} 127.0.0.1 {} 1\nsentinel down-after-milliseconds {MASTER} {ms}\n\
         sentinel failover-timeout {MASTER} 10000\n",
        master.port()
    );
    if master.entry().is_guarded() {
        settings += &format!("sentinel auth-user {MASTER} {ADMIN}\nsentinel auth-pass {MASTER} {PASSWORD}\n");
    }
    TestServer::start_as(Part::Sentinel(settings), &[]).await
}

fn cluster_url<'a>(entry: &Entry, user: &str, nodes: impl IntoIterator<Item = &'a TestServer>) -> String {
    let nodes: Vec<String> = nodes
        .into_iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    format!("{}-cluster://{}{}", entry.scheme(), entry.login(user), nodes.join(","))
}

fn sentinel_url(entry: &Entry, user: &str, sentinels: &[&TestServer]) -> String {
    let (scheme, login) = (entry.scheme(), entry.login(user));
    let places: Vec<String> = sentinels
        .iter()
        .map(|sentinel| format!("127.0.0.1:{}", sentinel.port()))
        .collect();
    format!("{scheme}-sentinel://{login}{}/{MASTER}", places.join(","))
}

/// Which third of the slots has this key.
async fn home(server: &TestServer, key: &str) -> u32 {
    u32::from(slot_of(server, key).await) * 3 / SLOTS
}

async fn slot_of(server: &TestServer, key: &str) -> u16 {
    let mut redis = server.connection().await;
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("KEYSLOT").arg(key);
    cmd.query_async(&mut redis).await.expect("a slot")
}

/// Makes a cluster of three masters; the first gets the third `home` of the slots.
async fn form(masters: &[&TestServer], home: u32) {
    let first = masters[0];
    for (at, master) in (0..).zip(masters) {
        let mut redis = master.connection().await;
        let mut epoch = redis::cmd("CLUSTER");
        epoch.arg("SET-CONFIG-EPOCH").arg(at + 1);
        done(&epoch, &mut redis).await;
        let third = (home + at) % 3;
        let mut slots = redis::cmd("CLUSTER");
        // Rounded up: the inverse of what `home` does.
        let edge = |third: u32| (third * SLOTS).div_ceil(3);
        slots.arg("ADDSLOTSRANGE").arg(edge(third)).arg(edge(third + 1) - 1);
        done(&slots, &mut redis).await;
        if at > 0 {
            meet(first, &mut redis).await;
        }
    }
    for master in masters {
        settled(master).await;
    }
}

async fn meet(known: &TestServer, redis: &mut MultiplexedConnection) {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("MEET").arg("127.0.0.1").arg(known.port()).arg(known.bus_port());
    done(&cmd, redis).await;
}

/// Makes `replica` a replica of `master`, and waits until it has its data.
async fn follow(master: &TestServer, replica: &TestServer) {
    let mut redis = replica.connection().await;
    meet(master, &mut redis).await;
    let id = id(&mut master.connection().await).await;
    wait_until(FORMED, || async {
        let mut redis = redis.clone();
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("REPLICATE").arg(&id);
        cmd.exec_async(&mut redis).await.is_ok()
    })
    .await;
    in_step(replica).await;
    settled(replica).await;
}

/// Waits until a replica has its master's data.
async fn in_step(replica: &TestServer) {
    wait_until(FORMED, || async {
        info(replica, "replication").await.contains("master_link_status:up")
    })
    .await;
}

/// Waits until a node serves, and knows who has each slot.
async fn settled(node: &TestServer) {
    wait_until(FORMED, || async {
        let mut redis = node.connection().await;
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("INFO");
        let text: String = cmd.query_async(&mut redis).await.unwrap_or_default();
        text.contains("cluster_state:ok") && text.contains("cluster_slots_ok:16384")
    })
    .await;
}

/// One section of what a server says of itself; empty if it does not answer.
pub async fn info(server: &TestServer, section: &str) -> String {
    let ask = async {
        let mut redis = server.client().get_multiplexed_async_connection().await?;
        redis::cmd("INFO").arg(section).query_async(&mut redis).await
    };
    let answer: redis::RedisResult<String> = ask.await;
    answer.unwrap_or_default()
}

async fn id(redis: &mut MultiplexedConnection) -> String {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("MYID");
    cmd.query_async(redis).await.expect("the id of a node")
}

async fn done(cmd: &redis::Cmd, redis: &mut MultiplexedConnection) {
    let answer = cmd.query_async::<Value>(redis).await;
    let words: Vec<_> = cmd.get_packed_command();
    answer.unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(&words)));
}
