//! What both programs of the benchmark share: the consumers that they compare policies with, and how they draw.

pub mod profile;
pub mod svg;
