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

/// Looks at version, eviction and persistence, of every server that takes writes.
///
/// # Errors
/// As [`Error`] sorts them.
pub async fn server(link: &Link) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for server in link.servers().await? {
        for finding in one(&server).await? {
            // What all of them have is said once.
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    Ok(findings)
}

async fn one(link: &Link) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    if let Some(version) = said(link, "server", "redis_version").await? {
        let mut parts = version.split('.').filter_map(|part| part.parse::<u32>().ok());
        let found = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if found < OLDEST {
            findings.push(Finding::Unsafe(format!(
                "Redis {version} is too old: 7.0 or newer is needed"
            )));
        }
    }
    // Redis and Valkey call it by two names.
    for mode in ["redis_mode", "server_mode"] {
        if !link.is_cluster() && said(link, "server", mode).await?.as_deref() == Some("cluster") {
            // It works if this one has all slots, or a proxy stands before them.
            findings.push(Finding::Warning(
                "this Redis is a node of a cluster: use redis-cluster://host:port,host:port to reach all of it"
                    .to_owned(),
            ));
        }
    }
    let policy = match setting(link, "maxmemory-policy").await? {
        // No role may read settings, since passwords are among them: INFO says what matters most.
        None => said(link, "memory", "maxmemory_policy").await?,
        policy => policy,
    };
    match policy.as_deref() {
        Some("noeviction") => {}
        Some(policy) => findings.push(Finding::Unsafe(format!(
            "maxmemory-policy is {policy}: Redis may delete tasks when memory is short; set it to noeviction"
        ))),
        None => findings.push(Finding::Warning(
            "maxmemory-policy cannot be read: make sure that it is noeviction".to_owned(),
        )),
    }
    findings.extend(persistence(link).await?);
    Ok(findings)
}

async fn persistence(link: &Link) -> Result<Option<Finding>, Error> {
    let append_only = match setting(link, "appendonly").await? {
        None => {
            let on = said(link, "persistence", "aof_enabled").await?;
            on.map(|on| if on == "1" { "yes" } else { "no" }.to_owned())
        }
        known => known,
    };
    let fsync = setting(link, "appendfsync").await?;
    let found = match (append_only.as_deref(), fsync.as_deref()) {
        (Some("yes"), Some("always")) => return Ok(None),
        (Some("yes"), fsync) => format!(
            "appendfsync is {}: a power loss can take the last seconds of accepted tasks; `always` keeps all",
            fsync.unwrap_or("unknown")
        ),
        (Some(_), _) => {
            "appendonly is no: a restart of Redis loses tasks since its last snapshot; set appendonly yes".to_owned()
        }
        (None, _) => "persistence settings cannot be read".to_owned(),
    };
    Ok(Some(Finding::Warning(found)))
}

/// What `INFO` says, if it does. Every user that Workyard can work with may ask.
async fn said(link: &Link, section: &str, field: &str) -> Result<Option<String>, Error> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg(section);
    let info = text(&link.call(&cmd).await?);
    let value = info
        .lines()
        .find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':'));
    Ok(value.map(str::to_owned))
}

/// Whether Redis, each server that takes writes, syncs each write before it answers: the `fsync` level of durability.
///
/// # Errors
/// As [`Error`] sorts them.
pub async fn syncs_always(link: &Link) -> Result<bool, Error> {
    for server in link.servers().await? {
        let on = setting(&server, "appendonly").await?.as_deref() == Some("yes");
        if !on || setting(&server, "appendfsync").await?.as_deref() != Some("always") {
            return Ok(false);
        }
    }
    Ok(true)
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
