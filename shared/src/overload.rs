//! Who gives way when a queue is full.
//!
//! Invariant: the names are those of `lua/settings.lua`. What they do is in `lua/overload.lua`.

/// What a queue does with a new task when `max_pending` tasks wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overload {
    /// Refuses it.
    #[default]
    Reject,
    /// Refuses it too, and asks the producer to wait and send it again.
    Block,
    /// Moves the least urgent pending tasks into the dead-letter set, if the new one is more urgent; else refuses it.
    Shed,
}

impl Overload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reject, Self::Block, Self::Shed];

    /// The name in settings and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Block => "block",
            Self::Shed => "shed",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }
}
