//! A cluster: each call goes to the master that has its slot, over one shared connection per master.
//!
//! Invariant: a call runs at most once. It is sent again only when a node answers that it did not run it, because the
//! slot is another's (MOVED, ASK); a lost reply is the caller's to judge, as with one server. Who has which slot is
//! asked at the first call and after trouble, not by the clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::{Cmd, ConnectionInfo, Pipeline, Value};

use super::address::Address;
use super::config::LinkConfig;
use super::freshness::{Freshness, Pushes, Turn, is_doubt, tell_of_change};
use super::node::Node;
use super::redirect::Redirect;
use super::slot;
use super::topology::Topology;
use crate::error::{Error, Outage};

/// Redirections that one call follows; more of them are nodes that do not agree yet.
const REDIRECTIONS: usize = 4;
/// How long a node may take to say who has which slots.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Nodes asked in a row.
const MOST_ASKED: usize = 4;

/// The masters of a cluster.
pub(super) struct Cluster {
    config: Arc<LinkConfig>,
    seeds: Vec<Address>,
    pushes: Pushes,
    nodes: Mutex<HashMap<Address, Node>>,
    topology: RwLock<Option<Arc<Topology>>>,
    freshness: Freshness,
    /// Whose call failed last: not whom to ask first.
    suspect: Mutex<Option<Address>>,
}

impl Cluster {
    pub(super) fn new(config: Arc<LinkConfig>, seeds: Vec<Address>, pushes: Pushes) -> Self {
        Self {
            config,
            seeds,
            pushes,
            nodes: Mutex::default(),
            topology: RwLock::default(),
            freshness: Freshness::default(),
            suspect: Mutex::default(),
        }
    }

