//! Any text as the daemon's file: read, or refused with file and reason.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use workyard_consumer::config;

fuzz_target!(|text: &str| {
    if let Err(error) = config::parse(text, Path::new("/nowhere/daemon.toml")) {
        assert!(error.to_string().starts_with("/nowhere/daemon.toml"), "{error}");
    }
});
