//! Values of arguments that are more than numbers and names.
//!
//! Invariant: what is wrong is refused with what would be right, in the words of the protocol.

use std::str::FromStr;
use std::time::Duration;

use workyard_producer::{JobState, RawJson, State};
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

/// A pause between two looks: short enough to be of use, long enough to be no flood.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
    let pause = span(text)?;
    if (least..=most).contains(&pause) {
        return Ok(pause);
    }
    Err(format!("{text} is out of range; give 100ms to 1h"))
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

/// The name of a state of a job.
pub(crate) fn job_state(text: &str) -> Result<JobState, String> {
    let wrong = "state must be one of pending, mapping, shuffling, reducing, completed, failed, cancelled";
    JobState::parse(text).ok_or_else(|| wrong.to_owned())
}

/// A header, `name=value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("header \"{text}\" must be name=value")),
    }
}

/// A size: of a number of items, or of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) number: u64,
    /// A unit says so.
    pub(crate) is_bytes: bool,
}

/// `100`, `64KiB`, `1.5MB`.
pub(crate) fn size(text: &str) -> Result<Size, String> {
    let wrong = || format!("size \"{text}\" must be a number, or like 64KiB, 16MiB or 1GiB");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let is_bytes = !unit.trim().is_empty();
    let whole = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        // A part of a unit, so that rounding to bytes loses nothing that was meant.
        Err(_) if is_bytes => number.parse::<f64>().ok().map(|part| (part * factor as f64) as u64),
        Err(_) => None,
    };
    whole.map(|number| Size { number, is_bytes }).ok_or_else(wrong)
}

/// A number of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    size(text).map(|size| size.number)
}

/// An argument of a function: `name=value`, the value as JSON, byte for byte, if it is. White space around it is meant, so it
/// is a string then.
pub(crate) fn argument(text: &str) -> Result<(String, RawJson), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let is_json = value.trim() == value && serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
            let json = if is_json {
                value.to_owned()
            } else {
                serde_json::Value::from(value).to_string()
            };
            Ok((name.to_owned(), RawJson::new(json.into())))
        }
        _ => Err(format!("argument \"{text}\" must be name=value")),
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

    #[test]
    fn sizes_have_a_unit_or_count_items() {
        let of = |text: &str| size(text).map(|size| (size.number, size.is_bytes));
        assert_eq!(of("100"), Ok((100, false)));
        assert_eq!(of("64KiB"), Ok((65_536, true)));
        assert_eq!(of("1.5 MiB"), Ok((1_572_864, true)));
        assert_eq!(of("2gb"), Ok((2_000_000_000, true)));
        for bad in ["", "x", "1.5", "-1", "1 apple", "99999999999999999999", "KiB"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_are_json_where_they_can_be() {
        let value = |text: &str| argument(text).map(|(_, value)| String::from_utf8_lossy(value.bytes()).into_owned());
        assert_eq!(value("n=10"), Ok("10".to_owned()));
        assert_eq!(value("pattern=fn"), Ok("\"fn\"".to_owned()));
        assert_eq!(value("a=[1,\"x=y\"]"), Ok("[1,\"x=y\"]".to_owned()));
        assert_eq!(value("a=1.50"), Ok("1.50".to_owned()));
        assert_eq!(value("a= 5"), Ok("\" 5\"".to_owned()));
        assert_eq!(value("a=\"5\""), Ok("\"5\"".to_owned()));
        assert_eq!(value("a="), Ok("\"\"".to_owned()));
        assert!(value("a").is_err() && value("=1").is_err());
    }
}
