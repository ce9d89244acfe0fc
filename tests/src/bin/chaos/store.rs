//! The servers of a run, and which of them has the queue at present.
//!
//! What fails over and moves changes who that is, so it is asked of the servers each time.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use workyard_shared::acl::Role;
use workyard_tests::{FaultProxy, MASTER, TestCluster, TestSentinel, TestServer, wait_for};

use crate::mutant::Mutant;
use crate::profile::Profile;

/// Longest wait for servers to be what they should be: a failover takes seconds, that of a busy machine more of them.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// After how long a sentinel takes a master for dead: as docs/cluster.md recommends it.
const SENTINEL_PATIENCE: Duration = Duration::from_secs(5);
/// A key in the queue's slot that is none of the queue's.
const PROBE: &str = "{q}:chaos";

/// The servers of a run.
pub(crate) enum Store {
    /// One Redis.
    Single(TestServer),
    /// A master, its replicas and a sentinel.
    Sentinel(Box<TestSentinel>),
    /// Three masters, of which the first two have a replica and may have the queue.
    Cluster {
        nodes: TestCluster,
        /// That of the queue.
        slot: u16,
    },
}

impl Store {
    /// Starts what a profile is about.
    pub(crate) async fn start(profile: Profile, mutant: Option<Mutant>) -> Self {
        let args = profile.server_args();
        match profile {
            Profile::Always | Profile::Everysec => {
                let server = match mutant {
                    Some(_) => TestServer::start_guarded_recorded(args).await,
                    None => TestServer::start_recorded(args).await,
                };
                Self::Single(server)
            }
            Profile::Sentinel | Profile::Replicas => {
                let replicas = usize::from(profile.replicas());
                let set = TestSentinel::start_patient(args, replicas, SENTINEL_PATIENCE).await;
                Self::Sentinel(Box::new(set))
            }
            Profile::Cluster => {
                let mut nodes = TestCluster::start(1, args).await;
                nodes.add_replica(1, args).await;
                let slot = nodes.slot_of(PROBE).await;
                Self::Cluster { nodes, slot }
            }
        }
    }

    /// The address for who has this role, through a network if there is one.
    pub(crate) fn role_url(&self, role: Role, network: Option<&FaultProxy>) -> String {
        match (self, network) {
            (Self::Single(server), Some(proxy)) => server.role_url_through(role, proxy),
            (Self::Single(server), None) => server.role_url(role),
            (Self::Sentinel(set), _) => set.role_url(role),
            (Self::Cluster { nodes, .. }, _) => nodes.role_url(role),
        }
    }

    /// The address for the runner itself.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Sentinel(set) => set.url(),
            Self::Cluster { nodes, .. } => nodes.url(),
        }
    }

    /// All servers that keep data.
    pub(crate) fn servers(&self) -> Vec<&TestServer> {
        match self {
            Self::Single(server) => vec![server],
            Self::Sentinel(set) => std::iter::once(&set.master).chain(&set.replicas).collect(),
            Self::Cluster { nodes, .. } => nodes.masters.iter().chain(&nodes.replicas).collect(),
        }
    }

    /// The one that has the queue, if there is just one at the moment that says so.
    pub(crate) async fn find_master(&self) -> Option<&TestServer> {
        match self {
            Self::Single(server) => Some(server),
            Self::Sentinel(set) => {
                let named = sentinel_says(&set.sentinel).await?;
                let master = self.servers().into_iter().find(|server| server.port() == named)?;
                (role(master).await? == "master").then_some(master)
            }
            Self::Cluster { slot, .. } => {
                let mut owners = Vec::new();
                for server in self.servers() {
                    let node = node_of(server).await;
                    owners.extend(node.filter(|node| node.has(*slot)).map(|node| (node.epoch, server)));
                }
                owners
                    .into_iter()
                    .max_by_key(|(epoch, _)| *epoch)
                    .map(|(_, server)| server)
            }
        }
    }

    /// The one that has the queue.
    pub(crate) async fn master(&self) -> &TestServer {
        wait_for(LONG, || self.find_master()).await
    }

    /// A replica of this master.
    pub(crate) async fn replica_of(&self, master: &TestServer) -> &TestServer {
        wait_for(LONG, || async { self.replicas_of(master).await.into_iter().next() }).await
    }

    /// Those that are replicas of this master at the moment.
    async fn replicas_of(&self, master: &TestServer) -> Vec<&TestServer> {
        let (of, mut replicas) = (node_of(master).await, Vec::new());
        for server in self.servers() {
            let follows = match &of {
                Some(master) => node_of(server).await.is_some_and(|node| node.follows(&master.id)),
                None => server.port() != master.port(),
            };
            if follows && role(server).await.as_deref() == Some("slave") {
                replicas.push(server);
            }
        }
        replicas
    }

    /// Waits until the queue's master has its replicas, each of them in step.
    pub(crate) async fn is_whole(&self) {
        let wanted = match self {
            Self::Single(_) => 0,
            Self::Sentinel(set) => set.replicas.len(),
            Self::Cluster { .. } => 1,
        };
        wait_for(LONG, || async {
            let replicas = self.replicas_of(self.find_master().await?).await;
            if replicas.len() < wanted {
                return None;
            }
            for replica in replicas {
                is_in_step(replica).await;
            }
            Some(())
        })
        .await;
    }

    /// The master that has a replica, and has not the queue.
    pub(crate) async fn other_home(&self, home: &TestServer) -> &TestServer {
        wait_for(LONG, || async {
            let mut nodes = Vec::new();
            for server in self.servers() {
                nodes.extend(node_of(server).await.map(|node| (node, server)));
            }
            let followed = |id: &str| nodes.iter().any(|(node, _)| node.follows(id));
            let mut others = nodes
                .iter()
                .filter(|(node, server)| followed(&node.id) && server.port() != home.port());
            others.next().map(|(_, server)| *server)
        })
        .await
    }

    /// Waits until this one has the queue, and takes writes.
    pub(crate) async fn serves(&self, server: &TestServer) {
        wait_for(LONG, || async {
            (self.serving().await?.port() == server.port()).then_some(())
        })
        .await;
    }

    /// Waits until another one than `former` has the queue, and takes writes.
    pub(crate) async fn is_taken_over(&self, former: &TestServer) {
        wait_for(LONG, || async {
            (self.serving().await?.port() != former.port()).then_some(())
        })
        .await;
    }

    /// The one that has the queue, if it takes writes.
    async fn serving(&self) -> Option<&TestServer> {
        let master = self.find_master().await?;
        ask::<()>(master, &["SET", PROBE, "1"]).await?;
        Some(master)
    }
}

