//! What a client does to a task before it goes to Redis: seal, then sign what is stored.
//!
//! Invariant: it happens when id and queue are settled, since both are bound. Signing comes last, so that a consumer
//! verifies before it opens anything.

use super::signature::FIELD;
use super::{Binding, KeyRing, Part, is_sealed};
use crate::envelope::NewTask;
use crate::error::Error;
use crate::name::{QueueName, TaskId};

impl KeyRing {
    /// Seals the payload if this ring has `encrypt` keys (one that is sealed already stays as it is), and signs the task if
    /// it has `sign` keys.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the payload is too large to be sealed.
    pub fn protect(&self, queue: &QueueName, id: &TaskId, task: &mut NewTask) -> Result<(), Error> {
        let binding = Binding {
            queue: queue.as_str(),
            kind: task.kind.as_str(),
            id: id.as_str(),
        };
        if self.seals() && !is_sealed(&task.payload) {
            task.payload = self.seal(Part::Payload, binding, &task.payload)?;
        }
        if self.signs() {
            let signature = self.sign(binding, &task.headers, &task.payload)?;
            task.unknown.insert(FIELD.to_owned(), signature);
        }
        Ok(())
    }
}

/// Why a task without an id of its own cannot be ingested as it is: what protects it is bound to its id.
#[must_use]
pub fn needs_id(task: &NewTask) -> Option<&'static str> {
    match task {
        NewTask { id: Some(_), .. } => None,
        _ if is_sealed(&task.payload) => Some("a sealed payload is bound to the task's id: give it one"),
        _ if task.unknown.contains_key(FIELD) => Some("a signature is bound to the task's id: give it one"),
        _ => None,
    }
}
