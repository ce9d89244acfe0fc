//! Errors by what the caller can do about them.
//!
//! Invariant: a lost reply is [`Error::Unknown`], never a failure; an outage that a wait can mend
//! is [`Error::Unavailable`]; only bad input is [`Error::Invalid`]. It does not retry anything.

use std::time::Duration;

use redis::RedisError;

use crate::duration;
use crate::overload::Overload;

/// Everything that a call on the protocol can answer instead of a value.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule of the protocol; the text says which and what would be right.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Redis cannot serve now; nothing was changed. Waiting with backoff may help.
    #[error("Redis is unavailable ({outage}): {detail}")]
    Unavailable {
        /// What sort of outage it is.
        outage: Outage,
        /// What Redis or the network said.
        detail: String,
    },
    /// The reply was lost: the call may have been applied. Sending it again is harmless.
    #[error("the reply of Redis was lost, the call may have been applied: {0}")]
    Unknown(String),
    /// The queue has no room for all tasks of the call and its policy refuses what is new; none was added.
    #[error(
        "the queue is full: {}, {}",
        room_text(*.depth, *.limit, *.bytes),
        wait_text(*.estimated_wait)
    )]
    Full {
        /// Tasks that wait.
        depth: u64,
        /// Most that may.
        limit: u64,
        /// How long those that wait take at the pace of the last minutes while there was work; `None` if none has ended in them.
        estimated_wait: Option<Duration>,
        /// What the records of all tasks take and what they may, in bytes, if that is why; else `None`.
        bytes: Option<(u64, u64)>,
        /// The policy of the queue: one that blocks asks the producer to wait and send again.
        policy: Overload,
    },
    /// Redis refuses this user, or the user may not do this. Waiting does not help.
    #[error("Redis denied the call: {0}")]
    Denied(String),
    /// The consumer's session lease ended and its work was taken: register anew.
    #[error("the session lease of this consumer is lost")]
    LeaseLost,
    /// An answer that this version does not understand.
    #[error("unexpected answer from Redis: {0}")]
    Protocol(String),
}

/// Sorts of outages; all of them end by themselves or by an operator, none by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outage {
    /// No connection: refused, cut, timed out before the call was sent.
    Away,
    /// Redis is reading its data after a start.
    Loading,
    /// This node is a replica: a failover is under way.
    ReadOnly,
    /// `maxmemory` is reached: calls that add work are refused, others go on.
    OutOfMemory,
    /// Redis cannot write to its disk and refuses writes.
    StorageFailing,
    /// A script of somebody else holds Redis up.
    Busy,
    /// The cluster has no owner for the slot.
    ClusterDown,
}

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Away => "no connection",
            Self::Loading => "loading its data",
            Self::ReadOnly => "read-only replica",
            Self::OutOfMemory => "out of memory",
            Self::StorageFailing => "cannot write to its disk",
            Self::Busy => "busy with a script",
            Self::ClusterDown => "cluster down",
        })
    }
}

impl Error {
    /// Every [`Self::class`].
    pub const CLASSES: [&'static str; 13] = [
        "away",
        "loading",
        "read_only",
        "out_of_memory",
        "storage_failing",
        "busy",
        "cluster_down",
        "reply_lost",
        "denied",
        "lease_lost",
        "full",
        "invalid",
        "protocol",
    ];

