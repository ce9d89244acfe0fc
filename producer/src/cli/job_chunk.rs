//! What a chunk is made of, in a line for people.
//!
//! Invariant: what others wrote is shortened and cannot drive the terminal.

use workyard_shared::crypto::{is_sealed, key_of};
use workyard_shared::job::{Chunk, Slice};

use super::output::clean;

/// Characters of a name or of an item.
const SHOWN: usize = 120;

/// The description of a chunk in words.
pub(crate) fn words(description: &[u8]) -> String {
    if is_sealed(description) {
        return key_of(description).map_or_else(|why| why.to_string(), |key| format!("sealed with key {key}"));
    }
    match serde_json::from_slice(description) {
        Ok(Chunk::Items(items)) => {
            let first = items.first().map_or("", |item| item.get());
            let first = clean(first, SHOWN);
            match items.len() {
                0 => "no items".to_owned(),
                1 => format!("item {first}"),
                n => format!("{n} items, the first {first}"),
            }
        }
        Ok(Chunk::Lines(slices) | Chunk::JsonLines(slices) | Chunk::Files(slices)) => of_slices(&slices),
        Ok(Chunk::Csv(csv)) => of_slices(&csv.slices),
        // Of another client, or of a later version.
        _ => clean(&String::from_utf8_lossy(description), SHOWN),
    }
}

fn of_slices(slices: &[Slice]) -> String {
    let Some(first) = slices.first() else {
        return "no files".to_owned();
    };
    let name = clean(first.url.strip_prefix("file://").unwrap_or(&first.url), SHOWN);
    let range = match (first.start, first.end) {
        (0, end) if end == first.size => name,
        (start, end) => format!("{name}, bytes {start} to {end}"),
    };
    match slices.len() as u64 - 1 {
        0 => range,
        more => format!("{range}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_chunk_is_told_by_its_file_and_bytes_or_its_first_item() {
        let slice = |name: &str, start: u64, end: u64| {
            format!(r#"{{"url":"file:///in/{name}","start":{start},"end":{end},"size":90,"version":"1"}}"#)
        };
        let table = [
            (r#"{"items":[1]}"#.to_owned(), "item 1"),
            (r#"{"items":["a",2]}"#.to_owned(), "2 items, the first \"a\""),
            (format!(r#"{{"lines":[{}]}}"#, slice("a", 0, 90)), "/in/a"),
            (
                format!(r#"{{"files":[{}]}}"#, slice("a", 8, 17)),
                "/in/a, bytes 8 to 17",
            ),
            (
                format!(
                    r#"{{"csv":{{"header":"x","slices":[{},{}]}}}}"#,
                    slice("a", 2, 90),
                    slice("b", 2, 9)
                ),
                "/in/a, bytes 2 to 90, and 1 more",
            ),
            ("{\"x\":\"\u{1b}\"}".to_owned(), "{\"x\":\"\\u{1b}\"}"),
        ];
        for (description, expected) in table {
            assert_eq!(words(description.as_bytes()), expected, "{description}");
        }
    }
}
