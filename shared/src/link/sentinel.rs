//! One server that Sentinel watches: calls go to whichever is the master now.
//!
//! Invariant: who is the master is asked of the sentinels, not assumed: at the first call, after trouble, when a
//! connection has ended, and when a sentinel tells of a change, because a former master answers for a while as if nothing had
//! happened. A call is sent once.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use redis::{Cmd, ConnectionInfo, Pipeline, Value};
use tokio_util::sync::DropGuard;

use super::Answer;
use super::address::Address;
use super::config::{LinkConfig, client};
use super::freshness::{Freshness, Pushes, Turn, is_doubt, tell_of_change};
use super::node::Node;
use super::switches;
use crate::error::{Error, Outage};

/// How long a sentinel may take to answer, connecting included.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// The master of a set.
pub(super) struct Sentinel {
    config: Arc<LinkConfig>,
    sentinels: Vec<ConnectionInfo>,
    name: String,
    pushes: Pushes,
    current: RwLock<Option<(Address, Node)>>,
    freshness: Freshness,
    /// Held, never read: dropping it ends the listening.
    switches: OnceLock<DropGuard>,
}

/// What a sentinel says of the master.
struct Says {
    epoch: u64,
    address: Address,
}

impl Sentinel {
    pub(super) fn new(config: Arc<LinkConfig>, sentinels: Vec<ConnectionInfo>, name: String, pushes: Pushes) -> Self {
        Self {
            config,
            sentinels,
            name,
            pushes,
            current: RwLock::default(),
            freshness: Freshness::default(),
            switches: OnceLock::new(),
        }
    }

    pub(super) async fn call(&self, cmd: &Cmd) -> Result<Value, Error> {
        let answer = self.master().await?.1.call(cmd).await;
        answer.inspect_err(|error| self.heed(error))
    }

    pub(super) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Result<Value, Error>>, Error> {
        let answers = self.master().await?.1.pipeline(pipeline).await;
        let answers = answers.inspect_err(|error| self.heed(error))?;
        answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .for_each(|error| self.heed(error));
        Ok(answers)
    }

    /// How to reach the master.
    pub(super) async fn place(&self) -> Result<ConnectionInfo, Error> {
        Ok(self.master().await?.0.like(self.config.info()))
    }

    /// The master.
    pub(super) async fn node(&self) -> Result<Node, Error> {
        Ok(self.master().await?.1)
    }

    /// Learns from an error that another server may be the master.
    pub(super) fn heed(&self, error: &Error) {
        if is_doubt(error) {
            self.freshness.doubt();
        }
    }

    fn known(&self) -> Option<(Address, Node)> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn master(&self) -> Result<(Address, Node), Error> {
        let Some(known) = self.known() else {
            let turn = self.freshness.turn().await;
            return match self.known() {
                Some(known) => Ok(known),
                None => self.renew(turn).await,
            };
        };
        match self.freshness.turn_now() {
            Some(turn) => self.renew(turn).await,
            // Somebody asks, or has just asked, whether it still is.
            None => Ok(known),
        }
    }

    async fn renew(&self, mut turn: Turn<'_>) -> Result<(Address, Node), Error> {
        self.freshness.ask(&mut turn);
        // Here, where a runtime is known to be.
        self.switches.get_or_init(|| {
            let feed = self.freshness.feed(self.pushes.clone());
            switches::watch(&self.sentinels, &self.name, &feed)
        });
        let found = self.find().await;
        found.inspect_err(|_| self.freshness.doubt())
    }

    async fn find(&self) -> Result<(Address, Node), Error> {
        let known = self.known();
        let address = match (self.ask_all().await, &known) {
            (Err(error), Some(known)) if error.is_temporary() => {
                // Without sentinels there is no failover either: the last master is the best guess.
                self.freshness.doubt();
                return Ok(known.clone());
            }
            (answer, _) => answer?,
        };
        if let Some(known) = &known
            && known.0 == address
        {
            return Ok(known.clone());
        }
        let info = address.like(self.config.info());
        let node = Node::new(&info, &self.config, self.freshness.feed(self.pushes.clone()))?;
        takes_writes(&node).await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some((address.clone(), node.clone()));
        if known.is_some() {
            tell_of_change(&self.pushes);
        }
        Ok((address, node))
    }

