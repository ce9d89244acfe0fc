//! A Redis for people who have none yet: started on first use, shared by whoever needs it, kept between runs.
//!
//! Invariant: at most one server runs on a data directory. The server itself holds a lock on a file in it
//! (`server.lock`) for as long as it lives: it inherits the open file from whoever starts it, so there is no moment
//! between "we start one" and "it runs" in which a second starter finds the directory free, even if the first is
//! killed there. Two servers on one append-only file would destroy it.
//!
//! The server is a separate process in its own session: it outlives who started it, and nobody watches over it.
//! Whoever uses it calls [`ManagedRedis::ensure`] when a connection is refused. Under systemd, a server started by a
//! unit is stopped with that unit, as `KillMode=control-group` kills all that the unit started.
//!
//! It does not configure an existing Redis, tune anything or replicate: one machine, `appendfsync everysec` (a power
//! cut may cost the last second), access for one user of the machine. Who needs more gives Workyard a URL.
//!
//! All calls block; asynchronous callers use `spawn_blocking`.

mod binary;
mod dir;
mod endpoint;
mod error;
mod launch;
mod manager;
mod probe;
mod process;
mod record;

pub use binary::{SERVER_VARIABLE, ServerBinary, find_server};
pub use dir::DIR_VARIABLE;
pub use error::Error;
pub use manager::{Joined, ManagedRedis, Status, Stopped};
pub use probe::ServerInfo;
