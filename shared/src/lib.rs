//! The Workyard protocol: what producers and consumers agree on.
pub mod limits;
pub mod managed;
