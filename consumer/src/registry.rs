//! Which handler runs which kind, and how many of it at once.
//!
//! Invariant: kinds are looked up here and nowhere else; nothing in a task names code. A kind that
//! is not here is handed back, never failed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;
use workyard_shared::Error;
use workyard_shared::name::Kind;

use crate::config::Place;
use crate::context::Context;
use crate::handler::{Failure, Handler};
use crate::kind_slots::{Concurrency, KindSlots};
use crate::stage::{Objects, Places, Stage, Stages};
use crate::typed::{Blocking, Typed};

/// What the registry knows of a kind.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) handler: Arc<dyn Handler>,
    /// Slots of the kind; `None`: only the worker's own limit.
    pub(crate) slots: Option<Arc<KindSlots>>,
}

/// A handler that is not in use any more, and the function of jobs beside it.
pub(crate) struct Retired {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) stage: Option<Arc<dyn Stage>>,
}

/// Kinds and their handlers.
#[derive(Clone, Default)]
pub struct Registry {
    entries: HashMap<String, Entry>,
    stages: HashMap<String, Arc<dyn Stage>>,
    warned: Arc<Mutex<HashSet<String>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.keys()).finish()
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an async function with typed payload and result.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is no kind or is taken.
    pub fn register<P, R, F, Fut>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Context, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        self.add(kind, Arc::new(Typed::new(function)), None)
    }

    /// Adds a blocking function with typed payload and result; it runs on a thread of its own. It
    /// cannot be stopped from outside: it should look at [`Context::is_cancelled`]. After a timeout
    /// the task is settled at once, and the slot stays taken until the function returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is no kind or is taken.
    pub fn register_blocking<P, R, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Context, P) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.add(kind, Arc::new(Blocking::new(function)), None)
    }

    /// Adds a handler; `limit` says how many of its tasks may run at once in this process.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is no kind, is taken, or `limit` cannot be.
    pub fn add(
        &mut self,
        kind: &str,
        handler: Arc<dyn Handler>,
        limit: Option<Concurrency>,
    ) -> Result<&mut Self, Error> {
        let kind = Kind::new(kind)?;
        let slots = limit.map(|limit| KindSlots::new(kind.as_str(), limit)).transpose()?;
        let entry = Entry {
            handler,
            slots: slots.map(Arc::new),
        };
        if self.entries.insert(kind.as_str().to_owned(), entry).is_some() {
            return Err(Error::Invalid(format!("kind {kind} has a handler already")));
        }
        Ok(self)
    }

    /// Limits how many tasks of a kind that has a handler run at once in this process.
    ///
    /// ```
    /// # use workyard_consumer::{Concurrency, Context, Failure, Registry};
    /// let mut registry = Registry::new();
    /// registry
    ///     .register("resize", |_: Context, name: String| async move { Ok::<String, Failure>(name) })?
    ///     .limit("resize", Concurrency::Adaptive { min: 2, max: 32 })?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` has no handler, or `limit` cannot be.
    pub fn limit(&mut self, kind: &str, limit: impl Into<Concurrency>) -> Result<&mut Self, Error> {
        let Some(entry) = self.entries.get_mut(kind) else {
            return Err(Error::Invalid(format!(
                "kind {kind} has no handler to limit: register it first"
            )));
        };
        entry.slots = Some(Arc::new(KindSlots::new(kind, limit.into())?));
        Ok(self)
    }

    /// Adds a function of map-reduce jobs; [`Self::map`] and those beside it add typed ones. A kind can
    /// be both a handler of tasks and a function of jobs.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is no kind, or has a function.
    pub fn stage(&mut self, kind: &str, stage: Arc<dyn Stage>) -> Result<&mut Self, Error> {
        let kind = Kind::new(kind)?;
        if self.stages.contains_key(kind.as_str()) {
            return Err(Error::Invalid(format!("kind {kind} has a function for jobs already")));
        }
        self.stages.insert(kind.as_str().to_owned(), stage);
        Ok(self)
    }

    /// Takes these kinds out of the functions of jobs, whose steps nobody signs.
    pub(crate) fn keep_from_jobs(&mut self, kinds: &BTreeSet<Kind>) {
        for kind in kinds {
            self.stages.remove(kind.as_str());
        }
    }

    /// Takes a kind over from another registry as it is: what its handler keeps running between tasks goes on.
    pub(crate) fn keep(&mut self, kind: &str, from: &Self) {
        if let Some(entry) = from.entries.get(kind) {
            self.entries.insert(kind.to_owned(), entry.clone());
        }
        if let Some(stage) = from.stages.get(kind) {
            self.stages.insert(kind.to_owned(), Arc::clone(stage));
        }
    }

    /// The handlers, and the functions beside them, that `next` does not have.
    pub(crate) fn without(&self, next: &Self) -> Vec<Retired> {
        let gone = self.entries.iter().filter(|(kind, entry)| {
            let after = next.entries.get(*kind);
            after.is_none_or(|after| !Arc::ptr_eq(&after.handler, &entry.handler))
        });
        gone.map(|(kind, entry)| Retired {
            handler: Arc::clone(&entry.handler),
            stage: self.stages.get(kind).cloned(),
        })
        .collect()
    }

    pub(crate) fn registered_stages(&self) -> HashMap<String, Arc<dyn Stage>> {
        self.stages.clone()
    }

    /// The functions of jobs, which read below `places` only.
    pub(crate) fn stages(&self, places: &[Place]) -> Stages {
        Stages::new(self.stages.clone(), Places::new(places, Some(Objects::fetcher())))
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Entry> {
        self.entries.get(kind)
    }

    /// The slots of a kind that has its own.
    pub(crate) fn slots(&self, kind: &str) -> Option<&Arc<KindSlots>> {
        self.get(kind)?.slots.as_ref()
    }

    /// The kinds whose slots are limited.
    pub(crate) fn limited(&self) -> impl Iterator<Item = (&str, &Arc<KindSlots>)> {
        self.entries
            .iter()
            .filter_map(|(kind, entry)| Some((kind.as_str(), entry.slots.as_ref()?)))
    }

    /// How many of `total` slots can be in use at once. If every kind is limited, no more than all limits together:
    /// what was claimed beyond would lie here while others have room for it. (A step of a job whose function is built
    /// in has no kind of its own here, and shares this room.)
    pub(crate) fn usable(&self, total: usize) -> usize {
        let limit = |entry: &Entry| entry.slots.as_ref().map(|slots| slots.now().limit);
        let unlimited_stages = self.stages.keys().any(|kind| !self.entries.contains_key(kind));
        if self.entries.is_empty() || unlimited_stages {
            return total;
        }
        let sum: Option<usize> = self.entries.values().map(limit).sum();
        sum.map_or(total, |sum| sum.clamp(1, total))
    }

    /// Ends what the handlers keep running between tasks; after the drain.
    pub(crate) async fn close(&self) {
        futures_util::future::join_all(self.entries.values().map(|entry| entry.handler.close())).await;
    }

    /// Says once per kind that tasks come for which there is no handler here.
    pub(crate) fn warn_unknown(&self, kind: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        // Kinds come from whoever enqueues: what is remembered of them is bounded.
        if warned.len() < 1000 && warned.insert(kind.to_owned()) {
            let known = self.known();
            warn!(
                kind,
                "no handler for kind \"{kind}\": its tasks are handed back, ten times at most; {known}"
            );
        }
    }

    /// Which handlers there are, for who looks for another.
    fn known(&self) -> String {
        let kinds = self.kinds();
        match kinds.is_empty() {
            true => "there is no handler but the built-in functions of jobs".to_owned(),
            false => format!("there are handlers for {}", kinds.join(", ")),
        }
    }

    /// The kinds, sorted.
    #[must_use]
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.entries.keys().map(String::as_str).collect();
        kinds.sort_unstable();
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_of_built_in_functions_alone_says_so_instead_of_an_empty_list() {
        assert!(Registry::new().known().contains("no handler but the built-in"));
    }
}
