//! Any bytes where a task, its state or its result should be stored: read or refused, never a crash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workyard_consumer::fuzzing::record;

fuzz_target!(|input: &[u8]| record(input));
