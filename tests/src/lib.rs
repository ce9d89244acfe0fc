//! What every black-box test of Workyard needs: a real server of its own, the real binaries, bounded waiting.
//!
//! Invariant: nothing here is shared between two tests. Each [`TestServer`] has its own port and directory and each
//! [`Daemon`] its own files, so tests run in parallel, and what a test started ends with it.
//!
//! It does not mock anything and knows nothing of the protocol: tests say what they expect of Redis themselves.
//!
//! Helpers panic with a sentence that says what to do, since their only callers are tests.

mod certificates;
mod collector;
mod entry;
pub mod hand;
mod http;
mod monotonic;
mod notify;
mod port;
mod preload;
mod process;
mod proxy;
mod repository;
mod roles;
mod server;
mod terminal;
mod tls;
mod tool;
mod topology;
mod wait;
mod yard;

pub use certificates::{Authority, write_certificates};
pub use collector::{Collector, SeenSpan};
pub use http::{get, http_of, send};
pub use monotonic::monotonic_ms;
pub use notify::NotifySocket;
pub use preload::{Cut, FsyncRecorder, MovableClock};
pub use process::{Daemon, children_of, is_alive, workspace_binary};
pub use proxy::{Fault, FaultProxy};
pub use repository::{repository_path, repository_text, repository_yaml};
pub use roles::{ADMIN, PASSWORD, ROLES_VARIABLE, role_of, roles_are_on};
pub use rustix::process::Signal;
pub use server::{SERVER_VARIABLE, TestServer};
pub use terminal::Terminal;
pub use tls::{TLS_VARIABLE, redis_client, tls_dir};
pub use tool::{checked_by, passes, report_missing};
pub use topology::{MASTER, TOPOLOGY_VARIABLE, TestCluster, TestSentinel, info, move_slot};
pub use wait::{wait_for, wait_until};
pub use yard::{Running, Yard, echo_and, new_task, queue_name, spawn};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
