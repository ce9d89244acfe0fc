//! Arguments out of a payload.
//!
//! Invariant: one placeholder becomes exactly one argument, whatever is in it; there is no
//! splitting, no globbing and no shell. What could be taken for an option is refused.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::config::Arg;

/// The arguments for one task; the error says which field is unfit.
pub(super) fn expand(args: &[Arg], payload: &[u8], allow_dash: bool) -> Result<Vec<String>, String> {
    args.iter()
        .map(|arg| match arg {
            Arg::Literal(text) => Ok(text.clone()),
            Arg::Field(path) => {
                field(path, payload, allow_dash).map_err(|reason| format!("payload field {} {reason}", path.join(".")))
            }
        })
        .collect()
}

fn field(path: &[String], payload: &[u8], allow_dash: bool) -> Result<String, String> {
    let text = std::str::from_utf8(payload).map_err(|_| "is not UTF-8")?;
    let mut raw = text;
    for name in path {
        // Raw, not `Value`: a number must come out as it was written.
        let fields: HashMap<String, &RawValue> =
            serde_json::from_str(raw).map_err(|_| format!("is missing: there is no object to hold {name}"))?;
        raw = fields.get(name).ok_or("is missing")?.get();
    }
    let value = match raw.as_bytes().first() {
        Some(b'{') => {
            return Err("is an object; only text, numbers and booleans can be arguments".into());
        }
        Some(b'[') => {
            return Err("is an array; only text, numbers and booleans can be arguments".into());
        }
        Some(b'n') => return Err("is null".into()),
        Some(b'"') => serde_json::from_str(raw).map_err(|error| format!("is no text: {error}"))?,
        _ => raw.to_owned(),
    };
    if value.contains('\0') {
        return Err("holds a NUL character, which no argument can".into());
    }
    if value.starts_with('-') && !allow_dash {
        return Err("begins with '-' and could be taken for an option (allow_dash_args is off)".into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(payload: &str, path: &str, allow_dash: bool) -> Result<String, String> {
        let arg = Arg::Field(path.split('.').map(str::to_owned).collect());
        expand(&[arg], payload.as_bytes(), allow_dash).map(|mut args| args.remove(0))
    }

    #[test]
    fn scalars_become_arguments_as_they_are_written() {
        let payload = r#"{"to":"a b; $(id) \"é\"","n":1e400,"big":12345678901234567890123,"yes":true,"in":{"er":"x"},"empty":""}"#;
        let table = [
            ("to", "a b; $(id) \"é\""),
            ("n", "1e400"),
            ("big", "12345678901234567890123"),
            ("yes", "true"),
            ("in.er", "x"),
            ("empty", ""),
        ];
        for (path, expected) in table {
            assert_eq!(one(payload, path, false).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn unfit_fields_are_refused_with_the_reason() {
        let payload = r#"{"o":{},"a":[1],"z":null,"nul":"a\u0000b","dash":"--force","neg":-1,"s":"text"}"#;
        let table = [
            ("missing", "is missing"),
            ("s.deeper", "is missing"),
            ("o", "is an object"),
            ("a", "is an array"),
            ("z", "is null"),
            ("nul", "NUL"),
            ("dash", "begins with '-'"),
            ("neg", "begins with '-'"),
        ];
        for (path, reason) in table {
            let error = one(payload, path, false).unwrap_err();
            assert!(error.contains(reason) && error.contains(path), "{path}: {error}");
        }
        assert_eq!(one(payload, "dash", true).as_deref(), Ok("--force"));
        assert!(one("[1,2]", "field", false).unwrap_err().contains("no object"));
    }
}
