//! Text of others on one line of a log or a terminal.
//!
//! Invariant: no control character comes through, so whatever the text says it can neither begin a line of its own nor
//! steer a terminal.

use std::borrow::Cow;

/// The text, control characters, line and paragraph separators, and those that turn the direction of writing escaped as in a
/// Rust string.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_steering(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character does something else than being shown.
#[must_use]
pub fn is_steering(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        assert_eq!(one_line("Grüße, \u{4e16}"), "Grüße, \u{4e16}");
        assert_eq!(
            one_line("\u{1b}[31mred\n2026 INFO forged\ttab\u{202e}\u{2028}"),
            "\\u{1b}[31mred\\n2026 INFO forged\\ttab\\u{202e}\\u{2028}"
        );
    }
}
