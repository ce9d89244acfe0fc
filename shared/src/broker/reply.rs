//! Raw replies into Rust values; what does not fit is [`Error::Protocol`].

use bytes::Bytes;
use redis::Value;

use crate::error::Error;

fn odd(what: &str, value: &Value) -> Error {
    let shown: String = format!("{value:?}").chars().take(120).collect();
    Error::Protocol(format!("expected {what}, got {shown}"))
}

pub(super) fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        other => Err(odd("an array", &other)),
    }
}

pub(super) fn bytes(value: Value) -> Result<Bytes, Error> {
    match value {
        Value::BulkString(bytes) => Ok(Bytes::from(bytes)),
        Value::SimpleString(text) => Ok(Bytes::from(text)),
        Value::Okay => Ok(Bytes::from_static(b"OK")),
        other => Err(odd("a string", &other)),
    }
}

pub(super) fn string(value: Value) -> Result<String, Error> {
    let bytes = bytes(value)?;
    String::from_utf8(bytes.into()).map_err(|_| Error::Protocol("text is not UTF-8".to_owned()))
}

pub(super) fn strings(value: Value) -> Result<Vec<String>, Error> {
    array(value)?.into_iter().map(string).collect()
}

/// The fields of a hash with their values.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, String)>, Error> {
    match value {
        Value::Map(pairs) => pairs.into_iter().map(|(k, v)| Ok((string(k)?, string(v)?))).collect(),
        other => {
            let flat = strings(other)?;
            let (pairs, _) = flat.as_chunks::<2>();
            Ok(pairs.iter().map(|[k, v]| (k.clone(), v.clone())).collect())
        }
    }
}

/// Members of a sorted set with their scores, which are whole numbers from 0 on.
pub(super) fn scored(value: Value) -> Result<Vec<(String, u64)>, Error> {
    let pair = |value| {
        let mut pair = array(value)?.into_iter();
        let (Some(member), Some(Value::Double(score))) = (pair.next(), pair.next()) else {
            return Err(Error::Protocol("a member without its score".to_owned()));
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^53")]
        Ok((string(member)?, score.max(0.0) as u64))
    };
    array(value)?.into_iter().map(pair).collect()
}

pub(super) fn int(value: &Value) -> Result<i64, Error> {
    match value {
        Value::Int(n) => Ok(*n),
        Value::BulkString(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or_else(|| odd("a whole number", value)),
        other => Err(odd("a whole number", other)),
    }
}

pub(super) fn count(value: &Value) -> Result<u64, Error> {
    int(value)?.try_into().map_err(|_| odd("a count", value))
}

/// Exactly `N` integers.
pub(super) fn counts<const N: usize>(value: Value) -> Result<[u64; N], Error> {
    let items = array(value)?;
    let numbers: Vec<u64> = items.iter().map(count).collect::<Result<_, _>>()?;
    numbers
        .try_into()
        .map_err(|_| Error::Protocol(format!("expected {N} numbers")))
}
