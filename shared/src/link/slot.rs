//! Which hash slot of a cluster a command belongs to.
//!
//! Invariant: it knows the commands that this product sends; of any other the first argument counts as its key, as
//! with almost all of Redis' commands.

use redis::{Arg, Cmd};

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16384;

/// Commands on a server, not on a key.
const KEYLESS: [&str; 20] = [
    "PING", "TIME", "INFO", "CONFIG", "FUNCTION", "COMMAND", "CLUSTER", "CLIENT", "ACL", "ROLE", "WAIT", "WAITAOF",
    "FLUSHALL", "FLUSHDB", "DBSIZE", "SCAN", "LATENCY", "SLOWLOG", "SCRIPT", "READONLY",
];
/// Commands whose keys stand behind their number.
const COUNTED: [&str; 4] = ["FCALL", "FCALL_RO", "EVAL", "EVALSHA"];

/// The slot of a key: of what stands between its first braces, if anything does.
pub(super) fn of_key(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let inner = &key[open + 1..];
    match inner.iter().position(|byte| *byte == b'}') {
        Some(length) if length > 0 => &inner[..length],
        _ => key,
    }
}

/// The slot of a command; `None` if it has no key.
pub(super) fn of_command(cmd: &Cmd) -> Option<u16> {
    let mut args = cmd.args_iter().filter_map(|arg| match arg {
        Arg::Simple(bytes) => Some(bytes),
        Arg::Cursor => None,
        _ => None,
    });
    let name = args.next()?;
    let is_in = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    if is_in(&KEYLESS) {
        return None;
    }
    if is_in(&COUNTED) {
        let count = args.nth(1)?;
        return if count == b"0" { None } else { args.next().map(of_key) };
    }
    args.next().map(of_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        // Its own example, and what CLUSTER KEYSLOT says.
        assert_eq!(crc16::State::<crc16::XMODEM>::calculate(b"123456789"), 0x31C3);
        assert_eq!(of_key(b"foo"), 12182);
        assert_eq!(of_key(b"workyard:{foo}:tasks"), 12182);
        assert_eq!(of_key(b"a{foo}{bar}"), 12182);
        assert_eq!(of_key(b"a{}{foo}"), of_key(b"a{}{foo}"));
        assert_ne!(of_key(b"a{}{foo}"), 12182);
        assert_ne!(of_key(b"{foo"), 12182);
    }

    #[test]
    fn a_command_belongs_to_its_first_key_wherever_that_stands() {
        let words = |words: &[&str]| {
            let mut cmd = redis::cmd(words[0]);
            cmd.arg(&words[1..]);
            of_command(&cmd)
        };
        assert_eq!(words(&["GET", "foo"]), Some(12182));
        assert_eq!(
            words(&["fcall", "workyard_1_claim", "2", "{foo}a", "{foo}b", "x"]),
            Some(12182)
        );
        assert_eq!(words(&["SSUBSCRIBE", "p:{foo}:wake:c"]), Some(12182));
        assert_eq!(words(&["FCALL", "f", "0"]), None);
        assert_eq!(words(&["TIME"]), None);
        assert_eq!(words(&["INFO", "memory"]), None);
    }
}
