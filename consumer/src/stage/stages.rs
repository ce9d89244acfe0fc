//! All functions of jobs that a consumer knows.
//!
//! Invariant: registered ones come before built-in ones, so that a name that is built in later
//! takes nothing away from anybody.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::places::Places;
use super::{Stage, builtin};

/// Functions by kind, and what they may read.
#[derive(Clone, Default)]
pub(crate) struct Stages {
    registered: Arc<RwLock<HashMap<String, Arc<dyn Stage>>>>,
    pub(super) places: Places,
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.read().keys()).finish()
    }
}

impl Stages {
    pub(crate) fn new(registered: HashMap<String, Arc<dyn Stage>>, places: Places) -> Self {
        Self {
            registered: Arc::new(RwLock::new(registered)),
            places,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Arc<dyn Stage>>> {
        self.registered.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other registered functions from now on; what runs goes on with those that it has.
    pub(crate) fn replace(&self, registered: HashMap<String, Arc<dyn Stage>>) {
        *self.registered.write().unwrap_or_else(PoisonError::into_inner) = registered;
    }

    /// Whether there is a function of this kind; tasks of others are handed back.
    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.find(kind).is_some()
    }

    pub(super) fn find(&self, kind: &str) -> Option<Arc<dyn Stage>> {
        self.read().get(kind).cloned().or_else(|| builtin::find(kind))
    }
}
