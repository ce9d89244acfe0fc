//! Any line of a worker process: a message, or a bounded text of what is wrong with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workyard_consumer::fuzzing::worker_line;

fuzz_target!(|input: &[u8]| worker_line(input));
