//! From the bytes that a program or a server returned to a task's result, which is JSON.
//!
//! Invariant: what is JSON already is handed on byte for byte, never parsed and written anew: a
//! number beyond f64, the order of keys and the space between them survive.

use bytes::Bytes;
use serde::de::IgnoredAny;
use workyard_shared::limits::MAX_RESULT_BYTES;

use crate::config::Output;
use crate::{Failure, Outcome};

/// The result `null`.
pub(crate) const NULL: Bytes = Bytes::from_static(b"null");

/// What `bytes` (the output of `source`, for messages) become under `output`. Newlines at the end
/// are not part of it.
pub(crate) fn from_output(source: &str, mut bytes: Vec<u8>, output: Output) -> Outcome {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r'))
        .map_or(0, |last| last + 1);
    bytes.truncate(end);
    let result = match output {
        Output::None => NULL,
        Output::Auto if bytes.is_empty() => NULL,
        Output::Auto if is_json(&bytes) => bytes.into(),
        Output::Json if is_json(&bytes) => bytes.into(),
        Output::Json => {
            return Err(Failure::retry(format!("{source} is not JSON, as `output` demands")));
        }
        Output::Auto | Output::Text => json_string(&String::from_utf8_lossy(&bytes)),
    };
    if result.len() > MAX_RESULT_BYTES {
        Err(too_long(source))
    } else {
        Ok(result)
    }
}

/// The failure for a result beyond the limit: for good, since the next attempt would say the same.
pub(crate) fn too_long(source: &str) -> Failure {
    Failure::fatal(format!(
        "{source} is longer than the {MAX_RESULT_BYTES} bytes that a result may have"
    ))
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> Bytes {
    serde_json::Value::from(text).to_string().into()
}

/// Whether `bytes` are one JSON value, of any depth and with numbers of any size.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    // UTF-8 is checked apart: skipping over a value does not look into its strings.
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(bytes: &[u8], output: Output) -> Result<String, String> {
        from_output("stdout", bytes.to_vec(), output)
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
            .map_err(|failure| failure.message)
    }

    #[test]
    fn each_output_mode_turns_bytes_into_json() {
        let table = [
            (
                "{ \"b\": 1e400, \"a\" : [ ] }\n",
                Output::Auto,
                "{ \"b\": 1e400, \"a\" : [ ] }",
            ),
            ("12\r\n", Output::Json, "12"),
            ("12\n", Output::Text, "\"12\""),
            ("two words\n\n", Output::Auto, "\"two words\""),
            ("say \"hi\"\tnow", Output::Text, "\"say \\\"hi\\\"\\tnow\""),
            ("", Output::Auto, "null"),
            ("\n", Output::Auto, "null"),
            ("", Output::Text, "\"\""),
            ("whatever", Output::None, "null"),
            ("{\"a\":1} {\"a\":2}", Output::Auto, "\"{\\\"a\\\":1} {\\\"a\\\":2}\""),
        ];
        for (bytes, output, expected) in table {
            assert_eq!(
                convert(bytes.as_bytes(), output).as_deref(),
                Ok(expected),
                "{bytes:?} {output:?}"
            );
        }
        assert!(convert(b"no json", Output::Json).unwrap_err().contains("not JSON"));
        assert!(convert(b"", Output::Json).is_err());
    }

    #[test]
    fn bytes_that_are_no_utf8_become_a_string_with_replacement_characters() {
        assert_eq!(
            convert(b"\"\xff\"", Output::Auto).as_deref(),
            Ok("\"\\\"\u{FFFD}\\\"\"")
        );
    }

    #[test]
    fn deep_json_is_still_json() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        assert_eq!(convert(deep.as_bytes(), Output::Auto), Ok(deep));
    }

    #[test]
    fn a_text_that_grows_beyond_the_limit_by_escaping_is_refused() {
        let text = vec![1; MAX_RESULT_BYTES / 2];
        assert!(
            convert(&text, Output::Text)
                .unwrap_err()
                .contains("longer than the 1048576 bytes")
        );
    }
}
