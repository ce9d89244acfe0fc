//! Handlers that need no Rust: configured in the daemon's TOML.
