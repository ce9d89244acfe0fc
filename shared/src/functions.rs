//! The Redis Functions library: one file per edge of the state machine, assembled at build.
//!
//! Invariant: the library's and the functions' names carry the protocol version, so that an older
//! and a newer release run side by side on one Redis. It does not decide when to load.

/// Version of the protocol; part of every function name.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the library.
pub const LIBRARY: &str = "workyard_1";

/// The sources in load order: helpers first, then the edges.
pub const SOURCES: [(&str, &str); 21] = [
    ("prelude", include_str!("../lua/prelude.lua")),
    ("record", include_str!("../lua/record.lua")),
    ("stats", include_str!("../lua/stats.lua")),
    ("wake", include_str!("../lua/wake.lua")),
    ("finish", include_str!("../lua/finish.lua")),
    ("add", include_str!("../lua/add.lua")),
    ("enqueue", include_str!("../lua/enqueue.lua")),
    ("ingest", include_str!("../lua/ingest.lua")),
    ("claim", include_str!("../lua/claim.lua")),
    ("settle", include_str!("../lua/settle.lua")),
    ("complete", include_str!("../lua/complete.lua")),
    ("fail", include_str!("../lua/fail.lua")),
    ("release", include_str!("../lua/release.lua")),
    ("heartbeat", include_str!("../lua/heartbeat.lua")),
    ("promote", include_str!("../lua/promote.lua")),
    ("reclaim", include_str!("../lua/reclaim.lua")),
    ("sweep", include_str!("../lua/sweep.lua")),
    ("cancel", include_str!("../lua/cancel.lua")),
    ("operate", include_str!("../lua/operate.lua")),
    ("wait", include_str!("../lua/wait.lua")),
    ("inspect", include_str!("../lua/inspect.lua")),
];

/// The whole library, as `FUNCTION LOAD REPLACE` takes it.
#[must_use]
pub fn library() -> String {
    let mut text = format!("#!lua name={LIBRARY}\n");
    for (name, source) in SOURCES {
        text.push_str("-- ");
        text.push_str(name);
        text.push_str(".lua\n");
        text.push_str(source);
    }
    text
}

/// The full name of a function: `workyard_1_claim` for `claim`.
#[must_use]
pub fn name(edge: &str) -> String {
    format!("{LIBRARY}_{edge}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_source_parses_payloads_or_uses_an_unbounded_command() {
        for (name, source) in SOURCES {
            for banned in ["cjson", "cmsgpack", "'KEYS'", "'SMEMBERS'", "math.random", "os.time"] {
                assert!(!source.contains(banned), "{name}.lua uses {banned}");
            }
        }
    }
}
