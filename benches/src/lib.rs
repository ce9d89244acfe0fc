//! What the benchmark and the simulator share: the consumers that they compare policies with.

pub mod profile;
