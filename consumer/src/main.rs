//! Daemon.
fn main(){}
