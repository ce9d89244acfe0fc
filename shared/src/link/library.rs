//! The functions library on one server: whether it is there, and loading it.

use redis::Value;

use super::node::Node;
use crate::error::Error;
use crate::functions;

/// Whether a server answered that it does not know the functions.
pub(super) fn is_lacking(error: &Error) -> bool {
    matches!(error, Error::Protocol(text) if text.contains("Function not found"))
}

/// Loads the library, replacing the same version of it; that of a later release stays.
///
/// A rolling deploy has both for a while, and a consumer of the earlier one may start last: what the later ones have come to rely on
/// must not go under them. The later library serves them all.
pub(super) async fn load(node: &Node) -> Result<(), Error> {
    match code(node).await? {
        Some(loaded) if functions::is_later(&loaded) => Ok(()),
        _ => replace(node).await,
    }
}

/// Loads the library if it is missing or is another build of the same version, and of no later release.
pub(super) async fn ensure(node: &Node) -> Result<(), Error> {
    let own = functions::library();
    match code(node).await? {
        Some(loaded) if loaded == own || functions::is_later(&loaded) => Ok(()),
        Some(_) => replace(node).await,
        None => Ok(()),
    }
}

async fn replace(node: &Node) -> Result<(), Error> {
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

/// The text of the library that is loaded, empty if none is; `None` for a user who may not look.
async fn code(node: &Node) -> Result<Option<String>, Error> {
    let mut cmd = redis::cmd("FUNCTION");
    cmd.arg("LIST")
        .arg("LIBRARYNAME")
        .arg(functions::LIBRARY)
        .arg("WITHCODE");
    match node.send(&cmd).await {
        Ok(found) => Ok(Some(code_in(&found).unwrap_or_default())),
        Err(Error::Denied(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text in a nested answer that is that of a library.
fn code_in(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) if bytes.starts_with(b"#!lua") => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::Array(items) => items.iter().find_map(code_in),
        Value::Map(pairs) => pairs.iter().find_map(|(_, item)| code_in(item)),
        _ => None,
    }
}
