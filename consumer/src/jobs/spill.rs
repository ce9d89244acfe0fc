//! The places where this consumer may write intermediate data.
//!
//! Invariant: a job names its spill place, and the configuration decides whether this consumer uses it: who can enqueue
//! cannot make it write where the operator did not allow.

use std::path::{Component, Path};

use workyard_shared::store::{Store, StoreError, Stores};

use crate::config::Place;
use crate::handler::Failure;
use crate::stage::failed;

/// Spill places that are allowed here.
pub(crate) struct Spill {
    places: Vec<Place>,
    stores: Stores,
}

impl Spill {
    /// `places`: what the configuration lists.
    pub(crate) fn new(places: Vec<Place>) -> Self {
        Self {
            places,
            stores: Stores::default(),
        }
    }

    /// Opens a job's spill place for one of its tasks. Where it is not allowed, another consumer may have the task: which
    /// folders a machine sees is no fault of the job's.
    ///
    /// # Errors
    /// A [`Failure`].
    pub(super) fn open_for_task(&self, url: &str) -> Result<Store, Failure> {
        match self.open(url) {
            Err(error) if !self.may_use(url) => Err(Failure::elsewhere(error.to_string())),
            opened => opened.map_err(failed),
        }
    }

    fn may_use(&self, url: &str) -> bool {
        self.places.iter().any(|place| allows(place, url))
    }

    /// Opens a job's spill place.
    ///
    /// # Errors
    /// [`StoreError::Final`] if it is none, or not allowed here.
    pub(crate) fn open(&self, url: &str) -> Result<Store, StoreError> {
        if !self.may_use(url) {
            return Err(StoreError::Final {
                url: url.to_owned(),
                detail:
                    "this consumer may not use it as a spill place; list it under `spill` in the [jobs] table of its \
                         configuration, or with --jobs-spill"
                        .to_owned(),
            });
        }
        self.stores.open(url)
    }
}

fn allows(place: &Place, url: &str) -> bool {
    match place {
        Place::Folder(folder) => {
            let Some(path) = url.strip_prefix("file://").map(Path::new) else {
                return false;
            };
            let plain = path
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            plain && path.starts_with(folder)
        }
        Place::Store(prefix) => {
            let plain = url.split('/').skip(2).all(|part| part != ".." && part != ".");
            let rest = url.strip_prefix(prefix.trim_end_matches('/'));
            plain && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_configuration_lists_is_a_spill_place() {
        let folder = Place::Folder("/mnt/spill".into());
        for good in ["file:///mnt/spill", "file:///mnt/spill/a/b"] {
            assert!(allows(&folder, good), "{good}");
        }
        for bad in [
            "file:///mnt/spillage",
            "file:///mnt/spill/../x",
            "file:///mnt",
            "/mnt/spill",
            "s3://mnt/spill",
        ] {
            assert!(!allows(&folder, bad), "{bad}");
        }
        let store = Place::Store("s3://bucket/spill".to_owned());
        for (url, allowed) in [
            ("s3://bucket/spill/a", true),
            ("s3://bucket/spill", true),
            ("s3://bucket/spill/../b", false),
            ("s3://bucket/spillage", false),
        ] {
            assert_eq!(allows(&store, url), allowed, "{url}");
        }
    }
}
