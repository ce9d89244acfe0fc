//! Durations as people write them: "250ms", "30s", "1h 30m". Units: ms, s, m, h, d.
//!
//! Invariant: what [`format()`] writes, [`parse`] reads. It knows no clock.

use std::time::Duration;

use crate::error::Error;

/// Parses "1h 30m", "250ms", "0" and so on.
///
/// # Errors
/// [`Error::Invalid`] shows what would be right.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let wrong = || Error::Invalid(format!("duration \"{text}\" must be like 250ms, 30s, 5m, 2h or 1d"));
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let span = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(span).ok_or_else(wrong)?;
        rest = tail.trim_start();
        any = true;
    }
    if any { Ok(total) } else { Err(wrong()) }
}

/// Writes a duration in its largest whole units, at most two: "1h 30m", "250ms".
#[must_use]
pub fn format(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = ms;
    let mut parts = Vec::new();
    for (name, size) in units {
        let n = rest / size;
        if n > 0 {
            parts.push(format!("{n}{name}"));
            rest %= size;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "0ms".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse("1h 30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(parse("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse("0").unwrap(), Duration::ZERO);
        for bad in ["", "5", "soon", "-1s", "1x", "1s!", "99999999999999999999d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(format(Duration::from_secs(5400)), "1h 30m");
        assert_eq!(format(Duration::from_millis(1500)), "1s 500ms");
    }
}
