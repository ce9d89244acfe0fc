//! The functions library on one server: whether it is there, and loading it.

use redis::Value;

use super::node::Node;
use crate::error::Error;
use crate::functions;

/// Whether a server answered that it does not know the functions.
pub(super) fn is_lacking(error: &Error) -> bool {
    matches!(error, Error::Protocol(text) if text.contains("Function not found"))
}

/// Loads the library, replacing the same version of it.
pub(super) async fn load(node: &Node) -> Result<(), Error> {
    let mut cmd = redis::cmd("FUNCTION");
    cmd.arg("LOAD").arg("REPLACE").arg(functions::library());
    match node.send(&cmd).await {
        Ok(_) => Ok(()),
        Err(Error::Denied(text)) => Err(Error::Denied(format!(
            "the functions of Workyard are not loaded and this user may not load them; run `workyard install` as one who may ({text})"
        ))),
        Err(error) => Err(error),
    }
}

/// Loads the library if it is missing or is another build of the same version.
pub(super) async fn ensure(node: &Node) -> Result<(), Error> {
    let mut cmd = redis::cmd("FUNCTION");
    cmd.arg("LIST")
        .arg("LIBRARYNAME")
        .arg(functions::LIBRARY)
        .arg("WITHCODE");
    match node.send(&cmd).await {
        Ok(found) if holds(&found, functions::library().as_bytes()) => Ok(()),
        Ok(_) => load(node).await,
        Err(Error::Denied(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether `text` stands anywhere in a nested answer.
fn holds(value: &Value, text: &[u8]) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Map(pairs) => pairs.iter().any(|(_, item)| holds(item, text)),
        _ => false,
    }
}
