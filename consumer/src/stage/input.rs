//! What a function is run over.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::item::{Item, without_return};
use super::pairs::Groups;
use super::records::{FileText, Records, each_json};
use super::{StageContext, lines};
use crate::handler::Failure;

/// The input of one run.
#[derive(Debug)]
#[non_exhaustive]
pub enum StageInput {
    /// A map's chunk.
    Chunk(Records),
    /// A fold's sequence of values: JSON lines, one part after the other.
    Values(Vec<Bytes>),
    /// Keys, each with all of its values, for a combine or a keyed reduce.
    Groups(Groups),
}

impl StageInput {
    /// Calls `take` with the number, from 1, and the text of each item, value or group; a group is
    /// `["key",[v1,v2]]`. Ends early when the task is cancelled.
    ///
    /// # Errors
    /// Those of `take`, and those of the input.
    pub fn each(
        &self,
        ctx: &StageContext,
        mut take: impl FnMut(u64, Item<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut number = 0;
        let mut counted = |item: Item<'_>| {
            ctx.check()?;
            number += 1;
            take(number, item)
        };
        match self {
            Self::Chunk(records) => records.each_at(&mut |at, item| {
                let taken = item.and_then(&mut counted);
                taken.map_err(|failure| ctx.origin.place(failure, records.text(), at))
            }),
            Self::Values(parts) => parts.iter().try_for_each(|part| each_json(part, &mut counted)),
            Self::Groups(groups) => {
                let mut json = Vec::new();
                groups.each(|group| {
                    json.clear();
                    group.append(&mut json);
                    counted(Item::Json(std::str::from_utf8(&json)?))
                })
            }
        }
    }

    /// How long it is.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Chunk(records) => records.bytes(),
            Self::Values(parts) => parts.iter().map(Bytes::len).sum(),
            Self::Groups(groups) => groups.bytes(),
        }
    }

    /// All of it as JSON lines.
    pub(crate) fn into_json_lines(self, ctx: &StageContext) -> Result<VecDeque<Bytes>, Failure> {
        match self {
            Self::Chunk(Records::Json(text)) => Ok(VecDeque::from([text])),
            Self::Values(parts) => Ok(parts.into()),
            other => {
                let mut out = Vec::new();
                other.each(ctx, |_, item| item.write(&mut out))?;
                Ok(VecDeque::from([out.into()]))
            }
        }
    }

    /// All of it for programs that know no JSON: text as it stands, strings without quotes, CSV
    /// behind its header. Only what has no plain line (an object, a string of two lines) is JSON.
    pub(crate) fn into_text_lines(self, ctx: &StageContext) -> Result<VecDeque<Bytes>, Failure> {
        match self {
            Self::Chunk(Records::Lines(text)) => Ok(VecDeque::from([without_returns(text)])),
            Self::Chunk(Records::Files(files)) => Ok(files.into_iter().flat_map(ended).collect()),
            Self::Chunk(Records::Csv(csv)) => Ok(VecDeque::from([(csv.header + "\n").into(), csv.text])),
            other => {
                let mut out = Vec::new();
                other.each(ctx, |_, item| {
                    match item.string() {
                        Some(text) if !text.contains(['\n', '\r']) => {
                            out.extend_from_slice(text.as_bytes());
                            out.push(b'\n');
                        }
                        _ => item.write(&mut out)?,
                    }
                    Ok(())
                })?;
                Ok(VecDeque::from([out.into()]))
            }
        }
    }

    /// All of it as one JSON array.
    pub(crate) fn into_json_array(self, ctx: &StageContext) -> Result<Vec<u8>, Failure> {
        let mut out = vec![b'['];
        self.each(ctx, |number, item| {
            if number > 1 {
                out.push(b',');
            }
            item.append(&mut out)
        })?;
        out.push(b']');
        Ok(out)
    }
}

/// The lines, each with its line feed alone, as functions see them: a program would take the carriage return for part of the last word.
fn without_returns(text: Bytes) -> Bytes {
    if !text.contains(&b'\r') {
        return text;
    }
    let ends = text.ends_with(b"\n");
    let mut out = Vec::with_capacity(text.len());
    for (at, line) in lines::of(&text).enumerate() {
        if at > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(without_return(line));
    }
    if ends {
        out.push(b'\n');
    }
    out.into()
}

/// The text of a file, and the line feed that its last line may lack.
fn ended(file: FileText) -> impl Iterator<Item = Bytes> {
    let whole = file.text.is_empty() || file.text.ends_with(b"\n");
    let end = (!whole).then(|| Bytes::from_static(b"\n"));
    std::iter::once(file.text).chain(end)
}

/// JSON lines out of the JSON array that `what` is to be.
pub(crate) fn lines_of_array(what: &str, json: &[u8]) -> Result<Vec<u8>, Failure> {
    let values: Vec<&RawValue> = serde_json::from_slice(json)
        .map_err(|error| Failure::fatal(format!("{what} must be an array of what it emits: {error}")))?;
    let mut out = Vec::with_capacity(json.len());
    for value in values {
        lines::push_json(&mut out, value.get());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_programs_end_with_a_line_feed_alone() {
        for (text, lines) in [
            ("", ""),
            ("a\nb", "a\nb"),
            ("a\r\nb\r\n", "a\nb\n"),
            ("a\rb\r\n\r\nc\r", "a\rb\n\nc"),
        ] {
            assert_eq!(without_returns(Bytes::from(text)), lines, "{text:?}");
        }
    }
}
