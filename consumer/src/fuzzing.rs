//! What must hold of any bytes that come from outside: the entries of the fuzz targets in `fuzz/`, and of a test that replays their corpus.
//!
//! Compiled with `--cfg fuzzing` alone, which cargo-fuzz sets, and for the tests of this crate: nobody else can rely on it. Each entry
//! panics if what it was given breaks a promise.

#![expect(
    clippy::expect_used,
    reason = "a broken promise has to panic: that is what a fuzzer looks for"
)]

use std::path::Path;

use bytes::Bytes;
use workyard_shared::broker::{InboxItem, Verdict};
use workyard_shared::envelope::NewTask;
use workyard_shared::name::QueueName;
use workyard_shared::record::{Ended, Meta, Record};

/// Any bytes as an envelope: refused with a bounded reason, or stored and read back as they were.
pub fn envelope(text: &[u8]) {
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
}

/// Any bytes where a task, its state or its result should be stored: read or refused, never a crash.
pub fn record(stored: &[u8]) {
    let bytes = Bytes::copy_from_slice(stored);
    if let Ok(record) = Record::parse(bytes.clone()) {
        drop((record.kind(), record.options(), record.extra(), record.payload()));
    }
    drop((Meta::parse(stored), Ended::parse(&bytes)));
}

/// Any bytes pushed into an inbox: a task, or an entry of the rejected list that says why and is bounded.
pub fn inbox(item: &[u8]) {
    let queue = QueueName::new("emails").expect("a good name");
    match crate::ingest::judge(&queue, &InboxItem::Raw(Bytes::copy_from_slice(item))) {
        Verdict::Accept(task) => assert!(task.head().is_ok(), "a task without a head was accepted"),
        Verdict::Reject(entry) => {
            assert!(entry.contains("\"reason\":\""), "{entry:?}");
            assert!(entry.len() <= 256 << 10, "an entry of {} bytes", entry.len());
        }
    }
}

/// Any text as the daemon's file: read, or refused with file and reason.
pub fn config(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    if let Err(error) = crate::config::parse(text, Path::new("/nowhere/daemon.toml")) {
        assert!(error.to_string().starts_with("/nowhere/daemon.toml"), "{error}");
    }
}

/// Any line of a worker process: a message, or a bounded text of what is wrong with it.
pub fn worker_line(line: &[u8]) {
    if let Err(reason) = crate::handlers::worker::read_line(line) {
        assert!(reason.len() < 4096, "a reason of {} bytes", reason.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_each_fuzz_target_keeps_every_promise() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        type Entry = fn(&[u8]);
        let targets: [(&str, Entry); 5] = [
            ("envelope", envelope),
            ("record", record),
            ("inbox", inbox),
            ("config", config),
            ("worker_line", worker_line),
        ];
        for (name, entry) in targets {
            // What reached new code in a run of `scripts/fuzz --keep`.
            let grown = tempfile::tempdir().unwrap();
            let archive = fuzz.join("grown").join(format!("{name}.tar.gz"));
            let mut tar = std::process::Command::new("tar");
            let unpacked = tar
                .arg("-xzf")
                .arg(archive)
                .arg("-C")
                .arg(grown.path())
                .status()
                .unwrap();
            assert!(unpacked.success(), "{name}: its grown corpus cannot be unpacked");
            let (seeds, mut replayed) = (walk(&fuzz.join("corpus").join(name)), 0);
            for file in seeds.into_iter().chain(walk(grown.path())) {
                let bytes = std::fs::read(&file).unwrap();
                let held = std::panic::catch_unwind(|| entry(&bytes));
                assert!(held.is_ok(), "{} breaks a promise", file.display());
                replayed += 1;
            }
            assert!(replayed >= 100, "{name}: only {replayed} inputs");
        }
    }

    fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
            .collect()
    }
}
