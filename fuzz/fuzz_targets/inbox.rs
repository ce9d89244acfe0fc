//! Any bytes pushed into an inbox: a task, or an entry of the rejected list that says why and is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workyard_consumer::fuzzing::inbox;

fuzz_target!(|input: &[u8]| inbox(input));
