//! Any bytes as an envelope: refused with a bounded reason, or stored and read back as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workyard_consumer::fuzzing::envelope;

fuzz_target!(|input: &[u8]| envelope(input));
