//! Objects that chunks name, read through the store.
//!
//! Invariant: what is returned is of the very version that the chunk was made from.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use workyard_shared::store::{Stat, StoreError, Stores};

use super::places::Fetch;
use crate::handler::{BoxFuture, Failure};

/// The way to object stores.
pub(crate) struct Objects {
    stores: Arc<Stores>,
}

impl Objects {
    /// One that has connected to none yet.
    pub(crate) fn fetcher() -> Arc<dyn Fetch> {
        Arc::new(Self { stores: Arc::default() })
    }
}

impl Fetch for Objects {
    fn fetch(&self, url: String, range: Range<u64>, size: u64, etag: String) -> BoxFuture<Result<Bytes, Failure>> {
        let stores = Arc::clone(&self.stores);
        Box::pin(async move {
            let (place, name) = url
                .rsplit_once('/')
                .ok_or_else(|| Failure::fatal(format!("{url} names no object")))?;
            let store = stores.open(place).map_err(failed)?;
            let changed = || Failure::fatal(format!("{url} has changed under the job: submit it again"));
            let check = |stat: Stat| stat.size == size && stat.version == etag;
            if !check(store.stat(name).await.map_err(failed)?) {
                return Err(changed());
            }
            let bytes = store.read_range(name, range).await.map_err(failed)?;
            if !check(store.stat(name).await.map_err(failed)?) {
                return Err(changed());
            }
            Ok(bytes)
        })
    }
}

/// What is not there may come; what is forbidden stays so.
pub(crate) fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::Final { .. } => Failure::fatal(error.to_string()),
        other => Failure::retry(other.to_string()),
    }
}