    /// One word for what it is, for counters.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable { outage, .. } => match outage {
                Outage::Away => "away",
                Outage::Loading => "loading",
                Outage::ReadOnly => "read_only",
                Outage::OutOfMemory => "out_of_memory",
                Outage::StorageFailing => "storage_failing",
                Outage::Busy => "busy",
                Outage::ClusterDown => "cluster_down",
            },
            Self::Unknown(_) => "reply_lost",
            Self::Denied(_) => "denied",
            Self::LeaseLost => "lease_lost",
            Self::Full { .. } => "full",
            Self::Invalid(_) => "invalid",
            Self::Protocol(_) => "protocol",
        }
    }

    /// Whether waiting and sending the same call again can succeed: an outage. A full queue is none: whether to wait for
    /// room is for its policy to say.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unknown(_))
    }

    /// Whether Redis refuses only what was asked: a key of another type, an argument, a right that this user lacks. Other calls over
    /// the same connection may well be served, those of another queue above all.
    #[must_use]
    pub fn is_of_the_call(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::Protocol(_) => true,
            // Without the functions no queue is served.
            Self::Denied(text) => lacks_right(text) && !text.contains("workyard install"),
            _ => false,
        }
    }

    /// With the server that could not be reached, so that nobody has to guess which of flag, variable, file and default was
    /// taken.
    #[must_use]
    pub(crate) fn at(self, address: &dyn std::fmt::Display) -> Self {
        match self {
            Self::Unavailable {
                outage: Outage::Away,
                detail,
            } => Self::Unavailable {
                outage: Outage::Away,
                detail: format!("{address}: {detail}"),
            },
            other => other,
        }
    }

    /// Whether a key was of another type than Workyard's: something else wrote it.
    #[must_use]
    pub fn is_foreign_key(&self) -> bool {
        matches!(self, Self::Protocol(text) if text.starts_with("WRONGTYPE"))
    }

    /// Sorts an error answer by its code, wherever in the text it stands: a failing function
    /// wraps the code of the command inside it.
    #[must_use]
    pub fn from_answer(code: &str, detail: &str) -> Self {
        let text = if detail.is_empty() {
            code.to_owned()
        } else {
            format!("{code} {detail}")
        };
        if code == "INVALID" {
            return Self::Invalid(detail.to_owned());
        }
        if code == "FULL" {
            return full(detail).unwrap_or(Self::Protocol(text));
        }
        let table = [
            ("LOADING", Outage::Loading),
            ("READONLY", Outage::ReadOnly),
            ("MISCONF", Outage::StorageFailing),
            ("NOREPLICAS", Outage::StorageFailing),
            ("CLUSTERDOWN", Outage::ClusterDown),
            ("MASTERDOWN", Outage::ClusterDown),
            ("TRYAGAIN", Outage::ClusterDown),
            ("MOVED", Outage::ClusterDown),
            ("ASK", Outage::ClusterDown),
            ("BUSY", Outage::Busy),
            ("OOM", Outage::OutOfMemory),
            ("UNBLOCKED", Outage::ReadOnly),
        ];
        let says = |word: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == word);
        for denied in ["NOAUTH", "WRONGPASS", "NOPERM", "EXECABORT"] {
            if says(denied) {
                return Self::Denied(text);
            }
        }
        if lacks_right(&text) {
            return Self::Denied(text);
        }
        for (word, outage) in table {
            if code == word || says(word) {
                return Self::Unavailable { outage, detail: text };
            }
        }
        if says("WRONGTYPE") {
            return Self::Protocol(format!(
                "{text} (something else wrote a key that belongs to Workyard; `workyard doctor` names it)"
            ));
        }
        // Refused the database while it connects: the crate leaves the code away.
        if text.contains("busy running a script") {
            return Self::Unavailable {
                outage: Outage::Busy,
                detail: text,
            };
        }
        if text.contains("max number of clients reached") {
            return Self::Unavailable {
                outage: Outage::Away,
                detail: text,
            };
        }
        Self::Protocol(text)
    }
}

/// Whether the login is good and this call is not allowed. What a function did is refused in other words than a call: Redis 7.0,
/// then 7.2 and Valkey.
pub(crate) fn lacks_right(text: &str) -> bool {
    let words = ["NOPERM", "The user executing the script can't", "ACL failure in script"];
    words.iter().any(|word| text.contains(word))
}

/// What of TLS went wrong that no waiting mends, and what to do about it.
fn certificate_problem(text: &str) -> Option<String> {
    if text.contains("invalid peer certificate") {
        return Some(format!(
            "the certificate of Redis is not trusted; --redis-ca names the authority to trust ({text})"
        ));
    }
    let refused = [
        "CertificateRequired",
        "DecryptError",
        "BadCertificate",
        "UnknownCA",
        "CertificateUnknown",
        "HandshakeFailure",
    ];
    if text.contains("fatal alert") && refused.iter().any(|alert| text.contains(alert)) {
        return Some(format!(
            "Redis does not accept our certificate; --redis-cert and --redis-key name another ({text})"
        ));
    }
    None
}

fn room_text(depth: u64, limit: u64, bytes: Option<(u64, u64)>) -> String {
    match bytes {
        Some((held, most)) => format!("its tasks take about {held} bytes of at most {most}"),
        None => format!("{depth} tasks are pending of at most {limit}"),
    }
}

fn wait_text(wait: Option<Duration>) -> String {
    match wait {
        // Nobody reads milliseconds of an estimate.
        Some(wait) => format!(
            "and a new one would wait about {}",
            duration::format(Duration::from_secs(wait.as_secs().max(1)))
        ),
        None => "and none has ended in the last minutes".to_owned(),
    }
}

