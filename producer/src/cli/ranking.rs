//! Pairs by the size of their values: the greatest of a result.
//!
//! Invariant: numbers are compared exactly, whatever their size; of equal ones the first is the greater. No more than asked for
//! are held.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use workyard_producer::RawJson;
use workyard_shared::job::Number;

/// Keeps the greatest of pairs that come one by one.
#[derive(Debug)]
pub(super) struct Greatest {
    most: usize,
    number: u64,
    kept: BinaryHeap<Reverse<Ranked>>,
}

impl Greatest {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            number: 0,
            kept: BinaryHeap::new(),
        }
    }

    pub(super) fn add(&mut self, key: RawJson, value: RawJson) {
        self.kept.push(Reverse(Ranked {
            size: size(&value),
            number: self.number,
            key,
            value,
        }));
        self.number += 1;
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// The greatest first.
    pub(super) fn ranked(self) -> Vec<Ranked> {
        self.kept
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse(one)| one)
            .collect()
    }
}

/// Whether they have keys, and the greatest; `None` if not all of them are numbers.
pub(super) fn ranking(values: &[RawJson], most: usize) -> Option<(bool, Vec<Ranked>)> {
    let object = match values {
        [one] => one.parse::<BTreeMap<String, RawJson>>().ok(),
        _ => None,
    };
    let list = match values {
        [one] => one.parse::<Vec<RawJson>>().ok(),
        _ => None,
    };
    let keyed = object.is_some();
    let pairs: Vec<(RawJson, RawJson)> = match object {
        Some(object) => {
            let key = |name: String| RawJson::new(serde_json::Value::from(name).to_string().into());
            object.into_iter().map(|(name, value)| (key(name), value)).collect()
        }
        None => {
            let list = list.unwrap_or_else(|| values.to_vec());
            list.into_iter().map(|value| (value.clone(), value)).collect()
        }
    };
    let ranked = pairs.into_iter().zip(0..).map(|((key, value), number)| {
        let size = Some(size(&value)?);
        Some(Ranked {
            size,
            number,
            key,
            value,
        })
    });
    let mut ranked = ranked.collect::<Option<Vec<_>>>()?;
    ranked.sort_by(|a, b| b.cmp(a));
    ranked.truncate(most);
    Some((keyed, ranked))
}

/// A pair by the size of its value; of two equal ones the first is the greater.
#[derive(Debug)]
pub(super) struct Ranked {
    /// `None` is below all numbers.
    size: Option<Number>,
    number: u64,
    pub(super) key: RawJson,
    pub(super) value: RawJson,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.size.cmp(&other.size).then_with(|| other.number.cmp(&self.number))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

fn size(value: &RawJson) -> Option<Number> {
    Number::parse(std::str::from_utf8(value.bytes()).ok()?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::job_result::text;
    use super::*;

    #[test]
    fn the_greatest_values_come_first_and_equal_ones_in_the_order_of_keys() {
        let mut ranked: Vec<Ranked> = ["3", "10", "\"x\"", "3", "-1e3"]
            .iter()
            .zip(0..)
            .map(|(text, number)| {
                let value = RawJson::new((*text).to_owned().into());
                Ranked {
                    size: size(&value),
                    number,
                    key: value.clone(),
                    value,
                }
            })
            .collect();
        ranked.sort_by_key(|r| r.number);
        ranked.sort_by(|a, b| b.cmp(a));
        assert_eq!(ranked.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 0, 3, 4, 2]);
    }

    #[test]
    fn a_fold_has_a_greatest_if_it_is_an_object_or_a_list_of_numbers() {
        let of = |texts: &[&str], most| {
            let values: Vec<_> = texts
                .iter()
                .map(|text| RawJson::new((*text).to_owned().into()))
                .collect();
            let (keyed, ranked) = ranking(&values, most)?;
            let pair = |one: &Ranked| {
                if keyed {
                    format!("{}={}", text(&one.key), text(&one.value))
                } else {
                    text(&one.value)
                }
            };
            Some(ranked.iter().map(pair).collect::<Vec<_>>().join(" "))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(&["{\"b\":1,\"a\":1,\"c\":2.5}"], 2), some("c=2.5 a=1"));
        assert_eq!(of(&["[1,3,2]"], 2), some("3 2"));
        assert_eq!(of(&["1", "3", "2"], 9), some("3 2 1"));
        // As doubles these three are one.
        let close = "[9007199254740993,9007199254740992.0,9007199254740992]";
        assert_eq!(of(&[close], 1), some("9007199254740993"));
        let close = "{\"a\":9007199254740992.0,\"b\":9007199254740993,\"c\":9007199254740994.0}";
        assert_eq!(
            of(&[close], 9),
            some("c=9007199254740994.0 b=9007199254740993 a=9007199254740992.0")
        );
        assert_eq!(of(&["7"], 1), some("7"));
        assert_eq!(of(&[], 1), some(""));
        for other in [&["{\"a\":\"x\"}"][..], &["\"x\""], &["[1,null]"], &["1", "[2]"]] {
            assert_eq!(of(other, 1), None, "{other:?}");
        }
    }
}
