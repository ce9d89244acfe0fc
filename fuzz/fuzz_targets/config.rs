//! Any text as the daemon's file: read, or refused with file and reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workyard_consumer::fuzzing::config;

fuzz_target!(|input: &[u8]| config(input));
