//! The built-in functions of jobs, as far as they can be checked before one runs: the table of docs/jobs.md.
//!
//! A consumer checks by the same lines, so that a submitter who asks first hears what each chunk would have failed
//! with. Invariant: what [`check`] accepts can only fail for its input. It runs no function, and it knows nothing of a
//! consumer's own functions, which come before built-in ones of the same name.

mod args;
mod flow;

pub use args::{Counted, Field, Histogram, Nothing, Pattern, SumBy, Text, TopN, parse};
pub use flow::{Called, Misfit, check_flow};
use regex::Regex;

use super::Role;

/// Most items of `top-n`.
const MOST_TOP: usize = 100_000;

/// Whether there is a built-in function of this kind.
#[must_use]
pub fn is_builtin(kind: &str) -> bool {
    matches!(
        kind,
        "word-count"
            | "line-count"
            | "grep"
            | "identity"
            | "sum"
            | "count"
            | "min"
            | "max"
            | "top-n"
            | "histogram"
            | "sum-by-key"
    )
}

/// Whether the built-in function `kind`, if it is one, can do this with these arguments.
///
/// # Errors
/// Says what is wrong.
pub fn check(kind: &str, role: Role, keyed: bool, args: &str) -> Result<(), String> {
    if let Some(reason) = misuse(kind, role, keyed) {
        let form = if keyed { "keyed" } else { "fold" };
        return Err(format!("{kind} cannot {} in the {form} form: {reason}", role.as_str()));
    }
    let nothing = || parse::<Nothing>(kind, role, args).map(|_| ());
    match (kind, role) {
        ("grep", Role::Map) => {
            let Pattern { pattern, .. } = parse(kind, role, args)?;
            regex(kind, &pattern).map(|_| ())
        }
        ("sum" | "min" | "max", Role::Map) => parse::<Field>(kind, role, args).map(|_| ()),
        ("count", Role::Map) => check_counted(parse(kind, role, args)?),
        ("top-n", _) => check_top(&parse(kind, role, args)?),
        ("histogram", Role::Map) => check_histogram(&parse(kind, role, args)?),
        ("sum-by-key", Role::Map) => parse::<SumBy>(kind, role, args).map(|_| ()),
        ("grep", _) => Ok(()),
        _ if is_builtin(kind) => nothing(),
        _ => Ok(()),
    }
}

/// Why the function cannot do this, if it cannot.
fn misuse(kind: &str, role: Role, keyed: bool) -> Option<&'static str> {
    let reason = match (kind, role == Role::Map) {
        ("word-count" | "histogram", false) => "it is a map function; use sum-by-key or sum",
        ("line-count", false) => "it is a map function; use sum",
        ("line-count" | "sum" | "count" | "min" | "max", true) if keyed => "it gives one number and no pairs",
        ("top-n", true) if keyed => "it gives items and no pairs",
        ("grep", false) if keyed => "it selects items, not keys; use identity",
        _ => return None,
    };
    Some(reason)
}

/// The regular expression of a function.
///
/// # Errors
/// Says where it is none.
pub fn regex(kind: &str, pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("the pattern of {kind} does not fit: {error}"))
}

fn check_counted(args: Counted) -> Result<(), String> {
    match args.pattern {
        Some(pattern) => regex("count", &pattern).map(|_| ()),
        None if args.invert => Err("invert of count needs a pattern".to_owned()),
        None => Ok(()),
    }
}

fn check_top(args: &TopN) -> Result<(), String> {
    match args.n {
        1..=MOST_TOP => Ok(()),
        n => Err(format!("n of top-n must be 1 to {MOST_TOP}, not {n}")),
    }
}

fn check_histogram(args: &Histogram) -> Result<(), String> {
    let width = args.width.get();
    match width.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(()),
        _ => Err(format!("width of histogram must be a number above 0, not {width}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_chunk_would_fail_with_is_known_before_one_runs() {
        for (kind, role, keyed, args, reason) in [
            (
                "grep",
                Role::Map,
                false,
                "{}",
                "needs the argument pattern (--map-arg pattern=...)",
            ),
            (
                "grep",
                Role::Map,
                true,
                r#"{"pattern":"("}"#,
                "the pattern of grep does not fit",
            ),
            ("grep", Role::Map, false, r#"{"patern":"x"}"#, "unknown field `patern`"),
            (
                "count",
                Role::Map,
                false,
                r#"{"pattern":"["}"#,
                "the pattern of count does not fit",
            ),
            ("count", Role::Map, false, r#"{"invert":true}"#, "needs a pattern"),
            (
                "top-n",
                Role::Reduce,
                false,
                r#"{"n":"abc"}"#,
                "invalid type: string \"abc\", expected usize (--reduce-arg)",
            ),
            ("top-n", Role::Combine, true, r#"{"n":0}"#, "must be 1 to 100000, not 0"),
            (
                "histogram",
                Role::Map,
                false,
                r#"{"width":"x"}"#,
                "must be a number above 0, not \"x\"",
            ),
            (
                "histogram",
                Role::Reduce,
                false,
                "{}",
                "histogram cannot reduce in the fold form",
            ),
            (
                "sum-by-key",
                Role::Map,
                true,
                r#"{"by":"a"}"#,
                "needs the argument field",
            ),
            (
                "sum",
                Role::Map,
                true,
                "{}",
                "sum cannot map in the keyed form: it gives one number",
            ),
            ("sum", Role::Reduce, false, r#"{"field":"x"}"#, "unknown field `field`"),
            ("word-count", Role::Map, false, r#"{"n":1}"#, "unknown field `n`"),
        ] {
            let found = check(kind, role, keyed, args).unwrap_err();
            assert!(found.contains(reason), "{kind}: {found}");
        }
    }

    #[test]
    fn what_can_work_is_accepted_and_of_other_functions_nothing_is_known() {
        for (kind, role, keyed, args) in [
            ("grep", Role::Map, true, r#"{"pattern":5,"invert":true}"#),
            ("grep", Role::Reduce, false, "{}"),
            ("top-n", Role::Reduce, true, r#"{"n":3,"field":"x"}"#),
            ("histogram", Role::Map, true, r#"{"width":0.5}"#),
            ("sum-by-key", Role::Map, false, r#"{"by":"a","field":"b"}"#),
            ("sum-by-key", Role::Reduce, true, "{}"),
            ("my-own", Role::Reduce, true, r#"{"any":1}"#),
        ] {
            check(kind, role, keyed, args).unwrap();
        }
    }
}
