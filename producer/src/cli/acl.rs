//! `acl`: the least rules for a user of Redis, to be sent to it by an administrator.
//!
//! Invariant: it connects to nothing, and what it prints holds no password.

use serde_json::json;
use workyard_producer::LinkConfig;
use workyard_shared::acl::Access;

use super::args::{AclArgs, Global};
use super::exit::{CliError, Exit};
use super::managed::MANAGED;
use super::output::Out;

/// Runs the command.
pub(crate) fn run(args: &AclArgs, global: &Global) -> Result<Exit, CliError> {
    let access = Access {
        queues: args.queues.clone(),
        database: database(&global.redis_url)?,
        waitaof: args.waitaof,
        ..Access::new(args.role, global.prefix.clone().unwrap_or_default())
    };
    let user = match &args.user {
        Some(user) => user.to_string(),
        None => format!("workyard-{}", args.role),
    };
    let mut out = Out::new(global.json);
    if out.json {
        let queues: Vec<&str> = access.queues.iter().map(|queue| queue.as_str()).collect();
        out.document(&json!({
            "role": args.role.name(), "user": user, "queues": queues, "rules": access.rules(),
            "command": access.command(&user),
        }))?;
    } else {
        out.line(&access.command(&user))?;
        out.note(&format!(
            "note: a user who is new needs a password: ACL SETUSER {user} >..., and ACL SAVE or CONFIG REWRITE keeps it"
        ));
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// The number in the address; a managed server has its tasks in database 0.
fn database(url: &str) -> Result<i64, CliError> {
    if url == MANAGED {
        return Ok(0);
    }
    Ok(LinkConfig::from_url(url)?.database())
}
