//! Items in a stream of bytes: a JSON array, JSON lines, or lines of text.
//!
//! Invariant: an item that is wrong is named by its line or number, and no more than one item is held. Which of array and
//! lines a stream that begins with `[` is, its end tells: an array is one value, and nothing follows it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use super::spool::{MAX_ITEM, Spool, Spooled};
use crate::error::Error;

/// How items stand in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ItemFormat {
    /// A JSON array if it is one, else JSON lines.
    #[default]
    Guess,
    /// A JSON array.
    Array,
    /// One JSON value per line; empty lines are passed over.
    JsonLines,
    /// One string per line.
    Lines,
}

/// Reads all items of a file that can be read twice.
pub(crate) fn spool(mut file: File, format: ItemFormat, most_of_chunk: usize) -> Result<Spooled, Error> {
    let reader = |file: &mut File| {
        file.rewind().map_err(|e| cannot(&e))?;
        let again = file.try_clone().map_err(|e| cannot(&e))?;
        let mut reader = BufReader::with_capacity(1 << 16, again);
        skip_mark(&mut reader)?;
        Ok::<_, Error>(reader)
    };
    let mut spool = Spool::new(most_of_chunk)?;
    match format {
        ItemFormat::Array => match array(reader(&mut file)?, &mut spool)? {
            Shape::Array => {}
            Shape::Other => return Err(Error::invalid("the items are no JSON array")),
        },
        ItemFormat::JsonLines => json_lines(reader(&mut file)?, &mut spool)?,
        ItemFormat::Lines => text_lines(reader(&mut file)?, &mut spool)?,
        ItemFormat::Guess => {
            let found = array(reader(&mut file)?, &mut spool);
            if !matches!(found, Ok(Shape::Array)) {
                let mut lines = Spool::new(most_of_chunk)?;
                match (json_lines(reader(&mut file)?, &mut lines), found) {
                    (Ok(()), _) => spool = lines,
                    // Neither: it began as an array that goes over lines, so its error is the one to tell.
                    (Err(_), Err(error)) => return Err(error),
                    (Err(error), Ok(_)) => return Err(error),
                }
            }
        }
    }
    spool.done()
}

/// A byte order mark, which editors put before the first line.
fn skip_mark(reader: &mut impl BufRead) -> Result<(), Error> {
    if reader.fill_buf().map_err(|e| cannot(&e))?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(())
}

fn json_lines(reader: impl BufRead, spool: &mut Spool) -> Result<(), Error> {
    each_line(reader, |number, line| match line.trim_ascii() {
        [] => Ok(()),
        json => spool.push(json, || format!("line {number}")),
    })
}

fn text_lines(reader: impl BufRead, spool: &mut Spool) -> Result<(), Error> {
    each_line(reader, |number, line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let json = serde_json::to_vec(&String::from_utf8_lossy(line)).unwrap_or_default();
        spool.push(&json, || format!("line {number}"))
    })
}

fn each_line(mut reader: impl BufRead, mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let most = MAX_ITEM as u64 + 64;
        let read = reader
            .by_ref()
            .take(most)
            .read_until(b'\n', &mut line)
            .map_err(|e| cannot(&e))?;
        if read == 0 {
            break;
        }
        if line.len() as u64 == most && !line.ends_with(b"\n") {
            return Err(Error::invalid(format!("line {number} has more than {MAX_ITEM} bytes")));
        }
        take(number, line.strip_suffix(b"\n").unwrap_or(&line))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Array,
    Other,
}