    /// What the sentinel says that knows of the latest failover.
    async fn ask_all(&self) -> Result<Address, Error> {
        let answers = futures_util::future::join_all(self.sentinels.iter().map(|info| self.ask(info))).await;
        let mut failure = None;
        let mut latest: Option<Says> = None;
        for answer in answers {
            match answer {
                Ok(says) if latest.as_ref().is_none_or(|known| known.epoch < says.epoch) => latest = Some(says),
                Ok(_) => {}
                // One that knows another set only says more than one that is away.
                Err(error) if failure.is_none() || !error.is_temporary() => failure = Some(error),
                Err(_) => {}
            }
        }
        match (latest, failure) {
            (Some(says), _) => Ok(says.address),
            (None, failure) => Err(failure.unwrap_or_else(|| away("no sentinel is known"))),
        }
    }

    async fn ask(&self, info: &ConnectionInfo) -> Result<Says, Error> {
        let question = |of: &str| {
            let mut cmd = redis::cmd("SENTINEL");
            cmd.arg(of).arg(&self.name);
            cmd
        };
        let asked: Answer<'_, [Value; 2]> = Box::pin(async {
            let mut connection = client(info)?.get_multiplexed_async_connection().await?;
            Ok([
                question("MASTER").query_async(&mut connection).await?,
                question("GET-MASTER-ADDR-BY-NAME").query_async(&mut connection).await?,
            ])
        });
        let answer = tokio::time::timeout(ANSWER_TIME, asked).await;
        match answer.unwrap_or_else(|_| Err(away("no answer in time"))) {
            Ok(answer) => read(answer, info),
            Err(Error::Protocol(text)) if text.contains("No such master") => Err(Error::Invalid(format!(
                "the sentinel at {} watches no master \"{}\"",
                info.addr(),
                self.name
            ))),
            // Nothing of the caller's was sent: to it, this is no lost reply.
            Err(error) if error.is_temporary() => Err(away(&format!("sentinel {}: {error}", info.addr()))),
            Err(error) => Err(error),
        }
    }
}

/// Reads the answers to `SENTINEL MASTER` and `GET-MASTER-ADDR-BY-NAME`. Where they differ this one leads a failover, and the
/// latter is who it has promoted: a configuration that is newer than what it calls its latest.
fn read([of_master, address]: [Value; 2], info: &ConnectionInfo) -> Result<Says, Error> {
    let fields: std::collections::HashMap<String, String> = redis::from_redis_value(of_master)
        .map_err(|_| Error::Protocol("an answer to SENTINEL MASTER that is none".to_owned()))?;
    let (host, port): (String, u16) = redis::from_redis_value(address)
        .map_err(|_| Error::Protocol("SENTINEL GET-MASTER-ADDR-BY-NAME without an address".to_owned()))?;
    let own = Address::of(info.addr()).map(|own| own.host).unwrap_or_default();
    let field = |name: &str| fields.get(name);
    let epoch: u64 = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let promotes = field("port").is_some_and(|of_master| *of_master != port.to_string())
        || field("ip").is_some_and(|of_master| *of_master != host);
    Ok(Says {
        epoch: epoch + u64::from(promotes),
        address: Address::named(&host, port, &own),
    })
}

/// Asks a server that sentinels call the master whether it is one already, or still.
async fn takes_writes(node: &Node) -> Result<(), Error> {
    let role = match node.send(&redis::cmd("ROLE")).await {
        Ok(Value::Array(items)) => items.into_iter().next(),
        // A user who may not ask learns it from the first write.
        Err(Error::Denied(_)) => return Ok(()),
        other => Some(other?),
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(Error::Unavailable {
            outage: Outage::ReadOnly,
            detail: "the master that the sentinels name is none now: a failover is under way".to_owned(),
        }),
    }
}

fn away(why: &str) -> Error {
    Error::Unavailable {
        outage: Outage::Away,
        detail: why.to_owned(),
    }
}
