//! What both programs of the benchmark draw with.

pub mod svg;
