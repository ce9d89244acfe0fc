//! Values of arguments that are more than numbers and names.
//!
//! Invariant: what is wrong is refused with what would be right, in the words of the protocol.

use std::str::FromStr;
use std::time::Duration;

use workyard_producer::State;
use workyard_shared::{Error, duration};

fn reason(error: Error) -> String {
    match error {
        Error::Invalid(text) => text,
        other => other.to_string(),
    }
}

/// A duration such as `90s` or `1h 30m`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(reason)
}

/// A name of the protocol: queue, kind, id, prefix, level.
pub(crate) fn named<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(reason)
}

/// A point in time: RFC 3339, or milliseconds since 1970.
pub(crate) fn instant(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .ok()
        .and_then(|at| u64::try_from(at.timestamp_millis()).ok())
        .ok_or_else(|| {
            format!("time \"{text}\" must be RFC 3339 such as 2030-01-31T08:00:00Z, or milliseconds since 1970")
        })
}

/// The name of a state.
pub(crate) fn state(text: &str) -> Result<State, String> {
    State::parse(text).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("state must be one of {}", names.join(", "))
    })
}

/// A header, `name=value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("header \"{text}\" must be name=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(instant("1970-01-01T00:00:01.5Z"), Ok(1500));
        assert_eq!(instant("1970-01-01T01:00:00+01:00"), Ok(0));
        assert_eq!(instant("1700000000000"), Ok(1_700_000_000_000));
        for bad in ["tomorrow", "2030-01-31", "1960-01-01T00:00:00Z", ""] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_keep_what_follows_the_first_equals_sign() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(header("ab").is_err() && header("=x").is_err());
    }
}
