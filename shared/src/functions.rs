//! The Redis Functions library: one file per edge of the state machine, assembled at build.
//!
//! Invariant: the library's and the functions' names carry the protocol version, so that an older
//! and a newer release run side by side on one Redis. It does not decide when to load.

/// Version of the protocol; part of every function name.
pub const PROTOCOL_VERSION: u32 = 1;

/// Name of the library.
pub const LIBRARY: &str = "workyard_1";

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../lua/", $name, ".lua")))),*]
    };
}

/// What the edges share, in load order: each file sees the names of those before it.
pub const HELPERS: [(&str, &str); 15] = sources![
    "prelude",
    "record",
    "stats",
    "wake",
    "finish",
    "expire",
    "retry",
    "audit",
    "overload",
    "add",
    "settle",
    "job",
    "job_feed",
    "job_advance",
    "diagnose",
];

/// One file per edge, or per few that belong together. Their names are their own.
pub const EDGES: [(&str, &str); 25] = sources![
    "enqueue",
    "ingest",
    "claim",
    "complete",
    "fail",
    "release",
    "suspect",
    "heartbeat",
    "fleet",
    "promote",
    "reclaim",
    "sweep",
    "cancel",
    "operate",
    "settings",
    "retire",
    "wait",
    "inspect",
    "job_submit",
    "job_settle",
    "job_operate",
    "job_tend",
    "examine",
    "job_examine",
    "checkup",
];

/// Before the release of a library, in its second line.
const RELEASE: &str = "-- release ";

/// The whole library, as `FUNCTION LOAD REPLACE` takes it.
#[must_use]
pub fn library() -> String {
    let mut text = format!("#!lua name={LIBRARY}\n{RELEASE}{}\n", env!("CARGO_PKG_VERSION"));
    for (name, source) in HELPERS {
        text.push_str(&format!("-- {name}.lua\n{source}"));
    }
    for (name, source) in EDGES {
        // A block of its own: Lua allows 200 local names in one.
        text.push_str(&format!("do -- {name}.lua\n{source}end\n"));
    }
    text
}

/// Whether this text is the library of a later release than this one. One that names none is earlier than all that do.
#[must_use]
pub fn is_later(library: &str) -> bool {
    let later = |own: &str| release(library).is_some_and(|other| Some(other) > release(own));
    later(&format!("\n{RELEASE}{}", env!("CARGO_PKG_VERSION")))
}

/// The release that a library names, as numbers.
fn release(library: &str) -> Option<Vec<u64>> {
    let text = library.lines().nth(1)?.strip_prefix(RELEASE)?;
    text.split(['.', '-']).take(3).map(|part| part.parse().ok()).collect()
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
    fn of_two_libraries_the_release_tells_which_is_later() {
        let own = library();
        let named = |release: &str| own.replacen(&format!("{RELEASE}{}", env!("CARGO_PKG_VERSION")), release, 1);
        for (other, later) in [
            ("-- release 999.0.0", true),
            ("-- release 0.10.0", true),
            ("-- release 0.0.9", false),
            ("-- release ?", false),
            ("-- prelude.lua", false),
        ] {
            assert_eq!(is_later(&named(other)), later, "{other}");
        }
        assert!(!is_later(&own));
    }

    #[test]
    fn no_source_parses_payloads_or_uses_an_unbounded_command() {
        for (name, source) in HELPERS.into_iter().chain(EDGES) {
            for banned in ["cjson", "cmsgpack", "'KEYS'", "'SMEMBERS'", "math.random", "os.time"] {
                assert!(!source.contains(banned), "{name}.lua uses {banned}");
            }
        }
    }
}
