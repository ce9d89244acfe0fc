//! Looking for a difference: many random sequences side by side, each on a queue of its own.
//!
//! Side by side because a step is a few round trips: sixteen of them share one, on one connection and one thread.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use workyard_shared::broker::Broker;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::Prefix;
use workyard_tests::{TestServer, queue_name};

use super::op::{Op, ops};
use super::world::World;

const SIDE_BY_SIDE: usize = 16;
/// The machine may be busy with other tests: a late answer is no finding.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Look {
    pub runtime: Runtime,
    broker: Broker,
    redis: MultiplexedConnection,
    cases: Cell<u32>,
    /// Ends with this.
    _server: TestServer,
}

/// What was done while no difference was found.
#[derive(Debug, Default)]
pub struct Done {
    pub cases: usize,
    pub steps: usize,
    /// The counters of all queues, added up.
    pub reached: BTreeMap<String, u64>,
}

impl Done {
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.steps += other.steps;
        add(&mut self.reached, other.reached);
    }
}

/// A difference.
#[derive(Debug)]
pub struct Found {
    pub why: String,
    pub after: usize,
}

impl Look {
    /// Starts a server with this library of functions.
    pub fn start(library: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let server = runtime.block_on(TestServer::start());
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let (redis, link) = runtime.block_on(async {
            let client = server.client();
            let redis = client.get_multiplexed_async_connection_with_config(&patient).await;
            let mut config = LinkConfig::from_url(&server.url()).unwrap();
            (config.response_timeout, config.connect_timeout) = (PATIENCE, PATIENCE);
            // What is pushed is not looked at: that a session subscribes is what the functions see.
            let (pushes, _) = tokio::sync::mpsc::unbounded_channel();
            (redis.unwrap(), Link::new(config, Some(pushes)).unwrap())
        });
        let look = Self {
            runtime,
            broker: Broker::new(link, Prefix::default()),
            redis,
            cases: Cell::new(0),
            _server: server,
        };
        look.load(library);
        look
    }

    pub fn load(&self, library: &str) {
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(library);
        let mut redis = self.redis.clone();
        self.runtime.block_on(load.exec_async(&mut redis)).unwrap();
    }

    /// Does the steps one after another; the first difference, with where it was.
    async fn follow(&self, ops: &[Op]) -> Result<BTreeMap<String, u64>, String> {
        let n = self.cases.replace(self.cases.get() + 1);
        // Half of them in another partition.
        let queue = self.broker.partition(&queue_name(&format!("q{n}")), (n % 2) as u16);
        let mut world = World::new(queue, self.redis.clone()).await?;
        for (n, op) in ops.iter().enumerate() {
            let step = world.step(op).await;
            step.map_err(|why| format!("step {n}, {op:?}: {why}"))?;
        }
        Ok(world.reference.stats)
    }

    /// Looks for so long, or until there is a difference, which is shrunk if that is wanted.
    pub fn until(&self, limit: Duration, shrink: bool) -> Result<Done, Found> {
        let (begun, strategy, mut done) = (Instant::now(), ops(), Done::default());
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            max_shrink_iters: 2000,
            ..Config::default()
        });
        while begun.elapsed() < limit {
            let trees: Vec<_> = (0..SIDE_BY_SIDE)
                .map(|_| strategy.new_tree(&mut runner).unwrap())
                .collect();
            let all: Vec<_> = trees.iter().map(ValueTree::current).collect();
            let outcomes = self.runtime.block_on(join_all(all.iter().map(|ops| self.follow(ops))));
            for ((tree, ops), outcome) in trees.into_iter().zip(&all).zip(outcomes) {
                done.cases += 1;
                done.steps += ops.len();
                match outcome {
                    Ok(stats) => add(&mut done.reached, stats),
                    Err(why) => {
                        let why = if shrink {
                            self.shrink(&mut runner, tree, &why)
                        } else {
                            why
                        };
                        return Err(Found { why, after: done.cases });
                    }
                }
            }
        }
        Ok(done)
    }

    /// The shortest sequence that still fails, a step a line.
    fn shrink(&self, runner: &mut TestRunner, tree: impl ValueTree<Value = Vec<Op>>, first: &str) -> String {
        let ops = tree.current();
        let again = runner.run_one(tree, |ops| {
            let followed = self.runtime.block_on(self.follow(&ops));
            followed.map(drop).map_err(TestCaseError::fail)
        });
        let told = |why: &str, ops: &[Op]| {
            let steps: String = ops.iter().map(|op| format!("\n  {op:?}")).collect();
            format!("{why}\nThe shortest sequence that was found:{steps}")
        };
        match again {
            Err(TestError::Fail(why, ops)) => told(&why.to_string(), &ops),
            _ => told(&format!("only once: {first}"), &ops),
        }
    }
}

fn add(reached: &mut BTreeMap<String, u64>, stats: BTreeMap<String, u64>) {
    for (counter, n) in stats.into_iter().filter(|(counter, _)| !counter.contains(' ')) {
        *reached.entry(counter).or_default() += n;
    }
}
