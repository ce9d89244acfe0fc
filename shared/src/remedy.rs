//! What helps against a refusal by Redis, for who reads the error.
//!
//! Invariant: it names what this program reads, and holds nothing of what was read. Against an outage waiting helps, which is
//! no remedy.

use crate::error::{Error, lacks_right};

impl Error {
    /// What to do when Redis denied a call; `None` if that is not known, or the text of the error says it already.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        let Self::Denied(text) = self else { return None };
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if text.contains("workyard install") {
            return None;
        }
        if lacks_right(text) {
            return Some(
                "the login is right, but this user of Redis lacks that right: to look at queues, tasks and consumers is for \
                 a producer or an operator, to pause, set, cancel and retry and to see the audit for an operator, `doctor` \
                 for an administrator of Redis; `workyard acl --role producer|consumer|operator` prints the rules for each",
            );
        }
        if says(&["WRONGPASS", "invalid username-password", "AuthenticationFailed"]) {
            return Some(
                "check user and password: those of the URL, else WORKYARD_REDIS_USER with WORKYARD_REDIS_PASSWORD_FILE or \
                 WORKYARD_REDIS_PASSWORD",
            );
        }
        says(&["NOAUTH"]).then_some(
            "Redis wants a password, and none was given: say it in WORKYARD_REDIS_PASSWORD, in a file that \
             WORKYARD_REDIS_PASSWORD_FILE (--redis-password-file) names, or in the URL",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_remedy() {
        for (text, remedy) in [
            (
                "NOAUTH HELLO must be called with the client already authenticated",
                "WORKYARD_REDIS_PASSWORD_FILE",
            ),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "check user and password",
            ),
            (
                "NOPERM this user has no permissions to run the 'smembers' command",
                "workyard acl --role",
            ),
            (
                "ERR The user executing the script can't access at least one of the keys",
                "workyard acl --role",
            ),
        ] {
            let said = Error::Denied(text.to_owned()).remedy().unwrap_or_default();
            assert!(said.contains(remedy), "{text}: {said}");
        }
        for text in [
            "the certificate of Redis is not trusted; --redis-ca names the authority to trust",
            "the functions are not loaded; run `workyard install` as one who may (NOPERM)",
        ] {
            assert_eq!(Error::Denied(text.to_owned()).remedy(), None, "{text}");
        }
        assert_eq!(Error::Protocol("NOAUTH".to_owned()).remedy(), None);
    }
}
