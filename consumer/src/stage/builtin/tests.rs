//! Each built-in function by table.

use serde_json::{Value, json};
use workyard_shared::job::Form;

use super::super::tests::{function, items, job, map, map_fold, one_partition, reduce, spec};
use crate::{Next, Registry};

#[tokio::test]
async fn as_map_of_a_fold() {
    let stages = Registry::new().stages(&[]);
    let people = json!([{"n": 3, "c": "x"}, {"n": 1.5, "c": "y"}, {"n": "4", "c": "x"}]);
    let table: Vec<(&str, Value, &str)> = vec![
        ("word-count", json!(["b a\tb", " a\u{b}b "]), "{\"a\":2,\"b\":3}\n"),
        ("word-count", json!([]), "{}\n"),
        ("line-count", json!(["a", 2]), "2\n"),
        (
            r#"grep {"pattern":"^f.n$"}"#,
            json!(["fun", "a fun", "f\nn", 7]),
            "\"fun\"\n",
        ),
        (
            r#"grep {"pattern":"^7","invert":true}"#,
            json!([7, 70, "x", [7]]),
            "\"x\"\n[7]\n",
        ),
        ("identity", json!([1, {"a": "b"}]), "1\n{\"a\":\"b\"}\n"),
        ("sum", json!([1, 2, -4]), "-1\n"),
        ("sum", json!([u64::MAX, u64::MAX, " 1 "]), "36893488147419103231\n"),
        (
            "sum",
            json!([1, 0.5, 9_007_199_254_740_993_u64]),
            "9007199254740994.0\n",
        ),
        ("sum", json!([]), "0\n"),
        (r#"sum {"field":"n"}"#, people.clone(), "8.5\n"),
        ("count", json!([1, null, "x"]), "3\n"),
        (
            r#"count {"field":"a"}"#,
            json!([{"a": 1}, {"b": 1}, {"a": null}]),
            "1\n",
        ),
        ("min", json!([3, -2.5, 7]), "-2.5\n"),
        ("max", json!([3, -2.5, 7, 6.9]), "7\n"),
        ("max", json!([]), ""),
        (r#"min {"field":"n"}"#, people.clone(), "1.5\n"),
        (r#"top-n {"n":2}"#, json!([1, 9, 3, 9]), "9\n9\n"),
        (
            r#"top-n {"n":1,"field":"n"}"#,
            people.clone(),
            "{\"c\":\"x\",\"n\":\"4\"}\n",
        ),
        (
            r#"histogram {"width":10}"#,
            json!([1, 9.9, 10, -1, "12"]),
            "{\"-10\":1,\"0\":2,\"10\":2}\n",
        ),
        (
            r#"histogram {"width":0.5,"field":"n"}"#,
            json!([{"n": 0.6}, {"n": -0.1}]),
            "{\"-0.5\":1,\"0.5\":1}\n",
        ),
        (r#"sum-by-key {"by":"c","field":"n"}"#, people, "{\"x\":7,\"y\":1.5}\n"),
    ];
    for (function, input, expected) in table {
        // A reduce that leaves the map's output as it is.
        let spec = spec(Form::fold(), function, "identity");
        assert_eq!(
            map_fold(&stages, &spec, items(&input)).await.unwrap(),
            expected,
            "{function}"
        );
    }
}

#[tokio::test]
async fn patterns_select_what_is_kept_or_counted_and_may_look_like_no_text() {
    let stages = Registry::new().stages(&[]);
    let table = [
        (r#"count {"pattern":"x"}"#, json!([1, "axe", "x"]), "2\n"),
        (r#"count {"pattern":"x","invert":true}"#, json!([1, "axe"]), "1\n"),
        (
            r#"count {"pattern":5,"field":"a"}"#,
            json!([{"a": 15}, {"a": "5"}, {"b": 5}, {"a": 4}]),
            "2\n",
        ),
        (r#"grep {"pattern":1.50}"#, json!(["1.5", "1x50"]), "\"1x50\"\n"),
        (r#"grep {"pattern":true}"#, json!(["untrue", "x"]), "\"untrue\"\n"),
    ];
    for (function, input, expected) in table {
        let spec = spec(Form::fold(), function, "identity");
        let found = map_fold(&stages, &spec, items(&input)).await.unwrap();
        assert_eq!(found, expected, "{function}");
    }
}

#[tokio::test]
async fn as_reduce_of_a_fold() {
    let stages = Registry::new().stages(&[]);
    let table: [(&str, &[&str], &str); 9] = [
        ("grep", &["\"b\"\n", "\"a\"\n"], "\"b\"\n\"a\"\n"),
        ("identity", &["1\n2\n", "", "1\n"], "1\n2\n1\n"),
        ("sum", &["1\n", "2\n3\n"], "6\n"),
        ("count", &["10\n", "5\n"], "15\n"),
        ("min", &["4\n", "", "3\n"], "3\n"),
        ("max", &["4\n", "3\n"], "4\n"),
        (r#"top-n {"n":2}"#, &["5\n1\n", "7\n"], "7\n5\n"),
        (
            "sum-by-key",
            &["{\"a\":1,\"b\":2}\n", "{\"b\":0.5,\"é\\n\":1}\n"],
            "{\"a\":1,\"b\":2.5,\"é\\n\":1}\n",
        ),
        ("sum-by-key", &[], "{}\n"),
    ];
    for (function, inputs, expected) in table {
        let spec = spec(Form::fold(), "identity", function);
        assert_eq!(reduce(&stages, &spec, inputs).await.unwrap(), expected, "{function}");
    }
}

#[tokio::test]
async fn as_map_of_the_keyed_form() {
    let stages = Registry::new().stages(&[]);
    let table = [
        ("word-count", json!(["b a b"]), "[\"a\",1]\n[\"b\",2]\n"),
        ("identity", json!([["b", 1], [3, 1]]), "[3,1]\n[\"b\",1]\n"),
        (r#"grep {"pattern":"x"}"#, json!([["x", 1], ["y", 2]]), "[\"x\",1]\n"),
        (r#"histogram {"width":10}"#, json!([105, 20, 21]), "[20,2]\n[100,1]\n"),
        (
            r#"sum-by-key {"by":"k","field":"v"}"#,
            json!([{"k": 7, "v": 1}, {"k": "7", "v": 2}, {"k": 7, "v": 3}]),
            "[7,4]\n[\"7\",2]\n",
        ),
    ];
    for (function, input, expected) in table {
        let spec = spec(one_partition(), function, "identity");
        let parts = map(&stages, &spec, items(&input)).await.unwrap();
        assert_eq!(parts, [(0, expected.to_owned())], "{function}");
    }
}

#[tokio::test]
async fn as_reduce_and_as_combine_of_the_keyed_form() {
    let stages = Registry::new().stages(&[]);
    let inputs = ["[\"a\",1]\n[\"b\",5]\n", "[\"a\",2]\n[\"a\",0.5]\n"];
    let table = [
        ("identity", "[\"a\",[1,2,0.5]]\n[\"b\",[5]]\n"),
        ("sum", "[\"a\",3.5]\n[\"b\",5]\n"),
        ("sum-by-key", "[\"a\",3.5]\n[\"b\",5]\n"),
        ("count", "[\"a\",3]\n[\"b\",1]\n"),
        ("min", "[\"a\",0.5]\n[\"b\",5]\n"),
        ("max", "[\"a\",2]\n[\"b\",5]\n"),
        (r#"top-n {"n":2}"#, "[\"a\",[2,1]]\n[\"b\",[5]]\n"),
    ];
    for (name, expected) in table {
        let mut spec = spec(one_partition(), "identity", name);
        assert_eq!(reduce(&stages, &spec, &inputs).await.unwrap(), expected, "{name}");
        if name == "count" {
            continue; // counts of a combiner are to be summed
        }
        spec.combine = Some(function(name));
        let chunks = vec![
            items(&json!([["a", 1], ["b", 5]])),
            items(&json!([["a", 2], ["a", 0.5]])),
        ];
        assert_eq!(job(&stages, &spec, chunks).await.unwrap(), expected, "combined: {name}");
    }
}

#[tokio::test]
async fn what_cannot_work_fails_for_good_and_says_why() {
    let stages = Registry::new().stages(&[]);
    let fold = Form::fold();
    let table = [
        (fold, "sum", json!([1, "x"]), "item 2 is no number: x"),
        (fold, "sum", json!([1, {"n": 1}]), "item 2 is no number: {\"n\":1}"),
        (
            fold,
            r#"sum {"field":"n"}"#,
            json!([{"m": 1}]),
            "item 1 has no field \"n\"",
        ),
        (fold, r#"sum {"field":"n"}"#, json!([7]), "item 1 is no object: 7"),
        (
            fold,
            r#"sum {"feild":"n"}"#,
            json!([]),
            "arguments of sum do not fit: unknown field `feild`, expected `field` (--map-arg)",
        ),
        (
            fold,
            "grep",
            json!([]),
            "grep as map needs the argument pattern (--map-arg pattern=...)",
        ),
        (fold, r#"grep {"pattern":[1]}"#, json!([]), "[1] is no text"),
        (fold, r#"count {"invert":true}"#, json!([]), "needs a pattern"),
        (
            fold,
            "sum",
            json!([i64::MAX, "170141183460469231731687303715884105727"]),
            "beyond 128 bits",
        ),
        (
            fold,
            r#"grep {"pattern":"("}"#,
            json!([]),
            "the pattern of grep does not fit",
        ),
        (fold, r#"top-n {"n":0}"#, json!([]), "n of top-n must be 1 to"),
        (
            fold,
            r#"histogram {"width":-1}"#,
            json!([]),
            "width of histogram must be a number above 0, not -1",
        ),
        (fold, "word-count", json!([3]), "item 1 is no text: 3"),
        (one_partition(), "sum", json!([1]), "sum cannot map in the keyed form"),
        (
            one_partition(),
            "line-count",
            json!([1]),
            "line-count cannot map in the keyed form",
        ),
        (
            one_partition(),
            r#"top-n {"n":1}"#,
            json!([1]),
            "top-n cannot map in the keyed form",
        ),
    ];
    for (form, function, input, reason) in table {
        let failure = map(&stages, &spec(form, function, "identity"), items(&input))
            .await
            .unwrap_err();
        assert_eq!(failure.next, Next::Final, "{function}");
        assert!(failure.message.contains(reason), "{function}: {}", failure.message);
    }
}

#[tokio::test]
async fn integers_and_floats_are_compared_exactly() {
    let stages = Registry::new().stages(&[]);
    // As doubles the numbers of each line are one, or nearly.
    let table = [
        (
            "max",
            json!([
                9_007_199_254_740_993_u64,
                9_007_199_254_740_992.0,
                9_007_199_254_740_992_u64
            ]),
            "9007199254740993\n",
        ),
        (
            r#"top-n {"n":2}"#,
            json!([
                9_007_199_254_740_992.0,
                9_007_199_254_740_993_u64,
                9_007_199_254_740_994.0
            ]),
            "9007199254740994.0\n9007199254740993\n",
        ),
        (
            r#"histogram {"width":10}"#,
            json!([1e17, 100_000_000_000_000_001_u64, 1e300]),
            "{\"100000000000000000\":2,\"1e+300\":1}\n",
        ),
    ];
    for (function, input, expected) in table {
        let spec = spec(Form::fold(), function, "identity");
        let found = map_fold(&stages, &spec, items(&input)).await.unwrap();
        assert_eq!(found, expected, "{function}");
    }
}

#[tokio::test]
async fn a_bucket_that_no_number_can_hold_fails_for_good() {
    let stages = Registry::new().stages(&[]);
    let spec = spec(Form::fold(), r#"histogram {"width":1e-300}"#, "identity");
    let failure = map(&stages, &spec, items(&json!([2, 1e308]))).await.unwrap_err();
    assert_eq!(failure.next, Next::Final);
    let reason = "item 2 falls into a bucket beyond what a number can hold: 1e+308, width 1e-300";
    assert!(failure.message.contains(reason), "{}", failure.message);
}

#[tokio::test]
async fn many_numbers_that_are_one_as_doubles_have_an_order() {
    let stages = Registry::new().stages(&[]);
    let first = (1_u64 << 53) - 5000;
    let many: Vec<Value> = (0..20_000_u64)
        .map(|at| first + at * 7919 % 20_000 / 2)
        .zip(0..)
        .map(|(n, at)| if at % 2 == 0 { json!(n) } else { json!(n as f64) })
        .collect();
    let spec = spec(Form::fold(), r#"top-n {"n":9000}"#, "identity");
    let found = map_fold(&stages, &spec, items(&json!(many))).await.unwrap();
    let found: Vec<i128> = found
        .lines()
        .map(|line| line.parse().unwrap_or_else(|_| line.parse::<f64>().unwrap() as i128))
        .collect();
    assert_eq!(found.len(), 9000);
    assert!(found.is_sorted_by(|a, b| a >= b));
}

#[tokio::test]
async fn what_cannot_be_reduced_fails_for_good_and_says_why() {
    let stages = Registry::new().stages(&[]);
    let fold = Form::fold();
    for (form, function, input, reason) in [
        (fold, "word-count", "1\n", "word-count cannot reduce in the fold form"),
        (fold, r#"sum {"field":"n"}"#, "1\n", "unknown field `field`"),
        (
            fold,
            "top-n",
            "1\n",
            "top-n as reduce needs the argument n (--reduce-arg n=...)",
        ),
        (
            fold,
            "count",
            "\"x\"\n",
            "to count what matches, map with count and its pattern",
        ),
        (fold, "sum-by-key", "1\n", "value 1 is no object: 1"),
        (fold, "sum-by-key", "{\"a\":\"1\"}\n", "value 1 has no number in \"a\""),
        (
            one_partition(),
            "grep",
            "[\"a\",1]\n",
            "grep cannot reduce in the keyed form",
        ),
        (
            one_partition(),
            "sum",
            "[\"a\",null]\n",
            "a value of key \"a\" is no number: null",
        ),
    ] {
        let failure = reduce(&stages, &spec(form, "identity", function), &[input])
            .await
            .unwrap_err();
        assert_eq!(failure.next, Next::Final, "{function}");
        assert!(failure.message.contains(reason), "{function}: {}", failure.message);
    }
}

#[tokio::test]
async fn the_greatest_of_many_are_found_and_of_equal_ones_the_first() {
    let stages = Registry::new().stages(&[]);
    let many: Vec<Value> = (0..5000).map(|n| json!({"v": n * 7919 % 1000, "at": n})).collect();
    let mut expected = many.clone();
    expected.sort_by_key(|item| std::cmp::Reverse(item["v"].as_u64()));
    let spec = spec(
        Form::fold(),
        r#"top-n {"n":12,"field":"v"}"#,
        r#"top-n {"n":12,"field":"v"}"#,
    );
    let chunks = many.chunks(700).map(|chunk| items(&json!(chunk))).collect();
    let found = job(&stages, &spec, chunks).await.unwrap();
    let found: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found, expected[..12]);
}
