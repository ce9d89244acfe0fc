//! The command line with roles on, as `WORKYARD_TEST_ROLES=1` asks: what `tests/src/roles.rs` is for the other tests.

use std::path::Path;

use workyard_shared::acl::{Access, Role};
use workyard_shared::name::Prefix;

/// Who the test itself is.
pub(crate) const ADMIN: &str = "admin";
const PASSWORD: &str = "of-a-test";

pub(crate) fn are_on() -> bool {
    std::env::var("WORKYARD_TEST_ROLES").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// The arguments of a server whose users are the roles and the test.
pub(crate) fn server_args(dir: &Path) -> Vec<String> {
    if !are_on() {
        return Vec::new();
    }
    let file = dir.join("users.acl");
    // Off, but not without rights: see tests/src/roles.rs.
    let mut users = format!("user default off ~* &* +@all\nuser {ADMIN} on >{PASSWORD} ~* &* +@all\n");
    for role in Role::ALL {
        let rules = Access::new(role, Prefix::default()).rules().join(" ");
        users.push_str(&format!("user {role} >{PASSWORD} {rules}\n"));
    }
    std::fs::write(&file, users).unwrap();
    [
        "--aclfile",
        file.to_str().unwrap(),
        "--masteruser",
        ADMIN,
        "--masterauth",
        PASSWORD,
    ]
    .map(str::to_owned)
    .into()
}

/// The part of an address in front of the host.
pub(crate) fn login(user: &str) -> String {
    if are_on() {
        format!("{user}:{PASSWORD}@")
    } else {
        String::new()
    }
}

/// Whom a command line is of: who adds and who waits produces, all others operate.
pub(crate) fn user_of(args: &[&str]) -> &'static str {
    let produces = ["enqueue", "map-reduce", "wait"];
    let role = if args.iter().any(|arg| produces.contains(arg)) {
        Role::Producer
    } else {
        Role::Operator
    };
    role.name()
}
