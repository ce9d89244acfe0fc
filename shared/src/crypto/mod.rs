//! Keys of people who do not trust Redis: payloads and results that it cannot read, tasks that it cannot make up.
//!
//! A [`KeyRing`] is a file of keys. With its `encrypt` keys a client *seals* payloads and a consumer seals results: JSON
//! becomes ciphertext in a small JSON object ([`sealed`]), bound to the task that it was made for. With its `sign` keys a
//! client signs tasks ([`signature`]), and whoever has the public half can tell them from those that somebody else put into
//! Redis. docs/protocol.md has both forms for other languages.
//!
//! Invariant: no key and no plaintext is in any `Debug` or error text. What cannot be opened or verified is an error that
//! says why; it never passes as plain. It knows no Redis.

pub mod edit;
pub mod job;
mod key;
mod protect;
mod ring;
pub mod sealed;
pub mod signature;

pub use protect::needs_id;
pub use ring::{KeyRing, Use, read_text};
pub use sealed::{Part, Unopened, is_sealed, key_of};
pub use signature::Unverified;

/// The task that ciphertext or signature belongs to: what is bound, and cannot be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Its queue.
    pub queue: &'a str,
    /// Its kind, which picks the handler.
    pub kind: &'a str,
    /// Its id.
    pub id: &'a str,
}

/// The task of this module's tests.
#[cfg(test)]
const TASK: Binding<'_> = Binding {
    queue: "q",
    kind: "send",
    id: "a-1",
};
