//! Workyard's protocol as models that are checked exhaustively for small bounds.
//!
//! Each model says what `shared/lua` does, call by call, as plain data, lets everything happen that may happen at any
//! moment, and states what must never be. Faults of the protocol ([`task::Mutant`] and its like) are parameters: with
//! one of them a property has to fail, or the model proves nothing.
//!
//! It does not run the functions themselves: that they do what the models say is what `tests/tests/trace` compares.

mod explore;
pub mod fan_in;
pub mod task;
pub mod wakeup;

pub use explore::{Report, explore};
