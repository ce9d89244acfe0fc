//! Programs that check files and are not everywhere.
//!
//! Invariant: one that is missing is said, with how to get it, never passed over in silence; one that `WORKYARD_TEST_TOOLS` names (words,
//! as `.ci/run` sets it) fails its test.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The checkers that have to be here.
const TOOLS_VARIABLE: &str = "WORKYARD_TEST_TOOLS";

/// Says that a checker is not here, so that `what` was not done.
///
/// # Panics
/// When it has to be.
pub fn report_missing(program: &str, what: &str, how_to_get: &str) {
    let text = format!("{program} is not here, so {what}. {how_to_get}");
    let needed = std::env::var(TOOLS_VARIABLE).unwrap_or_default();
    assert!(!needed.split_whitespace().any(|tool| tool == program), "{text}");
    eprintln!("SKIPPED: {text}");
}

/// Runs a checker with this input; `None`, and a line that says so, if it is not here.
///
/// # Panics
/// When it is here and cannot be run, or has to be here.
pub fn checked_by(program: &str, args: &[&str], input: &str, how_to_get: &str) -> Option<Output> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            report_missing(
                program,
                &format!("`{program} {}` was not run", args.join(" ")),
                how_to_get,
            );
            return None;
        }
        Err(error) => panic!("{program} cannot be run: {error}"),
    };
    // It may end before it has read all: its verdict says why.
    child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
    Some(child.wait_with_output().unwrap_or_else(|e| panic!("{program}: {e}")))
}

/// As [`checked_by`], and it must be content.
///
/// # Panics
/// When it is not, with what it said.
pub fn passes(program: &str, args: &[&str], input: &str, how_to_get: &str) {
    if let Some(output) = checked_by(program, args, input, how_to_get) {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{program} {}:\n{said}", args.join(" "));
        println!("{program} {}: ok", args.join(" "));
    }
}
