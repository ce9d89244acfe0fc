//! A word that is none of those that are known, and the one of them that was probably meant.
//!
//! Invariant: it only guesses, and rather says nothing: at most two letters are wrong, and no more than a third of them.

/// The candidate that `word` probably stands for, whatever its case.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let candidates = candidates.into_iter();
    candidates
        .map(|known| (strsim::osa_distance(&word, &known.to_lowercase()), known))
        .filter(|(wrong, known)| *wrong <= 2 && 3 * wrong <= known.len())
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_named_and_nothing_that_is_far() {
        let known = ["emails", "shop", "Mail.Send"];
        for (word, meant) in [
            ("emials", Some("emails")),
            ("shpo", Some("shop")),
            ("mail-send", Some("Mail.Send")),
            ("shop-2024", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
