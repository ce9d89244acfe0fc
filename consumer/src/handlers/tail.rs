//! The end of a program's standard error: what it said last is most likely why it failed.
//!
//! Invariant: never more than [`TAIL_BYTES`] in memory, however much a program writes.

/// How much of standard error is kept. An error message is cut at 4 KiB as well.
pub(crate) const TAIL_BYTES: usize = workyard_shared::limits::MAX_ERROR_BYTES;

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Appends what was read, forgetting the oldest.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let surplus = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.cut |= surplus > 0;
        self.bytes.drain(..surplus);
    }

    /// The kept text, trimmed; a cut beginning is marked by `...`.
    pub(crate) fn text(&self) -> String {
        let mut start = 0;
        if self.cut {
            // Not in the middle of a character: skip its continuation bytes.
            start = self
                .bytes
                .iter()
                .take(3)
                .take_while(|byte| **byte & 0xC0 == 0x80)
                .count();
        }
        let text = String::from_utf8_lossy(&self.bytes[start..]);
        let text = text.trim();
        if self.cut {
            format!("...{text}")
        } else {
            text.to_owned()
        }
    }
}

/// `headline: text`, at most [`TAIL_BYTES`] long; it is the beginning of `text` that gives way.
pub(crate) fn message(headline: &str, text: &str) -> String {
    if text.is_empty() {
        return headline.to_owned();
    }
    let room = TAIL_BYTES.saturating_sub(headline.len() + ": ...".len());
    let surplus = text.len().saturating_sub(room);
    if surplus == 0 {
        return format!("{headline}: {text}");
    }
    let start = (surplus..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    format!("{headline}: ...{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_bytes_and_says_that_it_cut() {
        let mut tail = Tail::default();
        for n in 0..2000 {
            tail.push(format!("line {n} äöü\n").as_bytes());
        }
        assert!(tail.bytes.len() <= TAIL_BYTES);
        assert!(tail.text().starts_with("..."));
        assert!(tail.text().ends_with("line 1999 äöü"));
        assert!(!tail.text().contains('\u{FFFD}'), "no character is cut in half");
    }

    #[test]
    fn a_message_fits_and_keeps_the_end() {
        let long = "ä".repeat(TAIL_BYTES) + "end";
        let message = message("exit code 1", &long);
        assert!(message.len() <= TAIL_BYTES, "{}", message.len());
        assert!(message.starts_with("exit code 1: ...") && message.ends_with("end"));
    }
}
