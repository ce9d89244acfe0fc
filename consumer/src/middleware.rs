//! Hooks around every task of a worker: before, after, and when one is dead-lettered.

use crate::context::Context;
use crate::handler::{BoxFuture, Outcome};

/// Called around each attempt, in the order of registration (`after` in reverse). Every method has
/// an empty default.
///
/// ```
/// use workyard_consumer::{BoxFuture, Context, Middleware, Outcome};
///
/// struct Count(std::sync::Arc<std::sync::atomic::AtomicU64>);
///
/// impl Middleware for Count {
///     fn before(&self, _ctx: &Context) -> BoxFuture<()> {
///         self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         Box::pin(std::future::ready(()))
///     }
/// }
/// ```
pub trait Middleware: Send + Sync + 'static {
    /// Before the handler runs.
    fn before(&self, _ctx: &Context) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    /// After the handler returned, failed, panicked or timed out; not after a cancel.
    fn after(&self, _ctx: &Context, _outcome: &Outcome) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    /// After this worker put a task into the dead-letter set: by an attempt that failed, or because it was the last of those
    /// that know no handler for its kind. It runs beside what follows; the end of the worker waits for it, until a second after
    /// the drain timeout. A task under which consumers died (`poison`) is buried by whoever notices, and tells no hook.
    fn on_dead_letter(&self, _id: &str, _kind: &str, _error: &str) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}
