//! Libraries that are preloaded into programs under test, compiled here from C when they are needed.
//!
//! They stand between a program and its C library, so they work on programs that are linked dynamically, on Linux. A
//! program that has one is killed when the thread that started it ends: start it from one that lives as long as the test.

mod clock;
mod fsync;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use clock::MovableClock;
pub use fsync::{Cut, FsyncRecorder};

/// The environment variable by which the loader learns of them.
const PRELOAD: &str = "LD_PRELOAD";

/// Compiles a source into a library in `dir`.
fn compile(name: &str, source: &str, dir: &Path) -> PathBuf {
    let (input, output) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    std::fs::write(&input, source).unwrap_or_else(|e| panic!("cannot write {}: {e}", input.display()));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&output, &input])
        .arg("-ldl");
    // Whoever builds Rust programs has it: it is their linker.
    let done = cc.output().unwrap_or_else(|e| panic!("cannot run cc: {e}"));
    assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
    output
}