/// Reads `depth=1000 limit=1000 policy=block wait_ms=5000`; fields of later versions are passed over.
fn full(detail: &str) -> Option<Error> {
    let field = |name: &str| {
        let mut pairs = detail.split(' ').filter_map(|word| word.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    Some(Error::Full {
        depth: field("depth")?.parse().ok()?,
        limit: field("limit")?.parse().ok()?,
        estimated_wait: field("wait_ms")?.parse().ok().map(Duration::from_millis),
        bytes: match (field("bytes"), field("max_bytes")) {
            (Some(held), Some(most)) => Some((held.parse().ok()?, most.parse().ok()?)),
            _ => None,
        },
        policy: Overload::parse(field("policy")?)?,
    })
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        if let Some(code) = error.code() {
            return Self::from_answer(code, error.detail().unwrap_or_default());
        }
        // A name that nobody knows: nothing was sent.
        if error.is_connection_refusal() || error.to_string().starts_with("failed to lookup address") {
            return Self::Unavailable {
                outage: Outage::Away,
                detail: error.to_string(),
            };
        }
        if let Some(why) = certificate_problem(&error.to_string()) {
            return Self::Denied(why);
        }
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed => Self::Denied(error.to_string()),
            // A dropped or timed out call: it may have reached Redis.
            redis::ErrorKind::Io => Self::Unknown(error.to_string()),
            // The connection was closed inside of a reply. Other text that is no reply comes from something that is no Redis.
            redis::ErrorKind::Parse if error.to_string().contains("end of input") => Self::Unknown(error.to_string()),
            redis::ErrorKind::InvalidClientConfig => Self::Invalid(error.to_string()),
            _ => Self::Protocol(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_wherever_they_stand_in_the_text() {
        let cases = [
            (
                "READONLY",
                "You can't write against a read only replica. script: 9f",
                Outage::ReadOnly,
            ),
            (
                "ERR",
                "Error running script: -READONLY You can't write",
                Outage::ReadOnly,
            ),
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'",
                Outage::OutOfMemory,
            ),
            ("LOADING", "Redis is loading the dataset in memory", Outage::Loading),
            (
                "MISCONF",
                "Redis is configured to save RDB snapshots",
                Outage::StorageFailing,
            ),
        ];
        for (code, detail, wanted) in cases {
            match Error::from_answer(code, detail) {
                Error::Unavailable { outage, .. } => assert_eq!(outage, wanted, "{code} {detail}"),
                other => panic!("{code} {detail}: {other:?}"),
            }
        }
        assert!(matches!(Error::from_answer("NOPERM", "no"), Error::Denied(_)));
        let inside = "The user executing the script can't access at least one of the keys";
        assert!(matches!(Error::from_answer("ERR", inside), Error::Denied(_)));
        assert!(matches!(Error::from_answer("INVALID", "task 1"), Error::Invalid(_)));
        assert!(matches!(Error::from_answer("ERR", "oomph"), Error::Protocol(_)));
    }

    #[test]
    fn what_redis_refuses_of_one_call_is_told_from_what_it_refuses_of_all() {
        for (code, detail, of_the_call) in [
            (
                "WRONGTYPE",
                "Operation against a key holding the wrong kind of value",
                true,
            ),
            ("NOPERM", "this user has no permissions to access one of the keys", true),
            ("ERR", "ACL failure in script: no", true),
            (
                "WRONGPASS",
                "invalid username-password pair or user is disabled.",
                false,
            ),
            ("NOAUTH", "Authentication required.", false),
            ("READONLY", "You can't write against a read only replica.", false),
        ] {
            assert_eq!(Error::from_answer(code, detail).is_of_the_call(), of_the_call, "{code}");
        }
        let install = "the functions are not loaded; run `workyard install` as one who may (NOPERM)";
        assert!(!Error::Denied(install.to_owned()).is_of_the_call());
    }

    #[test]
    fn half_a_reply_is_a_lost_reply_and_garbage_is_none() {
        let sorted = |text: &str| {
            let error = RedisError::from((redis::ErrorKind::Parse, "parse error", text.to_owned()));
            Error::from(error).class()
        };
        assert_eq!(
            sorted("Parse error at line: 1, column: 3\nUnexpected end of input"),
            "reply_lost"
        );
        assert_eq!(sorted("Parse error at line: 1, column: 1\nUnexpected `H`"), "protocol");
    }

    #[test]
    fn a_full_queue_says_its_depth_its_limit_and_the_wait() {
        let error = Error::from_answer("FULL", "depth=1000 limit=900 policy=block wait_ms=5300");
        assert_eq!(
            error.to_string(),
            "the queue is full: 1000 tasks are pending of at most 900, and a new one would wait about 5s"
        );
        let Error::Full {
            policy, estimated_wait, ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(
            (policy, estimated_wait),
            (Overload::Block, Some(Duration::from_millis(5300)))
        );
        let of_bytes = Error::from_answer(
            "FULL",
            "depth=1 limit=0 policy=reject wait_ms=unknown bytes=70 max_bytes=64",
        );
        assert_eq!(
            of_bytes.to_string(),
            "the queue is full: its tasks take about 70 bytes of at most 64, and none has ended in the last minutes"
        );
        let unknown = Error::from_answer("FULL", "depth=1 limit=1 policy=shed wait_ms=unknown");
        assert!(matches!(
            unknown,
            Error::Full {
                estimated_wait: None,
                ..
            }
        ));
        assert!(matches!(Error::from_answer("FULL", "of it"), Error::Protocol(_)));
    }
}