/// Reads the elements of an array. What stands between them is checked here, the elements themselves by the spool.
fn array(reader: impl BufRead, spool: &mut Spool) -> Result<Shape, Error> {
    let mut bytes = reader.bytes();
    let mut element = Vec::new();
    let (mut depth, mut in_string, mut escaped, mut number) = (0_u32, false, false, 1_u64);
    let place = |number: u64| move || format!("item {number} of the array");
    while let Some(byte) = bytes.next() {
        let byte = byte.map_err(|e| cannot(&e))?;
        if depth == 0 {
            match byte {
                b'[' => depth = 1,
                b if b.is_ascii_whitespace() => {}
                _ => return Ok(Shape::Other),
            }
            continue;
        }
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            match byte {
                b'"' => in_string = true,
                b'[' | b'{' => depth += 1,
                b']' | b'}' if depth > 1 => depth -= 1,
                b',' if depth == 1 => {
                    spool.push(&element, place(number))?;
                    element.clear();
                    number += 1;
                    continue;
                }
                b']' => {
                    // `[]` has no item; `[1,]` has an empty one, which is no JSON.
                    if number > 1 || !element.trim_ascii().is_empty() {
                        spool.push(&element, place(number))?;
                    }
                    return rest_is_blank(bytes);
                }
                _ => {}
            }
        }
        if element.len() <= MAX_ITEM + 64 {
            element.push(byte);
        }
    }
    match depth {
        0 => Ok(Shape::Other),
        _ => Err(Error::invalid(format!("the array ends in the middle of item {number}"))),
    }
}

fn rest_is_blank(bytes: impl Iterator<Item = io::Result<u8>>) -> Result<Shape, Error> {
    for byte in bytes {
        if !byte.map_err(|e| cannot(&e))?.is_ascii_whitespace() {
            return Ok(Shape::Other);
        }
    }
    Ok(Shape::Array)
}

fn cannot(error: &io::Error) -> Error {
    Error::invalid(format!("the items cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn items(text: &str, format: ItemFormat) -> Result<Vec<String>, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let spooled = spool(file, format, 1 << 20).map_err(|e| e.to_string())?;
        let items = spooled.read().unwrap();
        Ok(items.map(|item| String::from_utf8(item.unwrap()).unwrap()).collect())
    }

    #[test]
    fn an_array_and_lines_are_told_apart_by_their_end() {
        let guess = |text: &str| items(text, ItemFormat::Guess).unwrap();
        assert_eq!(
            guess("[1, {\"a\": \"],\\\"\"} ,\n [2,3]]\n"),
            ["1", "{\"a\": \"],\\\"\"}", "[2,3]"]
        );
        assert_eq!(guess("[\"a\",1]\n[\"b\",2]\n"), ["[\"a\",1]", "[\"b\",2]"]);
        assert_eq!(guess("\u{feff}1\n\n 2 \r\n3"), ["1", "2", "3"]);
        assert_eq!(guess(" [ ] "), [""; 0]);
        assert_eq!(guess(""), [""; 0]);
        assert_eq!(items("[1]\n", ItemFormat::JsonLines).unwrap(), ["[1]"]);
        assert_eq!(
            items("a\r\n\n\"", ItemFormat::Lines).unwrap(),
            ["\"a\"", "\"\"", "\"\\\"\""]
        );
    }

    #[test]
    fn a_wrong_item_is_named() {
        for (text, format, reason) in [
            ("1\noops\n", ItemFormat::Guess, "line 2 is not JSON"),
            ("1\n\n{]\n", ItemFormat::JsonLines, "line 3 is not JSON"),
            ("[1,\n oops]", ItemFormat::Guess, "item 2 of the array is not JSON"),
            ("[1,]", ItemFormat::Array, "item 2 of the array is not JSON"),
            ("[1,\n2", ItemFormat::Guess, "in the middle of item 2"),
            ("1", ItemFormat::Array, "no JSON array"),
        ] {
            let error = items(text, format).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let long = format!("1\n\"{}\"\n", "x".repeat(2 << 20));
        assert!(
            items(&long, ItemFormat::Guess)
                .unwrap_err()
                .contains("line 2 has more than")
        );
        let long = format!("[1,\"{}\"]", "x".repeat(2 << 20));
        assert!(
            items(&long, ItemFormat::Array)
                .unwrap_err()
                .contains("item 2 of the array has more")
        );
    }
}
