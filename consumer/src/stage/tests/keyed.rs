//! The keyed form: grouping, order, partitions, combiners.

use std::collections::BTreeMap;

use serde_json::json;
use workyard_shared::job::{Form, PairKey};

use super::*;
use crate::Next;

#[tokio::test]
async fn each_key_comes_once_with_all_its_values_in_chunk_order() {
    let stages = Registry::new().stages(&[]);
    let spec = spec(one_partition(), "identity", "identity");
    let chunks = vec![
        items(&json!([["b", 1], ["a", 2], ["b", 3], [10, "x"]])),
        items(&json!([[9, null], ["b", 4], ["a", {"k": [1]}], ["b", 1]])),
    ];
    assert_eq!(
        job(&stages, &spec, chunks).await.unwrap(),
        "[9,[null]]\n[10,[\"x\"]]\n[\"a\",[2,{\"k\":[1]}]]\n[\"b\",[1,3,4,1]]\n"
    );
}

#[tokio::test]
async fn partitions_hold_what_the_protocol_says_sorted_and_stable_and_none_is_empty() {
    let stages = Registry::new().stages(&[]);
    let spec = spec(Form::Keyed { partitions: 5 }, "identity", "identity");
    let pairs: Vec<_> = (0..400).map(|n| json!([format!("k{}", n * 7 % 90), n])).collect();
    let parts = map(&stages, &spec, items(&json!(pairs))).await.unwrap();
    let mut seen = 0;
    for (part, lines) in &parts {
        assert!(!lines.is_empty());
        let rows: Vec<(String, u64)> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(rows.iter().all(|(key, _)| PairKey::text(key).partition(5) == *part));
        assert!(
            rows.is_sorted(),
            "keys ascend, and values, which rise with their place, within a key"
        );
        seen += rows.len();
    }
    assert_eq!((seen, parts.len()), (400, 5));
    let few = map(&stages, &spec, items(&json!([["a", 1]]))).await.unwrap();
    assert_eq!(few, [(PairKey::text("a").partition(5), "[\"a\",1]\n".to_owned())]);
    assert_eq!(map(&stages, &spec, items(&json!([]))).await.unwrap(), []);
}

#[tokio::test]
async fn a_combiner_folds_the_pairs_of_a_chunk_and_changes_no_result() {
    let stages = Registry::new().stages(&[]);
    let mut spec = spec(one_partition(), "identity", "sum");
    let chunks = || vec![items(&json!([["a", 1], ["b", 2], ["a", 3]])), items(&json!([["a", 5]]))];
    let plain = job(&stages, &spec, chunks()).await.unwrap();
    spec.combine = Some(function("sum"));
    let combined = map(&stages, &spec, chunks().remove(0)).await.unwrap();
    assert_eq!(combined, [(0, "[\"a\",4]\n[\"b\",2]\n".to_owned())]);
    assert_eq!(job(&stages, &spec, chunks()).await.unwrap(), plain);
    assert_eq!(plain, "[\"a\",9]\n[\"b\",2]\n");
}

#[tokio::test]
async fn what_is_no_pair_fails_for_good_and_names_its_line() {
    let stages = Registry::new().stages(&[]);
    let spec = spec(one_partition(), "identity", "identity");
    for bad in [
        json!(3),
        json!(["a"]),
        json!(["a", 1, 2]),
        json!([{"k": 1}, 2]),
        json!("a"),
    ] {
        let failure = map(&stages, &spec, items(&json!([["a", 1], bad]))).await.unwrap_err();
        assert_eq!(failure.next, Next::Final);
        assert!(
            failure
                .message
                .starts_with("line 2 of the output of identity is no pair"),
            "{}",
            failure.message
        );
    }
}

#[tokio::test]
async fn word_count_agrees_with_a_plain_count_of_random_text() {
    let mut random = fastrand::Rng::with_seed(7);
    let spaces = [" ", "\n", "\t", "\r\n", "  ", "\u{b}", "\u{c}"];
    let words = [
        "a",
        "b",
        "\"q\"",
        "back\\slash",
        "é",
        "word",
        "\u{1}",
        "nbsp\u{a0}nbsp",
        "日本",
    ];
    let mut text = String::new();
    while text.len() < 3 << 20 {
        text.push_str(words[random.usize(..words.len())]);
        text.push_str(spaces[random.usize(..spaces.len())]);
    }
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for word in text
        .split([' ', '\n', '\t', '\r', '\u{b}', '\u{c}'])
        .filter(|w| !w.is_empty())
    {
        *expected.entry(word).or_default() += 1;
    }
    let dir = tempfile::tempdir().unwrap();
    let chunk = reading::chunk_of(&dir.path().join("t"), "lines", text.as_bytes());
    let stages = below(&Registry::new(), dir.path());
    let fold = job(
        &stages,
        &spec(Form::fold(), "word-count", "sum-by-key"),
        vec![chunk.clone(), chunk.clone()],
    )
    .await
    .unwrap();
    let fold: BTreeMap<String, u64> = serde_json::from_str(&fold).unwrap();
    let doubled = expected.iter().map(|(word, n)| ((*word).to_owned(), 2 * n)).collect();
    assert_eq!(fold, doubled);
    let keyed = job(&stages, &spec(one_partition(), "word-count", "sum"), vec![chunk])
        .await
        .unwrap();
    let keyed: Vec<(String, u64)> = keyed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let once: Vec<(String, u64)> = expected.into_iter().map(|(word, n)| (word.to_owned(), n)).collect();
    assert_eq!(keyed, once, "sorted by the bytes of the words");
}
