//! One queue and its reference, side by side: each step is done to both, and answers and state are compared.
//!
//! The clients' side of the protocol is here, too: batch numbers, the highest token received, what a consumer believes
//! to hold. Redis' clock cannot be moved; what takes time is written into the keys by hand (`hand.rs`).

use std::fmt::Debug;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use workyard_shared::broker::{Queue, Tries, Turn};
use workyard_shared::name::SessionId;

use super::op::{How, Op, Spec};
use super::reference::{Reference, Session};
use super::rules::Known;
use super::view;

pub const LEASE: Duration = Duration::from_secs(600);
const MAX_SESSIONS: usize = 24;
/// The newest ones are in play; of the others somebody may still hold tokens.
const IN_PLAY: usize = 5;

/// What a consumer remembers.
#[derive(Default)]
pub struct Client {
    pub above: u64,
    pub number: u64,
    /// All that it ever received, also what it holds no longer.
    pub known: Vec<Known>,
    pub sent: Vec<(u64, How, Vec<Known>)>,
}

/// What a producer remembers.
#[derive(Default)]
pub struct Caller {
    pub number: u64,
    pub last: Vec<(String, Spec)>,
    pub awaited: bool,
}

pub struct World {
    pub queue: Queue,
    pub redis: MultiplexedConnection,
    pub reference: Reference,
    pub names: Vec<SessionId>,
    pub clients: Vec<Client>,
    pub callers: [Caller; 2],
    /// Redis' clock at the last look.
    pub now_us: u64,
}

/// Fails the step if the two differ.
pub fn same<T: PartialEq + Debug>(what: &str, real: &T, expected: &T) -> Result<(), String> {
    if real == expected {
        return Ok(());
    }
    Err(format!("{what}: Redis says {real:?}, the reference {expected:?}"))
}

pub fn session(name: &str) -> SessionId {
    SessionId::new(name).expect("a session id")
}

pub fn session_name(n: usize) -> String {
    format!("c{n:02}") // sorts as they were made
}

/// What the consumer of a session says of suspects: of each sort there are some.
pub fn tries_of(n: usize) -> Tries {
    [Tries::Always, Tries::Never, Tries::Always, Tries::HoldsNothing][n % 4]
}

pub fn task_id(n: u8) -> String {
    format!("t{n}")
}

impl World {
    pub async fn new(queue: Queue, redis: MultiplexedConnection) -> Result<Self, String> {
        let mut world = Self {
            queue,
            redis,
            reference: Reference {
                silent: true, // no heartbeat was ever heard
                ..Reference::default()
            },
            names: Vec::new(),
            clients: Vec::new(),
            callers: Default::default(),
            now_us: 0,
        };
        for op in [Op::Join, Op::GraceOver] {
            world.step(&op).await?;
        }
        Ok(world)
    }

    /// Does one step and compares everything.
    pub async fn step(&mut self, op: &Op) -> Result<(), String> {
        self.apply(op).await?;
        let (view, moment) = view::read(&mut self.redis, &self.queue, &self.names).await;
        self.reference.learn(&moment, self.now_us)?;
        self.now_us = moment.now_us;
        same("state", &view, &self.reference.view())
    }

    pub fn pick(&self, n: u8) -> usize {
        self.names.len() - 1 - usize::from(n) % self.names.len().min(IN_PLAY)
    }

    async fn apply(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Enqueue {
                producer,
                awaited,
                tasks,
            } => self.enqueue(*producer, *awaited, tasks).await,
            Op::Resend { producer } => self.resend(*producer).await,
            Op::Outdated { producer } => self.outdated(*producer).await,
            Op::Claim { by, most, park, lost } => self.claim(self.pick(*by), *most, *park, *lost).await,
            Op::Settle { by, of, how, picks } => self.settle(self.pick(*by), self.pick(*of), *how, picks).await,
            Op::Resettle { by, back } => self.resettle(self.pick(*by), *back).await,
            Op::Progress { by, of, pick } => self.progress(self.pick(*by), self.pick(*of), *pick).await,
            Op::Try { by, of, pick, beside } => self.try_suspect(self.pick(*by), self.pick(*of), *pick, *beside).await,
            Op::Beat { by } => self.beat(self.pick(*by), false).await,
            Op::Join => self.join().await,
            Op::Dead => self.dead().await,
            Op::Reclaim { of } => self.reclaim(self.pick(*of)).await,
            Op::Leave { by } => self.leave(self.pick(*by)).await,
            Op::Unpark { by } => {
                let by = self.pick(*by);
                self.reference.unpark(by);
                self.queue.unpark(&self.names[by]).await.map_err(|e| e.to_string())
            }
            Op::Promote { most } => self.promote(*most).await,
            Op::Sweep => self.sweep().await,
            Op::Cancel { id } => self.cancel(&task_id(*id)).await,
            Op::Requeue { ids } => self.requeue(ids).await,
            Op::Delete { ids } => self.delete(ids).await,
            Op::Purge { place } => self.purge(*place).await,
            Op::Pause { on } => {
                self.reference.paused = *on;
                self.reference.wake_unless_paused(8);
                self.queue.set_paused(*on).await.map_err(|e| e.to_string())
            }
            Op::Wait { id } => self.wait(&task_id(*id)).await,
            Op::Die { of, tries, beside } => {
                let of = self.pick(*of);
                if *tries {
                    self.try_the_most_suspect(of, false).await?;
                }
                if *beside {
                    self.try_the_most_suspect(of, true).await?;
                }
                self.grace_over().await?;
                self.end_lease(of).await?;
                self.reclaim(of).await?;
                self.join().await
            }
            Op::EndLease { of } => self.end_lease(self.pick(*of)).await,
            Op::Silence => self.silence().await,
            Op::GraceOver => self.grace_over().await,
            Op::AllDue => self.all_due().await,
            Op::Expire { id } => self.expire(&task_id(*id)).await,
            Op::ResultsOld => self.results_old().await,
        }
    }

    async fn join(&mut self) -> Result<(), String> {
        let n = self.names.len();
        if n == MAX_SESSIONS {
            return Ok(());
        }
        let name = session(&session_name(n));
        let hears = n % 3 != 1;
        if hears {
            let channel = self.queue.keys().wake_channel(&name);
            self.queue.link().subscribe(&channel).await.map_err(|e| e.to_string())?;
        }
        self.names.push(name);
        self.clients.push(Client::default());
        self.reference.sessions.push(Session {
            hears,
            ..Session::default()
        });
        self.beat(n, true).await
    }

    pub fn turn(number: u64) -> Turn {
        Turn {
            number,
            ..Turn::default()
        }
    }
}
