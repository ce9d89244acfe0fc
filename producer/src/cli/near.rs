//! Envelope fields that look like a slip of the pen.
//!
//! Invariant: it only guesses. Unknown fields are kept with the task whatever they are called.

use workyard_shared::envelope::FIELDS;
use workyard_shared::near::nearest;

/// The field that was probably meant by an unknown name.
pub(crate) fn meant(name: &str) -> Option<&'static str> {
    nearest(name, FIELDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_recognised_and_other_names_left_alone() {
        for (name, field) in [
            ("priorty", "priority"),
            ("Priority", "priority"),
            ("maxAttempts", "max_attempts"),
            ("kidn", "kind"),
            ("time-out", "timeout"),
            ("expires_on", "expires_in"),
        ] {
            assert_eq!(meant(name), Some(field), "{name}");
        }
        for name in ["a", "to", "ids", "colour", "tenant", "trace_id", "time", ""] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
