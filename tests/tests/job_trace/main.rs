//! The trace check of map-reduce jobs: random interleavings of submit, claim, settle, retries, deaths, backup copies, cancel,
//! retry and delete on the real functions, compared with a plain reference after every step.
//!
//! `WORKYARD_TRACE_SECONDS` is how long it looks (15 by default). What fails is shrunk to a short sequence of steps and
//! printed. Faults put into the functions on purpose have to be found. Not driven: input of more than one call, spilled
//! parts, budgets, retention; they have tests of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod model;
mod mutants;
mod op;
mod view;
mod world;

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use workyard_shared::broker::Broker;
use workyard_shared::functions;
use workyard_shared::link::{Link, LinkConfig};
use workyard_shared::name::Prefix;
use workyard_tests::{TestServer, queue_name};

use model::Counts;
use mutants::MUTANTS;
use op::{Op, ops};
use world::World;

const SIDE_BY_SIDE: usize = 16;
/// The machine may be busy with other tests: a late answer is no finding.
const PATIENCE: Duration = Duration::from_secs(60);
/// Within this each mutant is found; most in a second.
const MUTANT_LIMIT: Duration = Duration::from_secs(300);

struct Look {
    runtime: Runtime,
    broker: Broker,
    redis: MultiplexedConnection,
    cases: Cell<u32>,
    /// Ends with this.
    _server: TestServer,
}

impl Look {
    fn start(library: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(TestServer::start());
        let (redis, link) = runtime.block_on(async {
            let mut config = LinkConfig::from_url(&server.url()).unwrap();
            (config.response_timeout, config.connect_timeout) = (PATIENCE, PATIENCE);
            (server.connection().await, Link::new(config, None).unwrap())
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

    fn load(&self, library: &str) {
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(library);
        let mut redis = self.redis.clone();
        self.runtime.block_on(load.exec_async(&mut redis)).unwrap();
    }

    /// Does the steps one after another; what was counted, or the first difference.
    async fn follow(&self, ops: &[Op]) -> Result<Counts, String> {
        let n = self.cases.replace(self.cases.get() + 1);
        let queue = self.broker.queue(&queue_name(&format!("q{n}")));
        let mut world = World::new(queue, self.redis.clone()).await;
        for (n, op) in ops.iter().enumerate() {
            let step = world.step(op).await;
            step.map_err(|why| format!("step {n}, {op:?}: {why}"))?;
        }
        Ok(world.counts)
    }

    /// Looks for so long; what was counted, or the first difference, shrunk if that is wanted.
    fn until(&self, limit: Duration, shrink: bool) -> Result<Counts, String> {
        let (begun, strategy, mut counts, mut steps) = (Instant::now(), ops(), Counts::new(), 0);
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
                steps += ops.len();
                match outcome {
                    Ok(seen) => {
                        for (name, n) in seen {
                            *counts.entry(name).or_default() += n;
                        }
                    }
                    Err(why) if shrink => return Err(self.shrink(&mut runner, tree, &why)),
                    Err(why) => return Err(why),
                }
            }
        }
        println!("{} sequences, {steps} steps: {counts:?}", self.cases.get());
        Ok(counts)
    }

    /// The shortest sequence that still fails, a step a line.
    fn shrink(&self, runner: &mut TestRunner, tree: impl ValueTree<Value = Vec<Op>>, first: &str) -> String {
        let ops = tree.current();
        let again = runner.run_one(tree, |ops| {
            let followed = self.runtime.block_on(self.follow(&ops));
            followed.map(drop).map_err(TestCaseError::fail)
        });
        let (why, ops) = match again {
            Err(TestError::Fail(why, ops)) => (why.to_string(), ops),
            _ => (format!("only once: {first}"), ops),
        };
        let steps: String = ops.iter().map(|op| format!("\n  {op:?}")).collect();
        format!("{why}\nThe shortest sequence that was found:{steps}")
    }
}

#[test]
fn every_interleaving_leaves_the_job_as_the_reference_says() {
    let seconds = std::env::var("WORKYARD_TRACE_SECONDS").ok();
    let seconds = seconds.map_or(15, |text| text.parse().expect("WORKYARD_TRACE_SECONDS is a number"));
    let look = Look::start(&functions::library());
    let counts = look
        .until(Duration::from_secs(seconds), true)
        .unwrap_or_else(|why| panic!("{why}"));
    // What has to happen at least once: a check that never got there proves nothing.
    for counter in view::COUNTED {
        assert!(counts.contains_key(counter), "nothing was ever {counter}");
    }
}

#[test]
fn faults_put_into_the_functions_of_jobs_are_found() {
    let sound = functions::library();
    let look = Look::start(&sound);
    for (name, from, to) in MUTANTS {
        assert_eq!(sound.matches(from).count(), 1, "{name}: its text is not there once");
        look.load(&sound.replace(from, to));
        let begun = Instant::now();
        match look.until(MUTANT_LIMIT, false) {
            Err(why) => println!("{name}: {:?}: {why}", begun.elapsed()),
            Ok(counts) => panic!("{name} was not found: {counts:?}"),
        }
    }
}