    /// Sends one command to the master that has `slot`, or to any.
    pub(super) async fn call(&self, slot: Option<u16>, cmd: &Cmd) -> Result<Value, Error> {
        let mut at = self.master(slot).await?;
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let node = self.node(&at)?;
            let answer = if asking {
                node.call_asking(cmd).await
            } else {
                node.call(cmd).await
            };
            let error = match answer {
                Err(error) => error,
                answer => return answer,
            };
            match Redirect::of(&error, &at) {
                Some(Redirect::Moved(slot, to)) => {
                    self.learn(slot, to.clone());
                    (at, asking) = (to, false);
                }
                Some(Redirect::Ask(to)) => (at, asking) = (to, true),
                None => {
                    self.heed_from(&at, &error);
                    return Err(error);
                }
            }
        }
        Err(down("the nodes of the cluster do not agree on who has a slot"))
    }

    /// Sends several commands, in one round trip per master.
    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let masters = self.masters_of(pipeline).await?;
        let Some(first) = masters.first() else {
            return Ok(Vec::new());
        };
        // The usual case: the calls of one queue.
        let mut answers = if masters.iter().all(|master| master == first) {
            let answers = self.node(first)?.pipeline(pipeline).await;
            answers.inspect_err(|error| self.heed_from(first, error))?
        } else {
            self.scatter(pipeline, masters).await?
        };
        self.follow(pipeline, &mut answers).await;
        Ok(answers)
    }

    /// Sends to several masters at once. A connection that fails spoils only what went over it.
    async fn scatter(&self, pipeline: &Pipeline, masters: Vec<Address>) -> Result<Vec<Result<Value, Error>>, Error> {
        let sent = split(pipeline, masters).into_iter().map(|part| async {
            let answers = self.node(&part.master)?.pipeline(&part.pipeline).await;
            Ok::<_, Error>((part, answers))
        });
        let mut all = vec![Err(down("an answer is missing")); pipeline.len()];
        for (part, answers) in futures_util::future::try_join_all(sent).await? {
            match answers {
                Ok(answers) => {
                    for (at, answer) in part.places.into_iter().zip(answers) {
                        all[at] = answer;
                    }
                }
                Err(error) => {
                    self.heed_from(&part.master, &error);
                    for at in part.places {
                        all[at] = Err(error.clone());
                    }
                }
            }
        }
        Ok(all)
    }

    /// Sends what did not run, because its slot is another's, to where it belongs, in the old order.
    async fn follow(&self, pipeline: &Pipeline, answers: &mut [Result<Value, Error>]) {
        let nowhere = Address::named("", 0, "");
        let homeless = slot_of_all(pipeline);
        for (cmd, answer) in pipeline.cmd_iter().zip(answers) {
            let Err(error) = &*answer else { continue };
            if Redirect::of(error, &nowhere).is_some() {
                // The node that redirected is asked once more: it knows its own host, if the answer left that out.
                *answer = self.call(slot::of_command(cmd).or(homeless), cmd).await;
            } else {
                self.heed(error);
            }
        }
    }

    /// Where each command goes.
    async fn masters_of(&self, pipeline: &Pipeline) -> Result<Vec<Address>, Error> {
        let homeless = slot_of_all(pipeline);
        let mut masters: Vec<Address> = Vec::with_capacity(pipeline.len());
        for cmd in pipeline.cmd_iter() {
            let master = match (slot::of_command(cmd).or(homeless), masters.first()) {
                // Nothing in it has a key: one master is as good as another, but it must be one.
                (None, Some(first)) => first.clone(),
                (slot, _) => self.master(slot).await?,
            };
            masters.push(master);
        }
        Ok(masters)
    }

    /// How to reach the master that has `slot`.
    pub(super) async fn place(&self, slot: u16) -> Result<ConnectionInfo, Error> {
        Ok(self.master(Some(slot)).await?.like(self.config.info()))
    }

    /// All masters that have slots.
    pub(super) async fn masters(&self) -> Result<Vec<Node>, Error> {
        let topology = self.topology().await?;
        topology.masters().iter().map(|address| self.node(address)).collect()
    }

    /// Learns from an error that another server may be the right one.
    pub(super) fn heed(&self, error: &Error) {
        if is_doubt(error) {
            self.freshness.doubt();
        }
    }

    fn heed_from(&self, from: &Address, error: &Error) {
        if is_doubt(error) {
            *self.suspect.lock().unwrap_or_else(PoisonError::into_inner) = Some(from.clone());
            self.freshness.doubt();
        }
    }

    async fn master(&self, slot: Option<u16>) -> Result<Address, Error> {
        let topology = self.topology().await?;
        let found = match slot {
            Some(slot) => topology.owner(slot),
            None => fastrand::choice(topology.masters()),
        };
        found.cloned().ok_or_else(|| {
            self.freshness.doubt();
            down("no node of the cluster has the slot")
        })
    }

    fn node(&self, address: &Address) -> Result<Node, Error> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        let info = address.like(self.config.info());
        let node = Node::new(&info, &self.config, self.freshness.feed(self.pushes.clone()))?;
        nodes.insert(address.clone(), node.clone());
        Ok(node)
    }

    /// One slot has moved; others probably did too.
    fn learn(&self, slot: u16, to: Address) {
        self.freshness.doubt();
        let mut topology = self.topology.write().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = topology.as_mut().filter(|known| known.owner(slot) != Some(&to)) else {
            return;
        };
        Arc::make_mut(known).learn(slot, to);
        drop(topology);
        tell_of_change(&self.pushes);
    }

    fn known(&self) -> Option<Arc<Topology>> {
        self.topology.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn topology(&self) -> Result<Arc<Topology>, Error> {
        let Some(known) = self.known() else {
            // The first callers need an answer, whoever of them asks.
            let turn = self.freshness.turn().await;
            return match self.known() {
                Some(known) => Ok(known),
                None => self.renew(turn).await,
            };
        };
        match self.freshness.turn_now() {
            // What is known may still do, and says best what is wrong when it does not.
            Some(turn) => Ok(self.renew(turn).await.unwrap_or(known)),
            None => Ok(known),
        }
    }

    /// Asks some node who has which slots.
    async fn renew(&self, mut turn: Turn<'_>) -> Result<Arc<Topology>, Error> {
        self.freshness.ask(&mut turn);
        let before = self.known();
        let mut failure = down("no node of the cluster is known");
        for address in self.candidates(before.as_deref()).into_iter().take(MOST_ASKED) {
            match self.ask(&address).await {
                Ok(topology) => return Ok(self.replace(before.as_deref(), topology)),
                Err(error) => failure = error,
            }
        }
        self.freshness.doubt();
        Err(failure)
    }

    /// Whom to ask: masters by chance, the one that may be the trouble last of them, then the seeds.
    fn candidates(&self, topology: Option<&Topology>) -> Vec<Address> {
        let mut masters = topology.map(|known| known.masters().to_vec()).unwrap_or_default();
        let suspect = self.suspect.lock().unwrap_or_else(PoisonError::into_inner).take();
        fastrand::shuffle(&mut masters);
        masters.sort_by_key(|master| Some(master) == suspect.as_ref());
        masters.truncate(MOST_ASKED - 1);
        let mut seeds = self.seeds.clone();
        fastrand::shuffle(&mut seeds);
        seeds.retain(|seed| !masters.contains(seed));
        masters.extend(seeds);
        masters
    }

    async fn ask(&self, address: &Address) -> Result<Topology, Error> {
        let node = self.node(address)?;
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let answer = tokio::time::timeout(ANSWER_TIME, node.send(&cmd)).await;
        match answer.unwrap_or_else(|_| Err(away(address))) {
            Ok(answer) => Topology::read(&answer, address),
            Err(Error::Protocol(text)) if text.contains("cluster support disabled") => Err(Error::Invalid(format!(
                "the Redis at {address} is no node of a cluster: use redis://{address}"
            ))),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, before: Option<&Topology>, topology: Topology) -> Arc<Topology> {
        let changed = before.is_some_and(|before| before.differs_from(&topology));
        let topology = Arc::new(topology);
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        // A node without slots, a seed for example, is connected to again if it must be asked.
        nodes.retain(|address, _| topology.masters().contains(address));
        drop(nodes);
        *self.topology.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&topology));
        if changed {
            tell_of_change(&self.pushes);
        }
        topology
    }
}

/// What of a pipeline goes to one master.
struct Part {
    master: Address,
    /// Where its commands stand in the whole.
    places: Vec<usize>,
    pipeline: Pipeline,
}

/// What goes to each master, in the old order.
fn split(pipeline: &Pipeline, masters: Vec<Address>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for ((at, cmd), master) in pipeline.cmd_iter().enumerate().zip(masters) {
        let known = parts.iter().position(|part| part.master == master);
        let place = known.unwrap_or_else(|| {
            parts.push(Part {
                master,
                places: Vec::new(),
                pipeline: Pipeline::new(),
            });
            parts.len() - 1
        });
        parts[place].places.push(at);
        parts[place].pipeline.add_command(cmd.clone());
    }
    parts
}

/// Where commands without a key go that stand beside some with one.
fn slot_of_all(pipeline: &Pipeline) -> Option<u16> {
    pipeline.cmd_iter().find_map(slot::of_command)
}

fn down(why: &str) -> Error {
    Error::Unavailable {
        outage: Outage::ClusterDown,
        detail: why.to_owned(),
    }
}

fn away(address: &Address) -> Error {
    Error::Unavailable {
        outage: Outage::Away,
        detail: format!("no answer from {address} in time"),
    }
}
