//! `word-count` and `line-count`, over bytes as they were read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::super::item::Item;
use super::super::{Records, StageContext, StageInput, lines};
use super::{shown, unexpected};
use crate::handler::Failure;

/// How much is counted between two looks at whether the task still counts.
const STEP: usize = 1 << 20;

type Counts = HashMap<Vec<u8>, u64>;

pub(super) fn count_words(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let StageInput::Chunk(records) = input else {
        return Err(unexpected(ctx));
    };
    let mut counts = Counts::new();
    match records {
        Records::Lines(text) => count(ctx, text, &mut counts)?,
        Records::Files(files) => files.iter().try_for_each(|file| count(ctx, &file.text, &mut counts))?,
        Records::Json(_) | Records::Csv(_) => input.each(ctx, |number, item| {
            let text = text_of(number, item)?;
            add(text.as_bytes(), &mut counts);
            Ok(())
        })?,
    }
    // Words that differ only in bytes that are no UTF-8 are the same word.
    let mut by_word: BTreeMap<Cow<'_, str>, u64> = BTreeMap::new();
    for (word, count) in &counts {
        *by_word.entry(String::from_utf8_lossy(word)).or_default() += count;
    }
    let mut out = Vec::new();
    if ctx.is_keyed() {
        by_word.iter().try_for_each(|pair| lines::push(&mut out, &pair))?;
    } else {
        lines::push(&mut out, &by_word)?;
    }
    Ok(out)
}

fn text_of(number: u64, item: Item<'_>) -> Result<Cow<'_, str>, Failure> {
    item.string()
        .ok_or_else(|| Failure::fatal(format!("item {number} is no text: {}", shown(item))))
}

fn count(ctx: &StageContext, mut text: &[u8], counts: &mut Counts) -> Result<(), Failure> {
    while !text.is_empty() {
        ctx.check()?;
        let far = text.get(STEP..).and_then(|rest| rest.iter().position(|b| is_space(*b)));
        let (now, later) = text.split_at(far.map_or(text.len(), |at| STEP + at));
        add(now, counts);
        text = later;
    }
    Ok(())
}

fn add(text: &[u8], counts: &mut Counts) {
    for word in text.split(|b| is_space(*b)).filter(|word| !word.is_empty()) {
        // Not `entry`: nearly all words are there, and need no copy.
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.to_vec(), 1)),
        }
    }
}

/// As `isspace` in the C locale; `is_ascii_whitespace` lacks the vertical tab.
fn is_space(byte: u8) -> bool {
    byte == b' ' || (9..=13).contains(&byte)
}

pub(super) fn count_lines(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let StageInput::Chunk(records) = input else {
        return Err(unexpected(ctx));
    };
    let total = match records {
        Records::Lines(text) => lines_of(text),
        Records::Files(files) => files.iter().map(|file| lines_of(&file.text)).sum(),
        Records::Json(_) | Records::Csv(_) => {
            let mut items = 0;
            input.each(ctx, |number, _| {
                items = number;
                Ok(())
            })?;
            items
        }
    };
    let mut out = Vec::new();
    lines::push(&mut out, &total)?;
    Ok(out)
}

/// The last line may lack its line feed.
fn lines_of(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    ends + u64::from(!text.is_empty() && !text.ends_with(b"\n"))
}
