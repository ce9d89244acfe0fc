//! Functions that were registered in Rust.

use serde_json::json;
use serde_json::value::RawValue;
use workyard_shared::job::Form;

use super::*;
use crate::{Emit, Next};

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .map("square", |n: i64| Ok::<_, Failure>(n * n))
        .unwrap()
        .map("text", |item: Value| Ok(item.to_string()))
        .unwrap()
        .map_chunk("chunk", |items: Vec<i64>| Ok(items.iter().sum::<i64>()))
        .unwrap()
        .map_pairs("words", |line: String, emit: &mut Emit<String, u64>| {
            line.split_whitespace().for_each(|word| emit.pair(word.to_owned(), 1));
            Ok(())
        })
        .unwrap()
        .reduce("add", |a: i64, b: i64| Ok(a + b))
        .unwrap()
        .reduce("join", |a: String, b: String| Ok(a + &b))
        .unwrap()
        .reduce_all("all", |values: Vec<i64>| Ok(values.len()))
        .unwrap()
        .reduce_pairs("total", |key: &String, values: Vec<u64>| Ok((key.len(), values)))
        .unwrap()
        .map("panics", |_: Value| -> Result<(), Failure> { panic!("on purpose") })
        .unwrap();
    registry
}

#[tokio::test]
async fn maps_and_reduces_of_every_kind_work_together() {
    let stages = registry().stages(&[]);
    let numbers = || vec![items(&json!([1, 2, 3])), items(&json!([4]))];
    let table = [
        ("square", "add", "30\n"),
        ("square", "all", "4\n"),
        ("chunk", "add", "10\n"),
        ("identity", "sum", "10\n"),
    ];
    for (map, reduce, expected) in table {
        let spec = spec(Form::fold(), map, reduce);
        assert_eq!(
            job(&stages, &spec, numbers()).await.unwrap(),
            expected,
            "{map} {reduce}"
        );
    }
    let lines = vec![items(&json!(["b a b"])), items(&json!(["a"]))];
    let mut spec = spec(one_partition(), "words", "total");
    assert_eq!(
        job(&stages, &spec, lines.clone()).await.unwrap(),
        "[\"a\",[1,[1,1]]]\n[\"b\",[1,[1,1]]]\n"
    );
    spec.combine = Some(function("add"));
    assert_eq!(
        job(&stages, &spec, lines).await.unwrap(),
        "[\"a\",[1,[1,1]]]\n[\"b\",[1,[2]]]\n"
    );
}

#[tokio::test]
async fn a_reduce_that_is_not_commutative_keeps_the_order_and_folds_a_chunk_in_place() {
    let stages = registry().stages(&[]);
    let spec = spec(Form::fold(), "identity", "join");
    let folded = map_fold(&stages, &spec, items(&json!(["a", "b", "c"]))).await.unwrap();
    assert_eq!(folded, "\"abc\"\n");
    assert_eq!(
        reduce(&stages, &spec, &["\"abc\"\n", "\"d\"\n\"e\"\n", "", "\"f\"\n"])
            .await
            .unwrap(),
        "\"abcdef\"\n"
    );
    assert_eq!(map_fold(&stages, &spec, items(&json!([]))).await.unwrap(), "");
    let listed = super::spec(Form::fold(), "identity", "all");
    let kept = map_fold(&stages, &listed, items(&json!([7, 8]))).await.unwrap();
    assert_eq!(kept, "7\n8\n", "a reduce of a list is not run before its time");
}

#[tokio::test]
async fn what_a_function_makes_of_nothing_is_a_result_at_the_top_of_a_tree_and_enters_it_nowhere_else() {
    let mut registry = Registry::new();
    // As `jq -s length` and `wc -l` do.
    registry
        .stage_fn("length", |ctx, input| {
            let mut n = 0;
            input.each(ctx, |_, _| {
                n += 1;
                Ok(())
            })?;
            Ok(match ctx.form {
                Form::Fold { .. } => format!("{n}\n"),
                Form::Keyed { .. } => format!("[\"n\",{n}]\n"),
            }
            .into())
        })
        .unwrap();
    let stages = registry.stages(&[]);
    let fold = spec(Form::fold(), "identity", "length");
    for (inputs, is_top, expected) in [
        (vec!["", ""], false, ""),
        (vec![], false, ""),
        (vec!["", ""], true, "0\n"),
        (vec!["", "5\n"], false, "1\n"),
    ] {
        let inputs = inputs
            .into_iter()
            .map(|text: &str| Bytes::copy_from_slice(text.as_bytes()))
            .collect();
        let out = run_reduce(&stages, &fold, ctx(), inputs, is_top).await.unwrap();
        assert_eq!(text(out), expected);
    }
    let mut keyed = spec(Form::Keyed { partitions: 1 }, "identity", "length");
    assert_eq!(reduce(&stages, &keyed, &["", ""]).await.unwrap(), "");
    keyed.combine = Some(function("length"));
    assert_eq!(map(&stages, &keyed, items(&json!([]))).await.unwrap(), []);
}

