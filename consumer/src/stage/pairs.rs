//! Pairs: read from lines, brought together by key, put in order, split into partitions.
//!
//! Invariant: a key stands once in [`Groups`], in the order of keys, and its values stand in the
//! order of their lines. Values stay where they were read; only their places are moved.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use workyard_shared::job::PairKey;

use super::lines;
use crate::handler::Failure;

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
struct Span {
    source: u32,
    start: u32,
    end: u32,
}

/// Keys with their values.
#[derive(Debug)]
pub struct Groups {
    sources: Vec<Bytes>,
    groups: Vec<(PairKey, Vec<Span>)>,
}

/// One key and its values, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) key: &'a PairKey,
    sources: &'a [Bytes],
    spans: &'a [Span],
}

impl<'a> Group<'a> {
    /// The JSON of each value.
    pub(crate) fn values(self) -> impl Iterator<Item = &'a str> {
        self.spans.iter().map(move |span| text_at(self.sources, *span))
    }

    /// Appends `["key",[v1,v2]]`.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        out.push(b'[');
        lines::append_json(out, self.key.as_json());
        out.extend_from_slice(b",[");
        for (at, value) in self.values().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            lines::append_json(out, value);
        }
        out.extend_from_slice(b"]]");
    }
}

/// The text of a value. A span is made from UTF-8 that was checked, so there is always one.
fn text_at(sources: &[Bytes], span: Span) -> &str {
    let bytes = sources
        .get(span.source as usize)
        .and_then(|source| source.get(span.start as usize..span.end as usize));
    std::str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

impl Groups {
    /// Reads lines `["key",value]` of one text after the other; `by` names, for the message, who wrote them.
    pub(crate) fn read(sources: Vec<Bytes>, by: &str) -> Result<Self, Failure> {
        let mut found: HashMap<PairKey, Vec<Span>> = HashMap::new();
        for (source, text) in sources.iter().enumerate() {
            each_pair(text, by, |key, start, end| {
                let source = position(source)?;
                let span = Span { source, start, end };
                // A hit, the usual case, drops the new key.
                found.entry(key).or_default().push(span);
                Ok(())
            })?;
        }
        let mut groups: Vec<_> = found.into_iter().collect();
        groups.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self { sources, groups })
    }

    /// How long the texts are that they were read from.
    pub(crate) fn bytes(&self) -> usize {
        self.sources.iter().map(Bytes::len).sum()
    }

    /// Whether there is no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Calls `take` with each key, in order.
    pub(crate) fn each(&self, mut take: impl FnMut(Group<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        self.groups.iter().try_for_each(|(key, spans)| {
            take(Group {
                key,
                sources: &self.sources,
                spans,
            })
        })
    }

    /// The lines `["key",value]` of each partition that has any.
    pub(crate) fn into_partitions(self, partitions: u32) -> Vec<(u32, Vec<u8>)> {
        let mut parts: HashMap<u32, Vec<u8>> = HashMap::new();
        for (key, spans) in &self.groups {
            let part = parts.entry(key.partition(partitions)).or_default();
            for span in spans {
                lines::push_pair(part, key.as_json(), text_at(&self.sources, *span));
            }
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_unstable_by_key(|(partition, _)| *partition);
        parts
    }
}

/// Lines `["key",value]` in their compact form and the order of their keys; those of one key stay in theirs.
pub(crate) fn sorted(text: Vec<u8>, by: &str) -> Result<Vec<u8>, Failure> {
    let mut pairs = Vec::new();
    each_pair(&text, by, |key, start, end| {
        pairs.push((key, start, end));
        Ok(())
    })?;
    // What a built-in or a typed function wrote is in order and compact already: brackets, comma,
    // line feed, and a key in its shortest spelling.
    let least: usize = pairs
        .iter()
        .map(|(key, start, end)| key.as_json().len() + (end - start) as usize + 4)
        .sum();
    if least == text.len() && pairs.is_sorted_by(|(a, ..), (b, ..)| a <= b) {
        return Ok(text);
    }
    pairs.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    let mut out = Vec::with_capacity(text.len());
    for (key, start, end) in pairs {
        let value = std::str::from_utf8(&text[start as usize..end as usize])?;
        lines::push_pair(&mut out, key.as_json(), value);
    }
    Ok(out)
}

/// Calls `take` with the key of each line and where in `text` its value stands.
fn each_pair(
    text: &[u8],
    by: &str,
    mut take: impl FnMut(PairKey, u32, u32) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut offset = 0;
    for (at, line) in lines::of(text).enumerate() {
        let refuse = |reason: String| {
            let shown: String = String::from_utf8_lossy(line).chars().take(80).collect();
            Failure::fatal(format!(
                "line {} of {by} is no pair [\"key\",value] ({reason}): {shown}",
                at + 1
            ))
        };
        let pair = std::str::from_utf8(line).map_err(|error| refuse(error.to_string()))?;
        let (key, value): (&RawValue, &RawValue) =
            serde_json::from_str(pair).map_err(|error| refuse(error.to_string()))?;
        let key = PairKey::from_json(key.get()).map_err(|error| refuse(error.to_string()))?;
        // Both borrow from the line, so the distance between them is the place of the value.
        let start = offset + (value.get().as_ptr() as usize - line.as_ptr() as usize);
        take(key, position(start)?, position(start + value.get().len())?)?;
        offset += line.len() + 1;
    }
    Ok(())
}

fn position(at: usize) -> Result<u32, Failure> {
    u32::try_from(at).map_err(|_| Failure::fatal("a part of more than 4 GiB"))
}
