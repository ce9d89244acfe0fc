//! The consumers: processes with a network and a wall clock of their own, killed, frozen and started again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use workyard_shared::acl::Role;
use workyard_tests::{Daemon, Fault, FaultProxy, MovableClock, Signal, monotonic_ms};

use crate::args::Args;
use crate::mutant::Mutant;
use crate::store::Store;
use crate::world::hold;

/// Tasks that one consumer runs at once.
const CONCURRENCY: &str = "32";
/// How long a consumer may take to drain.
const DRAIN: Duration = Duration::from_secs(30);
/// What a consumer writes into its log when it begins.
const STARTED: &str = " starts";
/// What a consumer writes into its log when its session is over.
const LEASE_LOST: &str = "the session lease was lost";

/// The life of one process.
#[derive(Debug)]
pub(crate) struct Life {
    /// Its process id.
    pub(crate) pid: u32,
    /// When it was started, ms.
    pub(crate) born_ms: u64,
    /// When it was killed, or had ended; `None`: it lived to the end.
    pub(crate) died_ms: Option<u64>,
    /// It was told to end, and had the time to tell of all that it had done.
    pub(crate) was_told: bool,
    /// When it heard that it had lost a session lease, ms.
    pub(crate) lost_lease_ms: Vec<u64>,
}

/// The consumers of a run.
pub(crate) struct Fleet {
    program: PathBuf,
    mutant: Option<Mutant>,
    ledger: PathBuf,
    members: Vec<Member>,
    past: Vec<Life>,
}

struct Member {
    /// The address of Redis for it.
    url: String,
    /// Its network, if there is one Redis alone.
    proxy: Option<FaultProxy>,
    clock: MovableClock,
    daemon: Daemon,
    born_ms: u64,
}

impl Fleet {
    /// Starts the consumers of these servers.
    pub(crate) async fn start(args: &Args, store: &Store, dir: &Path) -> anyhow::Result<Self> {
        let runner = std::env::current_exe().context("where is this program?")?;
        let mut fleet = Self {
            program: runner.with_file_name("chaos-consumer"),
            mutant: args.mutant,
            ledger: dir.join("runs"),
            members: Vec::new(),
            past: Vec::new(),
        };
        for _ in 0..args.consumers {
            let proxy = match store {
                Store::Single(server) => Some(FaultProxy::before(server.port()).await?),
                Store::Sentinel(_) | Store::Cluster { .. } => None,
            };
            let clock = MovableClock::new();
            let url = store.role_url(Role::Consumer, proxy.as_ref());
            let daemon = fleet.spawn(&url, &clock);
            fleet.members.push(Member {
                url,
                proxy,
                clock,
                daemon,
                born_ms: monotonic_ms(),
            });
        }
        Ok(fleet)
    }

    fn spawn(&self, url: &str, clock: &MovableClock) -> Daemon {
        let mut command = Command::new(&self.program);
        command.arg(url).arg(&self.ledger).arg(CONCURRENCY);
        command.args(self.mutant.and_then(Mutant::of_consumers));
        clock.give(&mut command);
        Daemon::spawn(&mut command)
    }

    /// The file in which they write what they run.
    pub(crate) fn ledger(&self) -> &Path {
        &self.ledger
    }

    fn nth(&self, which: usize) -> &Member {
        &self.members[which % self.members.len()]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The process that has, or had, this place.
    pub(crate) fn pid(&self, member: usize) -> u32 {
        self.members[member].daemon.pid()
    }

    /// So many, one after another from `first` on.
    fn victims(&self, first: usize, count: usize) -> Vec<usize> {
        let all = self.members.len();
        (0..count.min(all)).map(|n| (first + n) % all).collect()
    }

    /// Kills so many; the killed, for [`Self::start_again`].
    pub(crate) fn kill(&mut self, first: usize, count: usize) -> Vec<usize> {
        let victims = self.victims(first, count);
        for victim in &victims {
            self.members[*victim].daemon.kill9();
            let life = self.members[*victim].life(Some(monotonic_ms()));
            self.past.push(life);
        }
        victims
    }

    /// Tells so many to end and waits until they have; those, for [`Self::start_again`], and what was wrong with their ends.
    pub(crate) async fn end(&mut self, first: usize, count: usize) -> (Vec<usize>, Vec<String>) {
        let (victims, mut wrong) = (self.victims(first, count), Vec::new());
        for victim in &victims {
            self.members[*victim].daemon.signal(Signal::TERM);
        }
        for victim in &victims {
            let member = &self.members[*victim];
            let status = member.daemon.wait_exit(DRAIN).await;
            // One that had only just been started does not hear it yet, and holds nothing.
            if !status.success() && member.daemon.log().contains(STARTED) {
                wrong.push(format!(
                    "a consumer that was told to end did with {status}:\n{}",
                    member.daemon.log()
                ));
            }
            let life = Life {
                was_told: true,
                ..member.life(Some(monotonic_ms()))
            };
            self.past.push(life);
        }
        (victims, wrong)
    }

    /// Starts others in the places of those that are gone.
    pub(crate) fn start_again(&mut self, victims: Vec<usize>) {
        for victim in victims {
            let member = &self.members[victim];
            let daemon = self.spawn(&member.url, &member.clock);
            self.members[victim].daemon = daemon;
            self.members[victim].born_ms = monotonic_ms();
        }
    }

    /// Freezes one, or lets it go on.
    pub(crate) fn signal(&self, which: usize, signal: Signal) {
        self.nth(which).daemon.signal(signal);
    }

    /// Sets the wall clock of one wrong for a while.
    pub(crate) async fn move_clock(&self, which: usize, seconds: i64, lasts: Duration) {
        self.nth(which).clock.set(seconds);
        hold(lasts).await;
        self.nth(which).clock.set(0);
    }

    /// The networks of all, or of one.
    pub(crate) fn networks(&self, which: Option<usize>) -> Vec<&FaultProxy> {
        match which {
            Some(which) => self.nth(which).proxy.iter().collect(),
            None => self.members.iter().filter_map(|member| member.proxy.as_ref()).collect(),
        }
    }

    /// Lets all drain and end; the lives of all that ever were, and what went wrong at the end.
    pub(crate) async fn stop(self) -> (Vec<Life>, Vec<String>) {
        let (mut lives, mut wrong) = (self.past, Vec::new());
        for member in &self.members {
            member.proxy.iter().for_each(|proxy| proxy.set(Fault::None));
            member.daemon.signal(Signal::TERM);
        }
        for member in self.members {
            let status = member.daemon.wait_exit(DRAIN).await;
            // Behind its end: all that it had to say of its lease.
            lives.push(member.life(None));
            if !status.success() {
                wrong.push(format!("a consumer ended with {status}:\n{}", member.daemon.log()));
            }
        }
        (lives, wrong)
    }
}

impl Member {
    fn life(&self, died_ms: Option<u64>) -> Life {
        Life {
            pid: self.daemon.pid(),
            born_ms: self.born_ms,
            died_ms,
            was_told: false,
            lost_lease_ms: losses(&self.daemon.stderr()),
        }
    }
}

/// When a log says that the lease was lost: each line begins with ms of the monotonic clock.
fn losses(log: &str) -> Vec<u64> {
    let lines = log.lines().filter(|line| line.contains(LEASE_LOST));
    lines
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect()
}
