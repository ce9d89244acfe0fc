//! Any bytes as an envelope: refused with a bounded reason, or stored and read back as they were.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use workyard_shared::envelope::NewTask;
use workyard_shared::record::Record;

fuzz_target!(|text: &[u8]| {
    let task = match NewTask::from_json(text) {
        Ok((task, _)) => task,
        Err(error) => {
            assert!(error.to_string().len() < 4096, "a reason without bound");
            return;
        }
    };
    let head = task.head().expect("what was accepted has a head");
    let (line, extra) = head.split_once('\n').unwrap_or((&head, ""));
    assert!(!extra.contains('\n'), "headers of more than one line: {head:?}");
    // As lua/add.lua writes it.
    let (kind, options) = line.split_once(' ').unwrap_or((line, ""));
    let mut stored = match options {
        "" => format!("d1 {kind}\n{extra}\n"),
        _ => format!("o1 {kind} {options}\n{extra}\n"),
    }
    .into_bytes();
    stored.extend_from_slice(&task.payload);
    let record = Record::parse(Bytes::from(stored)).expect("what was stored can be read");
    assert_eq!(record.kind(), task.kind.as_str());
    assert_eq!(record.payload(), task.payload);
    let (headers, unknown) = record.extra();
    assert_eq!(headers, task.headers);
    assert!(unknown.keys().eq(task.unknown.keys()), "{unknown:?}");
    assert_eq!(record.options().encode(), task.options.encode());
});
