//! The suite with roles on: `WORKYARD_TEST_ROLES=1`.
//!
//! Invariant: then nobody gets in without a password, and each program under test is a user with exactly the rules
//! that `workyard acl` prints for what it is there for: daemons and workers consume, the command line produces or
//! operates, whichever its command is. Only what a test does by itself, with a connection of its own, is not held back.

use std::path::Path;

use workyard_shared::acl::{Access, Role};
use workyard_shared::name::Prefix;

/// Environment variable that turns roles on, with any value but an empty one or `0`.
pub const ROLES_VARIABLE: &str = "WORKYARD_TEST_ROLES";

/// Everybody's password; servers of tests live for seconds, on loopback.
pub const PASSWORD: &str = "of-a-test";

/// Who the test itself is.
pub const ADMIN: &str = "admin";

/// Whether roles are on.
pub fn roles_are_on() -> bool {
    std::env::var(ROLES_VARIABLE).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Writes the file of users into the server's directory and returns the arguments that make it use them.
pub(crate) fn server_args(dir: &Path) -> Vec<String> {
    let file = dir.join("users.acl");
    // `default` may do everything and nobody can be it. Without rights, Redis 7.0 would replay its append-only file as a
    // user who may nothing, and silently leave out every transaction: all that functions wrote.
    let mut users = format!("user default off ~* &* +@all\nuser {ADMIN} on >{PASSWORD} ~* &* +@all\n");
    for role in Role::ALL {
        let rules = Access::new(role, Prefix::default()).rules().join(" ");
        users.push_str(&format!("user {role} >{PASSWORD} {rules}\n"));
    }
    std::fs::write(&file, users).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
    [
        "--aclfile",
        &file.to_string_lossy(),
        "--masteruser",
        ADMIN,
        "--masterauth",
        PASSWORD,
    ]
    .map(str::to_owned)
    .into()
}

/// Whom a command line of `workyard` is of: who adds and who waits produces, all others operate.
pub fn role_of(args: &[&str]) -> Role {
    let produces = ["enqueue", "map-reduce", "wait"];
    if args.iter().any(|arg| produces.contains(arg)) {
        Role::Producer
    } else {
        Role::Operator
    }
}
