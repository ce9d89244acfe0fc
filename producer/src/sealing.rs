//! Opening what is sealed: payloads and results on their way out of Redis.
//!
//! Invariant: what this client's keys open is shown as if it had never been sealed; what they do not is left as it is and
//! said, never taken for JSON of somebody's own.

use bytes::Bytes;
use workyard_shared::crypto::job::{JobBinding, has_sealed_arguments, open_arguments, open_error};
use workyard_shared::crypto::{Binding, Part, Unopened, is_sealed, key_of};
use workyard_shared::job::JobRecord;
use workyard_shared::name::{JobId, QueueName};
use workyard_shared::record::{Ended, State};

use crate::client::Client;
use crate::error::Error;
use crate::raw_json::RawJson;
use crate::view::TaskView;

/// What to say of JSON, if it is sealed.
pub(crate) fn told(json: &Bytes) -> Option<String> {
    is_sealed(json).then(|| match key_of(json) {
        Ok(key) => format!("sealed with key {key}"),
        Err(why) => why.to_string(),
    })
}

impl Client {
    /// An end with its result opened; without keys it is left as it is.
    pub(crate) fn opened(&self, queue: &QueueName, id: &str, mut ended: Ended) -> Result<Ended, Error> {
        let Some(keys) = &self.inner.config.keys else {
            return Ok(ended);
        };
        if ended.state != State::Completed || !is_sealed(&ended.body) {
            return Ok(ended);
        }
        let task = Binding {
            queue: queue.as_str(),
            kind: &ended.kind,
            id,
        };
        match keys.open(Part::Result, task, &ended.body) {
            Ok(body) => {
                ended.body = body;
                Ok(ended)
            }
            Err(why) => Err(Error::Sealed { id: id.to_owned(), why }),
        }
    }

    /// The record of a job with its arguments and its error opened, as far as the keys do.
    pub(crate) fn open_record(&self, queue: &QueueName, id: &JobId, record: &mut JobRecord) {
        let keys = self.inner.config.keys.as_deref();
        let job = JobBinding::new(queue, id, &record.spec);
        record.error = open_error(keys, &job, &record.error);
        if has_sealed_arguments(&record.spec) {
            let mut opened = record.spec.clone();
            // All of them or none.
            if open_arguments(keys, &job, &mut opened).is_ok() {
                record.spec = opened;
            }
        }
    }

    /// A view with payload and result opened, as far as the keys do.
    pub(crate) fn open_view(&self, mut view: TaskView) -> TaskView {
        let (Some(keys), true) = (&self.inner.config.keys, view.sealed.is_some()) else {
            return view;
        };
        let task = Binding {
            queue: &view.queue,
            kind: &view.kind,
            id: &view.id,
        };
        let open = |part: Part, json: &Option<RawJson>| -> Result<Option<RawJson>, Unopened> {
            match json {
                Some(json) if is_sealed(json.bytes()) => Ok(Some(RawJson::new(keys.open(part, task, json.bytes())?))),
                other => Ok(other.clone()),
            }
        };
        let payload = open(Part::Payload, &view.payload);
        let result = open(Part::Result, &view.result);
        match (payload, result) {
            (Ok(payload), Ok(result)) => {
                (view.payload, view.result, view.sealed) = (payload, result, None);
            }
            (Err(why), _) | (_, Err(why)) => view.sealed = Some(why.to_string()),
        }
        view
    }
}
