//! What a task must be before its handler sees it: opened, if it is sealed; signed, where that is asked for.
//!
//! Invariant: a task that is neither sealed nor has to be costs a comparison of a few bytes. One that is refused is a dead
//! letter at once, whoever else might have run it: nothing about it changes by waiting, and no handler has begun. Its reason
//! names a key at most, never what is inside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use workyard_shared::Error;
use workyard_shared::crypto::signature::FIELD;
use workyard_shared::crypto::{Binding, KeyRing, Part, Unopened, is_sealed};
use workyard_shared::envelope::check_payload;
use workyard_shared::limits::MAX_SEALED_BYTES;
use workyard_shared::name::{Kind, QueueName};

use crate::context::Context;
use crate::handler::{Failure, Outcome};

/// Keys, and what of tasks must be sealed or signed; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// Opens payloads, seals the results of tasks whose payload was sealed, verifies signatures. Its `sign` keys sign what
    /// handlers enqueue.
    pub keys: Option<Arc<KeyRing>>,
    /// Refuse payloads that are not sealed, and what steps of map-reduce jobs read that is not.
    pub require_sealed: bool,
    /// Queues that take signed tasks only, and no step of a map-reduce job.
    pub signed_queues: BTreeSet<QueueName>,
    /// Kinds whose handlers take signed tasks only, and are no functions of map-reduce jobs.
    pub signed_kinds: BTreeSet<Kind>,
}

impl Protection {
    /// # Errors
    /// [`Error::Invalid`] if something is asked for without the keys to do it.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let keys = self.keys.as_deref();
        if self.require_sealed && !keys.is_some_and(KeyRing::seals) {
            return Err(Error::Invalid(
                "sealed payloads are required, but there is no key ring with an encrypt key".to_owned(),
            ));
        }
        let signed = !(self.signed_queues.is_empty() && self.signed_kinds.is_empty());
        if signed && !keys.is_some_and(KeyRing::verifies) {
            return Err(Error::Invalid(
                "signed tasks are required, but there is no key ring with a verify or sign key".to_owned(),
            ));
        }
        Ok(())
    }

    /// Why no step of a job may run in this queue, if so.
    pub(crate) fn refuses_jobs(&self, queue: &QueueName) -> Option<String> {
        let signed = self.signed_queues.contains(queue);
        signed.then(|| format!("refused: queue {queue} takes signed tasks only, and the steps of jobs are not signed"))
    }

    /// What there is to do before this task runs, if there is something.
    pub(crate) fn entrance(
        &self,
        queue: &QueueName,
        kind: &str,
        payload: &[u8],
        unknown: &BTreeMap<String, Box<RawValue>>,
    ) -> Option<Box<Entrance>> {
        let sealed = is_sealed(payload);
        let signed = self.signed_queues.contains(queue) || self.signed_kinds.iter().any(|known| known.as_str() == kind);
        if !(sealed || signed || self.require_sealed) {
            return None;
        }
        let signature = unknown.get(FIELD).map(|raw| raw.get()).filter(|raw| *raw != "null");
        Some(Box::new(Entrance {
            keys: self.keys.clone(),
            sealed,
            require_sealed: self.require_sealed,
            signed: signed.then(|| signature.map(str::to_owned)),
        }))
    }
}

/// The way of one task to its handler, and of its result back.
pub(crate) struct Entrance {
    keys: Option<Arc<KeyRing>>,
    pub(crate) sealed: bool,
    require_sealed: bool,
    /// A signature is asked for; the one that there is.
    signed: Option<Option<String>>,
}

impl Entrance {
    /// The payload for the handler; or why the task is refused.
    pub(crate) fn admit(&self, ctx: &Context, payload: &Bytes) -> Result<Bytes, String> {
        if let Some(signature) = &self.signed {
            let keys = self
                .keys
                .as_deref()
                .ok_or("refused: there are no keys to verify its signature")?;
            keys.verify(binding(ctx), ctx.headers(), payload, signature.as_deref())
                .map_err(|why| format!("refused: signed tasks only, and {why}"))?;
        }
        if !self.sealed {
            return match self.require_sealed {
                true => Err("refused: sealed payloads only, and its payload is not sealed".to_owned()),
                false => Ok(payload.clone()),
            };
        }
        let opened = match self.keys.as_deref() {
            Some(keys) => keys.open(Part::Payload, binding(ctx), payload),
            None => Err(Unopened::without_keys(payload)),
        };
        let opened = opened.map_err(|why| format!("refused: its payload is {why}"))?;
        // Whoever sealed it may have sealed anything.
        check_payload(&opened).map_err(|_| "refused: its payload opens, and is not JSON then".to_owned())?;
        Ok(opened)
    }

    /// The outcome as it goes to Redis.
    pub(crate) fn close(&self, ctx: &Context, outcome: Outcome) -> Outcome {
        let (true, Ok(result)) = (self.sealed, &outcome) else {
            return outcome;
        };
        if result.len() > MAX_SEALED_BYTES {
            return Err(Failure::fatal(format!(
                "the result has {} bytes, at most {MAX_SEALED_BYTES} can be sealed; store it elsewhere and return where",
                result.len()
            )));
        }
        let keys = self
            .keys
            .as_deref()
            .ok_or_else(|| Failure::fatal("there are no keys to seal the result"))?;
        keys.seal(Part::Result, binding(ctx), result)
            .map_err(|error| Failure::fatal(error.to_string()))
    }
}

fn binding(ctx: &Context) -> Binding<'_> {
    Binding {
        queue: ctx.queue(),
        kind: ctx.kind(),
        id: ctx.id(),
    }
}
