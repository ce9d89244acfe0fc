//! What built-in functions hand to each other: pairs of them that can never work together.
//!
//! Invariant: only what would fail, or count something else than its name says, for each input that has an item is refused. Of a function of the user's own nothing is
//! known, and of `identity` and `grep` no more than of their input.

use serde_json::Value;

/// A function by its kind, with its arguments as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// A JSON object.
    pub args: &'a str,
}

/// Two functions that do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which two, and why.
    pub reason: String,
    /// What would fit, as options of the command line.
    pub hint: String,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Number,
    Object,
    Unknown,
}

/// Whether a job's functions, as far as they are built in, can work together.
///
/// # Errors
/// Names the first two that cannot.
pub fn check_flow(map: Called<'_>, combine: Option<Called<'_>>, reduce: Called<'_>, keyed: bool) -> Result<(), Misfit> {
    let mut from = map;
    let mut shape = mapped(map, keyed);
    count_counts(map, combine, reduce, keyed)?;
    if let Some(combine) = combine {
        fit(from, shape, combine, "combine", keyed)?;
        shape = combined(combine.kind, shape);
        from = combine;
    }
    fit(from, shape, reduce, "reduce", keyed)
}

/// `count` behind what has not been counted adds the items up, and behind what has been counted it counts counts.
fn count_counts(map: Called<'_>, combine: Option<Called<'_>>, reduce: Called<'_>, keyed: bool) -> Result<(), Misfit> {
    if reduce.kind != "count" {
        return Ok(());
    }
    match combine {
        None if !keyed && matches!(map.kind, "grep" | "identity") => Err(Misfit {
            reason: format!(
                "count as the reduce of a fold adds up counts, and {} emits the items themselves",
                map.kind
            ),
            hint: match map.kind {
                "grep" => "say --map count --map-arg pattern=...".to_owned(),
                _ => "say --map count, or --reduce sum for the sum of the items".to_owned(),
            },
        }),
        Some(combine) if combine.kind == "count" => Err(Misfit {
            reason: "count behind the combiner count says in how many chunks a key is, not how many values it has"
                .to_owned(),
            hint: "say --reduce sum".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn has_field(function: Called<'_>) -> bool {
    serde_json::from_str::<Value>(function.args).is_ok_and(|args| args.get("field").is_some_and(|name| !name.is_null()))
}

/// What a map emits; in the keyed form the values of its pairs.
fn mapped(map: Called<'_>, keyed: bool) -> Shape {
    match map.kind {
        "word-count" | "histogram" | "sum-by-key" if keyed => Shape::Number,
        "word-count" | "histogram" | "sum-by-key" => Shape::Object,
        "line-count" | "sum" | "count" | "min" | "max" => Shape::Number,
        "top-n" if has_field(map) => Shape::Object,
        "top-n" => Shape::Number,
        _ => Shape::Unknown,
    }
}

/// The values behind a combiner.
fn combined(kind: &str, values: Shape) -> Shape {
    match kind {
        "sum" | "count" | "min" | "max" | "sum-by-key" => Shape::Number,
        "identity" | "top-n" => values,
        _ => Shape::Unknown,
    }
}

/// What a reduce or combiner works on.
fn taken(to: Called<'_>, keyed: bool) -> Shape {
    match to.kind {
        "sum" | "min" | "max" => Shape::Number,
        "count" if !keyed => Shape::Number,
        "sum-by-key" if keyed => Shape::Number,
        "sum-by-key" => Shape::Object,
        "top-n" if has_field(to) => Shape::Object,
        "top-n" => Shape::Number,
        _ => Shape::Unknown,
    }
}

fn fit(from: Called<'_>, emitted: Shape, to: Called<'_>, role: &str, keyed: bool) -> Result<(), Misfit> {
    let wanted = taken(to, keyed);
    let (has, wants) = match (emitted, wanted) {
        (Shape::Object, Shape::Number) => ("objects", "numbers"),
        (Shape::Number, Shape::Object) => ("numbers", "objects"),
        _ => return Ok(()),
    };
    let form = if keyed { "keyed" } else { "fold" };
    let by_key = matches!(from.kind, "word-count" | "histogram" | "sum-by-key");
    let hint = match (wanted, to.kind) {
        (Shape::Number, _) if by_key => format!("say --keyed for the {} of each key, or --reduce sum-by-key", to.kind),
        (Shape::Number, _) => "say --reduce identity, or take another function".to_owned(),
        (_, "top-n") => format!("leave the argument field of top-n as {role} out"),
        _ => format!("say --{role} sum"),
    };
    Err(Misfit {
        reason: format!(
            "{} cannot {role} what {} emits in the {form} form: these are {has}, and it takes {wants}",
            to.kind, from.kind
        ),
        hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(text: &str, keyed: bool) -> Result<(), Misfit> {
        let called: Vec<Called<'_>> = text
            .split(" > ")
            .map(|word| {
                let (kind, args) = word.split_once(' ').unwrap_or((word, "{}"));
                Called { kind, args }
            })
            .collect();
        match called[..] {
            [map, reduce] => check_flow(map, None, reduce, keyed),
            [map, combine, reduce] => check_flow(map, Some(combine), reduce, keyed),
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn what_fails_for_each_input_is_refused_with_what_would_fit() {
        for (text, keyed, reason, hint) in [
            (
                "word-count > count",
                false,
                "count cannot reduce what word-count emits in the fold form",
                "--keyed",
            ),
            (
                "word-count > sum",
                false,
                "these are objects, and it takes numbers",
                "--reduce sum-by-key",
            ),
            (
                "histogram > top-n {\"n\":1}",
                false,
                "top-n cannot reduce",
                "--keyed for the top-n of each key",
            ),
            (
                "line-count > sum-by-key",
                false,
                "these are numbers, and it takes objects",
                "--reduce sum",
            ),
            (
                "top-n {\"n\":1,\"field\":\"a\"} > max",
                false,
                "objects",
                "--reduce identity",
            ),
            (
                "max > top-n {\"n\":1,\"field\":\"a\"}",
                false,
                "numbers",
                "leave the argument field",
            ),
            (
                "word-count > top-n {\"n\":1,\"field\":\"a\"}",
                true,
                "in the keyed form",
                "leave the argument field",
            ),
            (
                "identity > sum > top-n {\"n\":1,\"field\":\"a\"}",
                true,
                "what sum emits",
                "leave the argument field",
            ),
            ("identity > count", false, "adds up counts", "--map count"),
            (
                "grep {\"pattern\":\"x\"} > count",
                false,
                "grep emits the items",
                "--map-arg pattern",
            ),
            ("word-count > count > count", true, "in how many chunks", "--reduce sum"),
        ] {
            let found = flow(text, keyed).unwrap_err();
            assert!(found.reason.contains(reason), "{text}: {found:?}");
            assert!(found.hint.contains(hint), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_can_work_for_some_input_is_not() {
        for (text, keyed) in [
            ("word-count > sum-by-key", false),
            ("word-count > identity", false),
            ("word-count > my-own", false),
            ("my-own > sum", false),
            ("grep > sum", false),
            ("identity > top-n {\"n\":1,\"field\":\"a\"}", false),
            ("top-n {\"n\":1,\"field\":null} > top-n {\"n\":1}", false),
            ("min > max", false),
            ("count > count", false),
            ("word-count > count", true),
            ("identity > count", true),
            ("word-count > count > sum", true),
            ("my-own > count", false),
            ("word-count > sum-by-key > max", true),
            ("identity > identity > top-n {\"n\":1,\"field\":\"a\"}", true),
            ("histogram > my-own > top-n {\"n\":1,\"field\":\"a\"}", true),
        ] {
            assert_eq!(flow(text, keyed), Ok(()), "{text}");
        }
    }
}
