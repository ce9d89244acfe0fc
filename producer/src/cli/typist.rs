//! Who types: what the audit calls somebody who gave no name with `--operator`.
//!
//! It believes the environment, as the audit does: the user of Redis, which stands beside it, is what cannot be made up.

use std::path::Path;

/// `user@host` as the system calls them.
pub(super) fn whoever_types() -> String {
    let host = variable(&["HOSTNAME"]).or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    // A service, or a container, has neither variable: there the system knows who it is.
    let user = variable(&["USER", "LOGNAME"]).unwrap_or_else(|| {
        let users = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
        name_of(rustix::process::getuid().as_raw(), &users)
    });
    match host.as_deref().map(str::trim) {
        Some(host) if !host.is_empty() => format!("{user}@{host}"),
        _ => user,
    }
}

fn variable(names: &[&str]) -> Option<String> {
    let value = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    names.iter().find_map(value)
}

/// What the list of users calls one, or its number: a user of a directory service stands in no file, and one that a
/// container was told to be in none either.
fn name_of(uid: u32, users: &str) -> String {
    let uid = uid.to_string();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == uid).then_some(name)
    });
    name.map_or_else(|| format!("uid-{uid}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_name_or_its_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nbroken\n:x:7:7::/:\nada:x:1815:1815::/home/ada:/bin/sh\n";
        for (uid, name) in [(0, "root"), (1815, "ada"), (7, "uid-7"), (65532, "uid-65532")] {
            assert_eq!(name_of(uid, users), name);
        }
    }
}
