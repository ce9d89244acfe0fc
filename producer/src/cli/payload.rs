//! The payload argument: JSON, `@file`, or `-` for stdin.
//!
//! Invariant: the bytes are kept; only one line end at the end of a file or of stdin is cut, because
//! editors and `echo` put it there. Reading stops at the size limit.

use std::fs::File;
use std::io::{self, Read};

use workyard_shared::Error;
use workyard_shared::envelope::check_payload;
use workyard_shared::limits::MAX_PAYLOAD_BYTES;

use super::exit::CliError;

/// Reads the payload that the argument means.
pub(crate) fn read(argument: Option<&str>) -> Result<Vec<u8>, CliError> {
    let payload = match argument {
        None => b"null".to_vec(),
        Some("-") => without_line_end(read_some(io::stdin().lock(), "stdin")?),
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let file = File::open(path).map_err(|e| cannot_read(path, &e))?;
                without_line_end(read_some(file, path)?)
            }
            None => text.as_bytes().to_vec(),
        },
    };
    match check_payload(&payload) {
        Ok(()) => Ok(payload),
        // How much more is not known: the rest was not read.
        Err(Error::Invalid(_)) if payload.len() > MAX_PAYLOAD_BYTES => Err(CliError::usage(
            format!("the payload has more than {MAX_PAYLOAD_BYTES} bytes, which is the most that is allowed"),
            None,
        )),
        Err(Error::Invalid(reason)) if reason.contains("not JSON") => {
            let hint = "to send text, quote it as JSON: '\"text\"'; to send a file, put @ before its name";
            Err(CliError::usage(reason, Some(hint)))
        }
        Err(error) => Err(error.into()),
    }
}

fn cannot_read(name: &str, error: &io::Error) -> CliError {
    CliError::usage(format!("cannot read {name}: {error}"), None)
}

fn read_some(source: impl Read, name: &str) -> Result<Vec<u8>, CliError> {
    // Two bytes more than permitted: a line end that will be cut, or the proof that it is too long.
    let mut bytes = Vec::new();
    let limit = MAX_PAYLOAD_BYTES as u64 + 3;
    source
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| cannot_read(name, &e))?;
    Ok(bytes)
}

fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_cut_and_nothing_else() {
        for (given, kept) in [
            ("{}\n", "{}"),
            ("{}\r\n", "{}"),
            ("{}\n\n", "{}\n"),
            (" 1 ", " 1 "),
            ("", ""),
        ] {
            assert_eq!(without_line_end(given.as_bytes().to_vec()), kept.as_bytes());
        }
    }

    #[test]
    fn a_payload_that_is_no_json_is_refused_with_a_hint() {
        for bad in ["hello", "", "{a:1}", "[1,]", "'x'"] {
            let CliError::Told { hint, .. } = read(Some(bad)).unwrap_err() else {
                panic!("{bad}")
            };
            assert!(hint.is_some_and(|hint| hint.contains("quote it")), "{bad}");
        }
        assert_eq!(read(None).unwrap(), b"null");
        assert_eq!(read(Some(" 1e400 ")).unwrap(), b" 1e400 ");
    }
}