/// Waits until a server is a replica that has what its master has.
pub(crate) async fn is_in_step(server: &TestServer) {
    wait_for(LONG, || async {
        let text: String = ask(server, &["INFO", "replication"]).await?;
        (text.contains("role:slave") && text.contains("master_link_status:up")).then_some(())
    })
    .await;
}

/// A command to one server; `None` if it is not answered, or refused.
pub(crate) async fn ask<T: redis::FromRedisValue>(server: &TestServer, words: &[&str]) -> Option<T> {
    let mut redis = connection(server).await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut redis).await.ok()
}

/// A connection to a server that may be away.
async fn connection(server: &TestServer) -> Option<MultiplexedConnection> {
    server.client().get_multiplexed_async_connection().await.ok()
}

/// `master` or `slave`.
pub(crate) async fn role(server: &TestServer) -> Option<String> {
    let words: Vec<redis::Value> = ask(server, &["ROLE"]).await?;
    redis::from_redis_value(words.into_iter().next()?).ok()
}

async fn sentinel_says(sentinel: &TestServer) -> Option<u16> {
    let (_, port): (String, u16) = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await?;
    Some(port)
}

/// What a node of a cluster says of itself.
#[derive(Debug)]
struct Node {
    id: String,
    /// Whose replica it is, `-` if it is none.
    master: String,
    epoch: u64,
    slots: Vec<(u16, u16)>,
}

impl Node {
    /// A line of `CLUSTER NODES`.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, _, _, master, _, _, epoch, _, slots @ ..] = &words[..] else {
            return None;
        };
        let range = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            // One that is on its way is in brackets, and listed beside.
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Some(Self {
            id: (*id).to_owned(),
            master: (*master).to_owned(),
            epoch: epoch.parse().ok()?,
            slots: slots.iter().filter_map(range).collect(),
        })
    }

    fn has(&self, slot: u16) -> bool {
        self.master == "-" && self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }

    fn follows(&self, id: &str) -> bool {
        self.master == id
    }
}

/// `None`: it is away, or no node of a cluster.
async fn node_of(server: &TestServer) -> Option<Node> {
    let text: String = ask(server, &["CLUSTER", "NODES"]).await?;
    Node::parse(text.lines().find(|line| line.contains("myself"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_which_slots_it_has_and_whom_it_follows() {
        let master = Node::parse("aa 127.0.0.1:1@2 myself,master - 0 0 7 connected 0-99 500 [93-<-bb]").unwrap();
        assert!(master.has(0) && master.has(99) && master.has(500) && !master.has(100));
        assert_eq!(master.epoch, 7);
        let replica = Node::parse("cc 127.0.0.1:3@4 myself,slave aa 0 0 7 connected").unwrap();
        assert!(replica.follows("aa") && !replica.has(0));
    }
}
