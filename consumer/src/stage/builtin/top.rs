//! `top-n`: the greatest items, the greatest first; of equal ones those that came first.

use std::cmp::Reverse;

use workyard_shared::job::Number;
use workyard_shared::job::builtin::TopN;

use super::super::{Item, Role, StageContext, StageInput, lines};
use super::number::number_in;
use super::{fields, shown};
use crate::handler::Failure;

/// The greatest so far, and a few more.
struct Top<'a> {
    args: &'a TopN,
    items: Vec<(Number, String)>,
    /// What an item must exceed, once there are enough.
    bar: Option<Number>,
}

pub(super) fn top(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let args: TopN = ctx.parse_args()?;
    let mut out = Vec::new();
    let StageInput::Groups(groups) = input else {
        let mut top = Top::new(&args);
        input.each(ctx, |number, item| top.add(number, item))?;
        for json in top.finish() {
            lines::push_json(&mut out, &json);
        }
        return Ok(out);
    };
    groups.each(|group| {
        ctx.check()?;
        let mut top = Top::new(&args);
        for (at, value) in group.values().enumerate() {
            top.add(at as u64 + 1, Item::Json(value))?;
        }
        let key = group.key.as_json();
        let greatest = top.finish();
        if ctx.role == Role::Combine {
            // Values, as the reduce expects them, and not yet its list.
            for json in &greatest {
                lines::push_pair(&mut out, key, json);
            }
        } else {
            lines::push_pair(&mut out, key, &format!("[{}]", greatest.join(",")));
        }
        Ok(())
    })?;
    Ok(out)
}

impl<'a> Top<'a> {
    fn new(args: &'a TopN) -> Self {
        Self {
            args,
            items: Vec::new(),
            bar: None,
        }
    }

    fn add(&mut self, at: u64, item: Item<'_>) -> Result<(), Failure> {
        let value = match &self.args.field {
            Some(name) => fields::of(at, item, name)?,
            None => item,
        };
        let number =
            number_in(value).ok_or_else(|| Failure::fatal(format!("item {at} has no number: {}", shown(item))))?;
        if self.bar.is_some_and(|bar| number <= bar) {
            return Ok(());
        }
        let mut json = Vec::new();
        item.append(&mut json)?;
        self.items.push((number, String::from_utf8(json)?));
        // Seldom, so that an item costs little more than a comparison.
        if self.items.len() >= 2 * self.args.n + 64 {
            self.prune();
        }
        Ok(())
    }

    fn prune(&mut self) {
        self.items.sort_by_key(|(number, _)| Reverse(*number));
        self.items.truncate(self.args.n);
        if self.items.len() == self.args.n {
            self.bar = self.items.last().map(|(number, _)| *number);
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.prune();
        self.items.into_iter().map(|(_, json)| json).collect()
    }
}
