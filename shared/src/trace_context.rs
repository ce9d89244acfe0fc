//! W3C trace context in the headers of tasks: which trace a task belongs to.
//!
//! Invariant: what is here was checked: it can go into an environment, a line of JSON or a header of HTTP as it is. What
//! stands in the headers of a task and breaks the rules is no trace context: whoever comes after begins a trace of its own, as
//! the recommendation says. It makes no spans and decides about no sampling.

use std::collections::BTreeMap;

use crate::error::Error;

/// The header with trace id, parent id and flags.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what tracing systems add.
pub const TRACESTATE: &str = "tracestate";
/// Bytes of a `traceparent` of version 00.
const LEN: usize = 55;
/// Longest `traceparent` of a later version.
const MAX_LEN: usize = 256;
/// Longest `tracestate` that is carried on; the recommendation asks for no more.
const MAX_STATE: usize = 512;

/// A place in a trace: `traceparent`, and `tracestate` if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
}

impl TraceContext {
    /// Checks a `traceparent`.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what one looks like.
    pub fn new(traceparent: impl Into<String>) -> Result<Self, Error> {
        let parent = traceparent.into();
        if is_traceparent(&parent) {
            return Ok(Self { parent, state: None });
        }
        Err(Error::Invalid(
            "traceparent must be like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01: version, trace id, \
             parent id and flags, in lower case"
                .to_owned(),
        ))
    }

    /// The same with a `tracestate`; one that is empty, over 512 bytes or not visible ASCII is left out.
    #[must_use]
    pub fn with_state(mut self, tracestate: &str) -> Self {
        let fits =
            (1..=MAX_STATE).contains(&tracestate.len()) && tracestate.bytes().all(|b| (b' '..=b'~').contains(&b));
        self.state = fits.then(|| tracestate.to_owned());
        self
    }

    /// That of a task's headers, if they have a sound one.
    #[must_use]
    pub fn of(headers: &BTreeMap<String, String>) -> Option<Self> {
        let context = Self::new(headers.get(TRACEPARENT)?).ok()?;
        Some(match headers.get(TRACESTATE) {
            Some(state) => context.with_state(state),
            None => context,
        })
    }

    /// Writes it into the headers of a task, unless they say already which trace it belongs to.
    pub fn inject(&self, headers: &mut BTreeMap<String, String>) {
        if !headers.contains_key(TRACEPARENT) {
            self.overwrite(headers);
        }
    }

    /// Writes it into headers, in the place of any other.
    pub fn overwrite(&self, headers: &mut BTreeMap<String, String>) {
        headers.insert(TRACEPARENT.to_owned(), self.parent.clone());
        match &self.state {
            Some(state) => headers.insert(TRACESTATE.to_owned(), state.clone()),
            None => headers.remove(TRACESTATE),
        };
    }

    /// Version, trace id, parent id and flags.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// What tracing systems added.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The trace's id: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.parent[3..35]
    }

    /// The id of the span that this one is below: 16 hexadecimal digits.
    #[must_use]
    pub fn parent_id(&self) -> &str {
        &self.parent[36..52]
    }

    /// Whether whoever began the trace records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.parent[53..LEN], 16).is_ok_and(|flags| flags & 1 == 1)
    }
}

fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !(LEN..=MAX_LEN).contains(&bytes.len()) {
        return false;
    }
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_set = |part: &[u8]| part.iter().any(|b| *b != b'0');
    let (version, trace, parent, flags) = (&bytes[..2], &bytes[3..35], &bytes[36..52], &bytes[53..LEN]);
    // A later version may have more behind a dash; what is known of it stands in front.
    let end = match version {
        b"00" => bytes.len() == LEN,
        _ => bytes[LEN..].first().is_none_or(|b| *b == b'-') && bytes[LEN..].iter().all(u8::is_ascii_graphic),
    };
    [2, 35, 52].iter().all(|at| bytes[*at] == b'-')
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && version != b"ff"
        && is_set(trace)
        && is_set(parent)
        && end
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_taken_apart() {
        let context = TraceContext::new(SOUND).unwrap();
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent_id(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        let unsampled = TraceContext::new(SOUND.replace("-01", "-02")).unwrap();
        assert!(!unsampled.is_sampled());
        let later = format!("cc{}-what-comes", &SOUND[2..]);
        assert_eq!(TraceContext::new(later).unwrap().parent_id(), "00f067aa0ba902b7");
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let upper = SOUND.to_uppercase();
        for bad in [
            "",
            "00",
            &upper,
            &SOUND[..54],
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\nmore",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47365-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            let error = TraceContext::new(bad).unwrap_err().to_string();
            assert!(error.contains("traceparent must be like 00-"), "{bad}: {error}");
        }
    }

    #[test]
    fn headers_that_name_a_trace_keep_it() {
        let mut headers = BTreeMap::new();
        TraceContext::new(SOUND).unwrap().with_state("a=1").inject(&mut headers);
        assert_eq!(
            (headers[TRACEPARENT].as_str(), headers[TRACESTATE].as_str()),
            (SOUND, "a=1")
        );
        let other = TraceContext::new(SOUND.replace("b7", "b8")).unwrap();
        other.inject(&mut headers);
        assert_eq!(TraceContext::of(&headers).unwrap().tracestate(), Some("a=1"));
        other.overwrite(&mut headers);
        assert_eq!(TraceContext::of(&headers), Some(other));
        for bad in ["", "a=\n1", &"x".repeat(513)] {
            let context = TraceContext::new(SOUND).unwrap().with_state(bad);
            assert_eq!(context.tracestate(), None, "{bad:?}");
        }
        headers.insert(TRACEPARENT.to_owned(), "mine".to_owned());
        assert_eq!(TraceContext::of(&headers), None);
    }
}
