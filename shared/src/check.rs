//! What of a Redis' settings is unsafe for a queue, found out at start.
//!
//! Invariant: what cannot be asked (a managed service hides it) is reported as unknown, never
//! assumed. It changes nothing.

use redis::Value;

use crate::error::Error;
use crate::link::Link;

/// Oldest Redis with what the protocol needs (functions, sharded pub/sub).
const OLDEST: (u32, u32) = (7, 0);

/// A finding about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Tasks can be lost or calls cannot work: do not start.
    Unsafe(String),
    /// Worth knowing.
    Warning(String),
}

/// Looks at version, eviction and persistence.
///
/// # Errors
/// As [`Error`] sorts them.
pub async fn server(link: &Link) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut cmd = redis::cmd("INFO");
    cmd.arg("server");
    let info = text(&link.call(&cmd).await?);
    if let Some(version) = info.lines().find_map(|line| line.strip_prefix("redis_version:")) {
        let mut parts = version.split('.').filter_map(|part| part.parse::<u32>().ok());
        let found = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if found < OLDEST {
            findings.push(Finding::Unsafe(format!(
                "Redis {version} is too old: 7.0 or newer is needed"
            )));
        }
    }
    match setting(link, "maxmemory-policy").await?.as_deref() {
        Some("noeviction") => {}
        Some(policy) => findings.push(Finding::Unsafe(format!(
            "maxmemory-policy is {policy}: Redis may delete tasks when memory is short; set it to noeviction"
        ))),
        None => findings.push(Finding::Warning(
            "maxmemory-policy cannot be read: make sure that it is noeviction".to_owned(),
        )),
    }
    let append_only = setting(link, "appendonly").await?;
    let fsync = setting(link, "appendfsync").await?;
    match (append_only.as_deref(), fsync.as_deref()) {
        (Some("yes"), Some("always")) => {}
        (Some("yes"), fsync) => findings.push(Finding::Warning(format!(
            "appendfsync is {}: a power loss can take the last seconds of accepted tasks; `always` keeps all",
            fsync.unwrap_or("unknown")
        ))),
        (Some(_), _) => findings.push(Finding::Warning(
            "appendonly is no: a restart of Redis loses tasks since its last snapshot; set appendonly yes".to_owned(),
        )),
        (None, _) => findings.push(Finding::Warning("persistence settings cannot be read".to_owned())),
    }
    Ok(findings)
}

/// Whether Redis syncs each write before it answers: the `fsync` level of durability.
///
/// # Errors
/// As [`Error`] sorts them.
pub async fn syncs_always(link: &Link) -> Result<bool, Error> {
    let on = setting(link, "appendonly").await?.as_deref() == Some("yes");
    Ok(on && setting(link, "appendfsync").await?.as_deref() == Some("always"))
}

/// One setting; `None` if this user may not read it or the service hides it.
async fn setting(link: &Link, name: &str) -> Result<Option<String>, Error> {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg(name);
    match link.call(&cmd).await {
        Ok(Value::Map(pairs)) => Ok(pairs
            .first()
            .map(|(_, value)| text(value))
            .filter(|text| !text.is_empty())),
        Ok(Value::Array(items)) => Ok(items.get(1).map(text).filter(|text| !text.is_empty())),
        Ok(_) | Err(Error::Denied(_) | Error::Protocol(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}
