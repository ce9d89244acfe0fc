//! Any bytes where a task, its state or its result should be stored: read or refused, never a crash.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use workyard_shared::record::{Ended, Meta, Record};

fuzz_target!(|stored: &[u8]| {
    let bytes = Bytes::copy_from_slice(stored);
    if let Ok(record) = Record::parse(bytes.clone()) {
        let _ = (record.kind(), record.options(), record.extra(), record.payload());
    }
    let _ = Meta::parse(stored);
    let _ = Ended::parse(&bytes);
});
