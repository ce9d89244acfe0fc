//! The policies that are compared: Workyard's three, and three dispatchers that push.
//!
//! Workyard's consumers claim; when there is nothing they wait with a rank. A pushing dispatcher gives each
//! task to a consumer at once, which queues what its slots cannot take.

use workyard_shared::balance::Policy;

/// How tasks reach consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dispatch {
    /// Workyard's own.
    Claim(Policy),
    /// A dispatcher with a queue per consumer.
    Push(Push),
}

/// Dispatchers for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// The paper's: in turn among healthy ones, blind to capacity.
    PaperRoundRobin,
    /// Anyone.
    Random,
    /// Of two at random the one with less per slot (Mitzenmacher, "The Power of Two Choices").
    TwoChoices,
}

impl Dispatch {
    /// All that are compared.
    pub(crate) const ALL: [Self; 6] = [
        Self::Claim(Policy::Pull),
        Self::Claim(Policy::RoundRobin),
        Self::Claim(Policy::Adaptive),
        Self::Push(Push::PaperRoundRobin),
        Self::Push(Push::Random),
        Self::Push(Push::TwoChoices),
    ];

    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Claim(policy) => policy.as_str(),
            Self::Push(Push::PaperRoundRobin) => "paper-round-robin",
            Self::Push(Push::Random) => "random",
            Self::Push(Push::TwoChoices) => "two-choices",
        }
    }
}
