//! What a function of a job is asked to do.

/// What a function is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// From the items of a chunk to values, or pairs in the keyed form.
    Map,
    /// From the pairs of one chunk, key by key, to fewer pairs.
    Combine,
    /// From values to fewer values; from keys and all their values to pairs.
    Reduce,
}

impl Role {
    /// `map`, `combine` or `reduce`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Combine => "combine",
            Self::Reduce => "reduce",
        }
    }
}
