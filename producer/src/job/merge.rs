//! The pairs of a keyed job, merged from its sorted parts.
//!
//! Invariant: pairs come in the order of keys (numbers, then strings, then the rest), each key once, because a key is in one
//! part only. One pair of each part is held, and what [`super::output`] has read of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use workyard_shared::Error as CallError;
use workyard_shared::job::PairKey;

use super::output::Lines;
use crate::error::Error;
use crate::raw_json::RawJson;

/// A pair as it is written: its key and the bytes of its value.
type RawPair = (PairKey, Bytes);

/// The merge of parts.
#[derive(Debug)]
pub(crate) struct Merge {
    parts: Vec<Lines>,
    heads: Vec<Option<Bytes>>,
    order: BinaryHeap<Reverse<(PairKey, usize)>>,
    begun: bool,
}

impl Merge {
    pub(crate) fn new(parts: Vec<Lines>) -> Self {
        Self {
            heads: vec![None; parts.len()],
            order: BinaryHeap::with_capacity(parts.len()),
            parts,
            begun: false,
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<RawPair>, Error> {
        if !std::mem::replace(&mut self.begun, true) {
            for part in 0..self.parts.len() {
                self.advance(part).await?;
            }
        }
        let Some(Reverse((key, part))) = self.order.pop() else {
            return Ok(None);
        };
        let value = self.heads.get_mut(part).and_then(Option::take).unwrap_or_default();
        self.advance(part).await?;
        Ok(Some((key, value)))
    }

    async fn advance(&mut self, part: usize) -> Result<(), Error> {
        if let Some(line) = self.parts[part].next().await? {
            let (key, value) = pair(&line)?;
            self.heads[part] = Some(value);
            self.order.push(Reverse((key, part)));
        }
        Ok(())
    }
}

fn pair(line: &Bytes) -> Result<RawPair, Error> {
    let wrong = || CallError::Protocol("a line of a keyed result that is no pair".to_owned());
    let (key, value): (&RawValue, &RawValue) = serde_json::from_slice(line).map_err(|_| wrong())?;
    let key = PairKey::from_json(key.get())?;
    Ok((key, line.slice_ref(value.get().as_bytes())))
}

/// The pairs of a result as values; see [`super::JobHandle::pairs`].
#[derive(Debug)]
pub struct Pairs<K = RawJson, V = RawJson> {
    merge: Merge,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: DeserializeOwned, V: DeserializeOwned> Pairs<K, V> {
    pub(crate) fn new(merge: Merge) -> Self {
        Self {
            merge,
            types: PhantomData,
        }
    }

    /// The next pair in the order of keys; `None` when there are no more.
    ///
    /// # Errors
    /// [`Error::Call`] with `Protocol` if key or value are not of these types; [`Error::Store`] if a spilled part cannot be read; [`Error::JobSealed`].
    pub async fn next(&mut self) -> Result<Option<(K, V)>, Error> {
        let Some((key, value)) = self.merge.next().await? else {
            return Ok(None);
        };
        Ok(Some((typed(key.as_json().as_bytes())?, typed(&value)?)))
    }

    /// All that are left.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn collect<C: Default + Extend<(K, V)>>(mut self) -> Result<C, Error> {
        let mut all = C::default();
        while let Some(pair) = self.next().await? {
            all.extend([pair]);
        }
        Ok(all)
    }
}

/// Reads a value of a result.
pub(crate) fn typed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    let wrong = |e| CallError::Protocol(format!("the result is not of this type: {e}")).into();
    serde_json::from_slice(json).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use workyard_shared::job::Part;
    use workyard_shared::store::Stores;

    use super::super::output::Opening;
    use super::*;

    fn merge(parts: &[String]) -> Merge {
        let lines = |text: &String| {
            let part = Some(Part::Inline(Bytes::from(text.clone())));
            Lines::of(part, None, &Stores::default(), Opening::for_test(None)).unwrap()
        };
        Merge::new(parts.iter().map(lines).collect())
    }

    #[tokio::test]
    async fn the_merge_of_sorted_parts_is_sorted_and_loses_nothing() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..50 {
            let count = random.u32(1..9);
            let mut parts = vec![BTreeMap::new(); count as usize];
            let mut expected = BTreeMap::new();
            for n in 0..random.usize(0..200) {
                let json = match random.u8(0..3) {
                    0 => random.i32(-50..50).to_string(),
                    1 => format!("\"é{}\"", random.u8(0..200)),
                    _ => "[1, null]".to_owned(),
                };
                let key = PairKey::from_json(&json).unwrap();
                parts[key.partition(count) as usize].insert(key.clone(), n);
                expected.insert(key, n.to_string());
            }
            let line = |(key, n): (&PairKey, &usize)| format!("[{},{n}]\n", key.as_json());
            let texts: Vec<String> = parts.iter().map(|part| part.iter().map(line).collect()).collect();
            let mut merge = merge(&texts);
            let mut found = Vec::new();
            while let Some((key, value)) = merge.next().await.unwrap() {
                found.push((key, String::from_utf8(value.to_vec()).unwrap()));
            }
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn pairs_are_typed_and_what_is_none_is_refused() {
        let pairs = || Pairs::<String, u64>::new(merge(&["[\"b\",2]\n".into(), "[\"a\",1]\n".into(), String::new()]));
        let all: Vec<(String, u64)> = pairs().collect().await.unwrap();
        assert_eq!(all, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let wrong = Pairs::<u64, u64>::new(merge(&["[\"b\",2]\n".into()])).next().await;
        assert!(wrong.unwrap_err().to_string().contains("not of this type"));
        let none = Pairs::<String, u64>::new(merge(&["3\n".into()])).next().await;
        assert!(none.unwrap_err().to_string().contains("no pair"));
    }
}