#[tokio::test]
async fn a_value_that_does_not_fit_fails_for_good_by_its_number() {
    let stages = registry().stages(&[]);
    let fold = |map, reduce| spec(Form::fold(), map, reduce);
    let failure = map_fold(&stages, &fold("square", "all"), items(&json!([1, "x"])))
        .await
        .unwrap_err();
    assert_eq!(failure.next, Next::Final);
    assert!(
        failure.message.starts_with("item 2 does not fit square: invalid type"),
        "{}",
        failure.message
    );
    let failure = reduce(&stages, &fold("square", "add"), &["1\n", "2\nnull\n"])
        .await
        .unwrap_err();
    assert!(
        failure.message.starts_with("value 3 does not fit add"),
        "{}",
        failure.message
    );
    let keyed = spec(one_partition(), "words", "total");
    let failure = reduce(&stages, &keyed, &["[\"k\",1]\n", "[\"k\",-1]\n"])
        .await
        .unwrap_err();
    assert!(
        failure.message.starts_with("value 2 of key \"k\" does not fit total"),
        "{}",
        failure.message
    );
    let failure = reduce(&stages, &keyed, &["[7,1]\n"]).await.unwrap_err();
    assert!(
        failure.message.starts_with("key 7 does not fit total"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_function_that_is_used_for_what_it_cannot_do_says_so_for_good() {
    let stages = registry().stages(&[]);
    let misuses = [
        (
            Form::fold(),
            "add",
            "add",
            "add cannot map in the fold form: it is a reduce function",
        ),
        (
            Form::fold(),
            "words",
            "add",
            "words cannot map in the fold form: it emits pairs",
        ),
        (
            one_partition(),
            "total",
            "add",
            "total cannot map in the keyed form: it reduces the values of keys",
        ),
    ];
    for (form, map, reduce, reason) in misuses {
        let failure = super::map(&stages, &spec(form, map, reduce), items(&json!([1])))
            .await
            .unwrap_err();
        assert_eq!(failure, Failure::fatal(reason));
    }
    let failure = reduce(&stages, &spec(Form::fold(), "square", "square"), &["1\n"])
        .await
        .unwrap_err();
    assert_eq!(
        failure,
        Failure::fatal("square cannot reduce in the fold form: it is a map function")
    );
    let failure = reduce(&stages, &spec(Form::fold(), "square", "gone"), &[])
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::retry("this consumer has no function gone"));
    assert!(stages.knows("add") && stages.knows("top-n") && !stages.knows("gone"));
}

#[tokio::test]
async fn a_function_that_emits_too_much_fails_for_good_and_holds_no_more_than_the_limit() {
    let mut registry = Registry::new();
    let block = RawValue::from_string(format!("\"{}\"", "x".repeat(32 << 20))).unwrap();
    let (one, many, whole) = (block.clone(), block.clone(), block);
    registry.map("one", move |_: u8| Ok(one.clone())).unwrap();
    registry
        .map_pairs("many", move |_: u8, emit: &mut Emit<u8, Box<RawValue>>| {
            for _ in 0..40 {
                emit.pair(0, many.clone());
                // Without the limit it would be more than a GiB.
                assert!(format!("{emit:?}").len() < 40);
            }
            Ok(())
        })
        .unwrap();
    registry
        .stage_fn("whole", move |_, _| Ok(whole.get().repeat(9).into_bytes()))
        .unwrap();
    let stages = registry.stages(&[]);
    let ten = items(&json!([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    for (form, kind) in [
        (Form::fold(), "one"),
        (one_partition(), "many"),
        (Form::fold(), "whole"),
    ] {
        // Not `unwrap_err`: what it must not be is not printed.
        let mapped = super::map(&stages, &spec(form, kind, "identity"), ten.clone()).await;
        let failure = mapped.err().unwrap();
        assert_eq!(failure.next, Next::Final, "{kind}");
        let said = &failure.message;
        assert!(said.starts_with("it emits more than the 256 MiB"), "{kind}: {said}");
    }
}

#[tokio::test]
async fn panics_and_cancellation_are_failed_attempts() {
    let stages = registry().stages(&[]);
    let failure = map_fold(&stages, &spec(Form::fold(), "panics", "add"), items(&json!([1])))
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::retry("the handler panicked: on purpose"));
    let cancelled = ctx();
    cancelled.cancellation().cancel();
    let spec = spec(Form::fold(), "square", "all");
    let failure = run_map(&stages, &spec, cancelled, items(&json!([1])))
        .await
        .unwrap_err();
    assert_eq!(failure, Failure::retry("cancelled"));
}

#[tokio::test]
async fn text_items_are_strings_and_registered_functions_hide_built_in_ones() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = reading::chunk_of(&dir.path().join("f"), "lines", b"5\n");
    let mut registry = registry();
    registry.map("sum", |n: Option<String>| Ok(n)).unwrap();
    assert!(registry.map("sum", |n: u8| Ok(n)).is_err(), "taken");
    let stages = below(&registry, dir.path());
    let text = map_fold(&stages, &spec(Form::fold(), "text", "all"), chunk.clone())
        .await
        .unwrap();
    assert_eq!(text, "\"\\\"5\\\"\"\n");
    let own = map_fold(&stages, &spec(Form::fold(), "sum", "all"), chunk)
        .await
        .unwrap();
    assert_eq!(own, "\"5\"\n");
}
