//! Any bytes pushed into an inbox: a task, or an entry of the rejected list that says why and is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use workyard_consumer::QueueName;
use workyard_consumer::fuzzing::inbox_item;
use workyard_shared::broker::Verdict;

fuzz_target!(|item: &[u8]| {
    let queue = QueueName::new("emails").expect("a good name");
    match inbox_item(&queue, item) {
        Verdict::Accept(task) => assert!(task.head().is_ok()),
        Verdict::Reject(entry) => {
            assert!(entry.contains("\"reason\":\""), "{entry:?}");
            assert!(entry.len() <= 256 << 10, "an entry of {} bytes", entry.len());
        }
    }
});
