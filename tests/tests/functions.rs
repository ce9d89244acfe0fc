//! The functions themselves: a call that fails changed nothing, bad input is refused, steps are bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use redis::aio::MultiplexedConnection;
use workyard_shared::broker::{JobCancelled, JobDeleted, JobRetried, JobVerdict};
use workyard_shared::functions;
use workyard_shared::job::{Form, JobState, Part};
use workyard_shared::keys::SHARED;
use workyard_shared::name::JobId;
use workyard_tests::Yard;
use workyard_tests::hand::{Hand, job_id, outcome, spec, submit};

const BASE: &str = "workyard:{q}:";

/// One valid call of every function that writes, on the state that `prepare` makes: name, own keys, arguments.
const CALLS: [(&str, &[&str], &[&str]); 20] = [
    (
        "enqueue",
        &["producer:s"],
        &[
            "1",
            "",
            "w",
            "new",
            "k priority=1 expires_in=5000",
            "1",
            "late",
            "k delay=5",
            "2",
        ],
    ),
    (
        "ingest",
        &["inbox", "rejected"],
        &["{}", "a", "in", "k", "1", "x", "r", "why", "", ""],
    ),
    ("claim", &["running:c", "session:c"], &["c", "10", "TOKEN", "1", "1000"]),
    (
        "complete",
        &["running:c", "session:c"],
        &["c", "9", "held", "TOKEN", "k", "60000 1 1", "null"],
    ),
    (
        "fail",
        &["running:c", "session:c"],
        &["c", "9", "held", "TOKEN", "retry", "", "0", "5", "boom"],
    ),
    (
        "fail",
        &["running:c", "session:c"],
        &["c", "9", "held", "TOKEN", "final", "", "0", "", "boom"],
    ),
    (
        "release",
        &["running:c", "session:c"],
        &["c", "9", "held", "TOKEN", "drain", "0"],
    ),
    ("try", &["running:c", "session:c"], &["c", "held", "TOKEN"]),
    ("heartbeat", &["notices:c"], &["c", "60000", "1"]),
    ("promote", &[], &["100"]),
    (
        "reclaim",
        &["running:gone", "session:gone", "notices:gone"],
        &["gone", "100"],
    ),
    ("leave", &["running:c", "session:c", "notices:c"], &["c", "100"]),
    ("sweep", &[], &["100"]),
    ("cancel", &["audit"], &["who", "first", ""]),
    ("cancel", &["audit", "running:c", "notices:c"], &["who", "held", "c"]),
    ("retry", &["audit"], &["who", "dead"]),
    ("delete", &["audit"], &["who", "dead", "done"]),
    ("purge", &["audit"], &["who", "pending", "10"]),
    ("purge", &["audit", "inbox", "inbox:ingesting"], &["who", "inbox", "1"]),
    ("set", &["audit"], &["who", "max_pending", "10", "balance", "adaptive"]),
];

/// In place of the twelve keys of a job.
const JOB: &str = "the job's 12";
const HOLDER: &[&str] = &["running:<consumer>", "session:<consumer>"];
const LEAVING: &[&str] = &["running:<consumer>", "session:<consumer>", "notices:<consumer>"];

/// How many keys these are.
fn own_keys(own: &[&str]) -> usize {
    own.len() + if own.first() == Some(&JOB) { 11 } else { 0 }
}

/// Every function, by name, and the own keys that it is never called without.
const KEYS: [(&str, &[&str]); 45] = [
    ("adopt", LEAVING),
    ("cancel", &["audit"]),
    ("checkup", &[]),
    ("claim", HOLDER),
    ("complete", HOLDER),
    ("dead", &[]),
    ("delete", &["audit"]),
    ("enqueue", &[]),
    ("examine", &[]),
    ("fail", HOLDER),
    ("fleet", &["vitals", "fleet"]),
    ("follow", &[]),
    ("heartbeat", &["notices:<consumer>"]),
    ("ingest", &["source list", "rejected list"]),
    ("inspect", &[]),
    ("job_backup", &[JOB]),
    ("job_cancel", &[JOB, "audit"]),
    ("job_delete", &[JOB, "audit"]),
    ("job_examine", &[JOB]),
    ("job_mend", &[JOB]),
    ("job_reducing", &[JOB]),
    ("job_retry", &[JOB, "audit"]),
    ("job_settle", &[JOB, HOLDER[0], HOLDER[1]]),
    ("job_submit", &[JOB]),
    ("job_tend", &[JOB]),
    ("job_wait", &[JOB]),
    ("leave", LEAVING),
    ("mend", &[]),
    ("overview", &[]),
    ("pass_on", &[]),
    ("peek", &["source list"]),
    ("progress", &["running:<consumer>"]),
    ("promote", &[]),
    ("purge", &["audit"]),
    ("reclaim", &["running:<dead>", "session:<dead>", "notices:<dead>"]),
    ("release", HOLDER),
    (
        "retire",
        &[
            "audit",
            "inbox",
            "inbox:ingesting",
            "rejected",
            "vitals",
            "fleet",
            "jobs",
            "jobs:due",
        ],
    ),
    ("retry", &["audit"]),
    ("set", &["audit"]),
    ("set_right", &[]),
    ("survey", &["vitals"]),
    ("sweep", &[]),
    ("try", HOLDER),
    ("unpark", &[]),
    ("wait", &[]),
];

async fn call(
    redis: &mut MultiplexedConnection,
    name: &str,
    own: &[&str],
    args: &[String],
) -> Result<Value, redis::RedisError> {
    let mut cmd = redis::cmd("FCALL");
    cmd.arg(format!("workyard_1_{name}")).arg(SHARED.len() + own.len());
    for key in SHARED.iter().chain(own) {
        cmd.arg(format!("{BASE}{key}"));
    }
    cmd.arg(args).query_async(redis).await
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// A plain command, its answer ignored.
async fn plain(redis: &mut MultiplexedConnection, words: &[&str]) {
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]);
    let _: Value = cmd.query_async(redis).await.unwrap();
}

async fn add(redis: &mut MultiplexedConnection, id: &str, options: &str) {
    call(
        redis,
        "enqueue",
        &[],
        &strings(&["", "", "", id, format!("k {options}").trim(), "1"]),
    )
    .await
    .unwrap();
}

/// Adds a task and has `consumer` claim it; answers the token.
async fn hold(redis: &mut MultiplexedConnection, id: &str, consumer: &str, above: &str) -> String {
    add(redis, id, "").await;
    let own = [format!("running:{consumer}"), format!("session:{consumer}")];
    let claimed = call(
        redis,
        "claim",
        &[&own[0], &own[1]],
        &strings(&[consumer, "1", above, "0", "1000"]),
    )
    .await
    .unwrap();
    let Value::Array(items) = claimed else {
        panic!("{claimed:?}")
    };
    redis::from_redis_value(items[1].clone()).unwrap()
}

/// A queue with a task in every place: pending `first`, due, expired, held by `c` and by `gone`, dead, done.
/// Answers the token of `held`.
async fn prepare(redis: &mut MultiplexedConnection) -> String {
    plain(redis, &["FLUSHDB"]).await;
    for consumer in ["c", "gone"] {
        let notices = format!("notices:{consumer}");
        call(redis, "heartbeat", &[&notices], &strings(&[consumer, "60000", "1"]))
            .await
            .unwrap();
    }
    let own = ["running:c", "session:c"];
    let dead = hold(redis, "dead", "c", "0").await;
    call(
        redis,
        "fail",
        &own,
        &strings(&["c", "1", "dead", &dead, "final", "", "0", "5", "no"]),
    )
    .await
    .unwrap();
    let done = hold(redis, "done", "c", &dead).await;
    call(
        redis,
        "complete",
        &own,
        &strings(&["c", "1", "done", &done, "k", "60000 1 1", "1"]),
    )
    .await
    .unwrap();
    hold(redis, "lost", "gone", "0").await;
    let held = hold(redis, "held", "c", &done).await;
    for (id, options) in [("first", ""), ("due", "delay=1"), ("old", "expires_in=1")] {
        add(redis, id, options).await;
    }
    plain(redis, &["ZADD", "workyard:{q}:consumers", "1", "gone"]).await;
    plain(redis, &["HSET", "workyard:{q}:state", "grace", "0"]).await; // not the lease after a silence
    plain(redis, &["RPUSH", "workyard:{q}:inbox", "{}", "x"]).await;
    plain(redis, &["HSET", "workyard:{q}:waiters", "held", "w", "first", "w"]).await;
    tokio::time::sleep(Duration::from_millis(3)).await; // `due` and `old` are counted in ms
    held
}

async fn dump(redis: &mut MultiplexedConnection) -> BTreeMap<String, Vec<u8>> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(redis).await.unwrap();
    let mut all = BTreeMap::new();
    for key in keys {
        let bytes: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap();
        all.insert(key, bytes);
    }
    all
}

#[tokio::test]
async fn a_call_that_meets_a_key_of_the_wrong_type_changes_nothing() {
    let yard = Yard::start().await;
    yard.broker.link().load_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    let (mut failed, mut torn) = (0, Vec::new());
    for (name, own, args) in CALLS {
        for key in SHARED.iter().chain(own) {
            let token = prepare(&mut redis).await;
            let full = format!("{BASE}{key}");
            let kind: String = redis::cmd("TYPE").arg(&full).query_async(&mut redis).await.unwrap();
            let _: () = redis::cmd("DEL").arg(&full).query_async(&mut redis).await.unwrap();
            // Not the type of any key of that name: only the audit is a stream.
            let wrong: &[&str] = if *key == "audit" {
                &["SET", &full, "text"]
            } else {
                &["XADD", &full, "1-1", "a", "b"]
            };
            plain(&mut redis, wrong).await;
            let before = dump(&mut redis).await;
            let args: Vec<String> = args.iter().map(|arg| arg.replace("TOKEN", &token)).collect();
            if call(&mut redis, name, own, &args).await.is_err() {
                failed += 1;
                let after = dump(&mut redis).await;
                if before != after {
                    let changed: Vec<_> = after.keys().filter(|k| before.get(*k) != after.get(*k)).collect();
                    torn.push(format!(
                        "{name} with {key} ({kind}) of the wrong type changed {changed:?}"
                    ));
                }
            }
        }
    }
    println!("{failed} failing calls");
    assert!(failed > 100, "{failed}");
    assert!(torn.is_empty(), "{}", torn.join("\n"));
}

#[tokio::test]
async fn every_call_of_the_table_works_when_nothing_is_wrong() {
    let yard = Yard::start().await;
    yard.broker.link().load_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    for (name, own, args) in CALLS {
        let token = prepare(&mut redis).await;
        let args: Vec<String> = args.iter().map(|arg| arg.replace("TOKEN", &token)).collect();
        let before = dump(&mut redis).await;
        call(&mut redis, name, own, &args)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_ne!(before, dump(&mut redis).await, "{name} did nothing");
    }
}

/// Each of these calls is refused as `INVALID`, and changes nothing.
async fn refused<'a>(cases: impl IntoIterator<Item = (&'a str, &'a [&'a str], Vec<String>)>) {
    assert!(refused_unchanged(&functions::library(), cases).await);
}

/// Each of these calls of such functions is refused as `INVALID`; whether they changed nothing.
async fn refused_unchanged<'a>(
    library: &str,
    cases: impl IntoIterator<Item = (&'a str, &'a [&'a str], Vec<String>)>,
) -> bool {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    plain(&mut redis, &["FUNCTION", "LOAD", "REPLACE", library]).await;
    prepare(&mut redis).await;
    let before = dump(&mut redis).await;
    for (name, own, args) in cases {
        let error = call(&mut redis, name, own, &args).await.expect_err(name);
        assert_eq!(error.code(), Some("INVALID"), "{name} {args:.60?}: {error}");
    }
    before == dump(&mut redis).await
}

/// The calls below would find a function that writes first and checks its arguments then.
#[tokio::test]
async fn a_function_that_writes_before_it_has_checked_its_arguments_is_found() {
    let sound = functions::library();
    let (checks, last) = ("  local ids, times = read_batch(argv, n)\n", "k \n");
    assert_eq!(sound.matches(checks).count(), 1);
    let broken = sound.replace(checks, &format!("  call('HDEL', running, argv[3])\n{checks}"));
    let call = || {
        let args = strings(&["c", "5", "held", "1", last, "0 1 2", "1"]);
        [("complete", &["running:c", "session:c"][..], args)]
    };
    assert!(refused_unchanged(&sound, call()).await);
    assert!(!refused_unchanged(&broken, call()).await);
}

#[tokio::test]
async fn malformed_arguments_are_refused_with_the_reason_and_change_nothing() {
    let big = "x".repeat((1 << 20) + 1);
    let cases: Vec<(&str, &[&str], Vec<String>)> = vec![
        ("enqueue", &[], strings(&[])),
        ("enqueue", &[], strings(&["", "", "", "a b", "k", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "k{}", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "k priority=256", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "k priority=nan", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "k priority=1e3", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "k prio=1", "1"])),
        ("enqueue", &[], strings(&["", "", "", "a", "k =", "1"])),
        (
            "enqueue",
            &[],
            strings(&["", "", "", "ok", "k", "1", "b", "k timeout=0", "1"]),
        ),
        (
            "enqueue",
            &[],
            vec![String::new(), String::new(), String::new(), "a".into(), "k".into(), big],
        ),
        ("enqueue", &["producer:s"], strings(&["x", "", "", "a", "k", "1"])),
        (
            "claim",
            &["running:c", "session:c"],
            strings(&["c", "0", "0", "1", "1"]),
        ),
        (
            "claim",
            &["running:c", "session:c"],
            strings(&["c", "x", "0", "1", "1"]),
        ),
        ("complete", &["running:c", "session:c"], strings(&["c", "1", "held"])),
        (
            "fail",
            &["running:c", "session:c"],
            strings(&["c", "5", "held", "1", "retry", "-5", "0", "", ""]),
        ),
        (
            "fail",
            &["running:c", "session:c"],
            strings(&["c", "5", "held", "1", "retry", "", "2", "", ""]),
        ),
        ("heartbeat", &["notices:x"], strings(&["x y", "3000", "1"])),
        ("heartbeat", &["notices:x"], strings(&["x", "1", "1"])),
        ("promote", &[], strings(&["0"])),
        ("purge", &["audit"], strings(&["w", "tasks", "10"])),
        ("purge", &["audit"], strings(&["w", "inbox", "10"])),
        ("set", &["audit"], strings(&["w", "colour", "red"])),
        ("set", &["audit"], strings(&["w", "paused", "2"])),
        ("set", &["audit"], strings(&["w"])),
        ("set", &["audit"], strings(&["w", "paused"])),
        ("set", &["audit"], strings(&["w", "balance", "random"])),
        ("set", &["audit"], strings(&["w", "max_pending", "-1"])),
        ("set", &["audit"], strings(&["w", "max_pending", "1e3"])),
        ("set", &["audit"], strings(&["w", "max_pending", "1000000001"])),
        ("set", &["audit"], strings(&["w", "max_pending", "00000000001"])),
        ("set", &["audit"], strings(&["w", "max_bytes", "1125899906842625"])),
        ("set", &["audit"], strings(&["w", "overload", "drop"])),
        ("set", &["audit"], strings(&["w", "paused", "1", "overload", ""])),
    ];
    refused(cases).await;
}

#[tokio::test]
async fn what_is_no_kind_no_run_time_and_no_token_is_refused_and_changes_nothing() {
    let own: &[&str] = &["running:c", "session:c"];
    let (nines, nan) = ("9".repeat(400), "nan");
    let cases = [
        ("complete", own, strings(&["c", "5", "held", "1", "k \n", "0 1 2", "1"])),
        ("complete", own, strings(&["c", "5", "held", "1", "k", "0 1 2-", "1"])),
        ("try", own, strings(&["c", "held", "x"])),
        ("complete", own, strings(&["c", "5", "held", "1", "k", "0 1 -7", "1"])),
        (
            "complete",
            own,
            strings(&["c", "5", "held", "1", "k", &format!("0 {nines} 1"), "1"]),
        ),
        (
            "complete",
            own,
            strings(&["c", "5", "held", "1", "k", &format!("{nines} 1 1"), "1"]),
        ),
        ("release", own, strings(&["c", "5", "held", "1", "drain", &nines])),
        ("release", own, strings(&["c", "5", "held", "1", "huh", "0"])),
        // Lua takes it for a number, which is neither less nor more than any bound.
        (
            "fail",
            own,
            strings(&["c", "5", "held", "1", "retry", "", nan, "1", "why"]),
        ),
        ("release", own, strings(&["c", "5", "held", "1", "drain", nan])),
        ("claim", own, strings(&["c", nan, "0", "0", "1000"])),
        ("claim", own, strings(&["c", "1", nan, "0", "1000"])),
        ("claim", own, strings(&["c", "1", "0", "0", nan])),
        ("heartbeat", &["notices:c"][..], strings(&["c", nan, "1"])),
        ("promote", &[], strings(&[nan])),
        ("sweep", &[], strings(&[nan])),
        ("purge", &["audit"][..], strings(&["w", "pending", nan])),
    ];
    refused(cases).await;
}

/// What a hash of the queue says of a task.
async fn field(redis: &mut MultiplexedConnection, key: &str, id: &str) -> String {
    let mut cmd = redis::cmd("HGET");
    cmd.arg(format!("{BASE}{key}"))
        .arg(id)
        .query_async(redis)
        .await
        .unwrap()
}

/// What docs/protocol.md says of arguments that may be left out, and of those that nobody checks.
#[tokio::test]
async fn what_may_be_left_out_is_left_out_and_what_is_believed_is_believed() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    plain(&mut redis, &["FUNCTION", "LOAD", "REPLACE", &functions::library()]).await;
    let beat = call(&mut redis, "heartbeat", &["notices:c"], &strings(&["c", "60000", "1"])).await;
    let Value::Array(beat) = beat.unwrap() else { panic!() };
    assert_eq!((beat.len(), &beat[0]), (4, &Value::BulkString(b"ok".to_vec())));
    let beat = call(&mut redis, "heartbeat", &["notices:c"], &strings(&["c", "60000"])).await;
    assert!(matches!(beat, Ok(Value::Array(beat)) if beat.len() == 4), "it renews");

    // Without the key of a producer's session its number is none.
    for _ in 0..2 {
        let task = strings(&["no number", "", "", "", "k", "1"]);
        call(&mut redis, "enqueue", &[], &task).await.unwrap();
    }
    let own = ["running:c", "session:c"];
    let few = strings(&["c", "1", "0", "0"]);
    assert!(
        call(&mut redis, "claim", &own, &few).await.is_err(),
        "the bytes are missing"
    );
    let claimed = call(&mut redis, "claim", &own, &strings(&["c", "2", "0", "0", "1000"])).await;
    let claimed: Vec<String> = redis::from_redis_value(claimed.unwrap()).unwrap();
    assert_eq!(claimed.len(), 2 + 2 * 3, "{claimed:?}");
    let (token, first, second) = (&claimed[1], &claimed[2], &claimed[5]);

    let told = strings(&["c", "1", first, token, "other", "60000 5 -", "no JSON"]);
    call(&mut redis, "complete", &own, &told).await.unwrap();
    let ended = field(&mut redis, "results", first).await;
    assert!(
        ended.starts_with("completed other 5 0 ") && ended.ends_with("no JSON"),
        "{ended}"
    );
    let failed = strings(&["c", "1", second, token, "final", "", "0", "-7", "why"]);
    call(&mut redis, "fail", &own, &failed).await.unwrap();
    let meta = field(&mut redis, "meta", second).await;
    assert!(meta.contains(" final 0 c\n"), "its begin is unknown: {meta}");
}

#[tokio::test]
async fn too_few_arguments_are_refused_in_words() {
    let long = "x".repeat(257);
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("heartbeat", &["notices:x"], &[]),
        ("sweep", &[], &["nan"]),
        ("cancel", &["audit"], &["w"]),
        ("cancel", &["audit"], &["w", "held", "", &long]),
    ];
    refused(cases.map(|(name, own, args)| (name, own, strings(args)))).await;
}

/// What is forgotten is told in words, not as an error in the middle of a function.
#[tokio::test]
async fn no_function_fails_in_its_middle_for_too_few_arguments() {
    let yard = Yard::start().await;
    yard.broker.link().load_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    for (name, own) in KEYS {
        let more = own_keys(own);
        for (count, all) in (0..9).flat_map(|count| ["", "x", "1", "a b"].map(|all| (count, all))) {
            let mut cmd = redis::cmd("FCALL");
            cmd.arg(format!("workyard_1_{name}")).arg(SHARED.len() + more);
            for key in SHARED {
                cmd.arg(format!("{BASE}{key}"));
            }
            for n in 0..more {
                cmd.arg(format!("{BASE}{name}:{n}"));
            }
            let answer: redis::RedisResult<Value> = cmd.arg(vec![all; count]).query_async(&mut redis).await;
            let said = answer.err().filter(|error| error.code() != Some("INVALID"));
            assert!(said.is_none(), "{name} with {count} times {all:?}: {said:?}");
        }
    }
}

#[tokio::test]
async fn a_cancel_and_a_heartbeat_with_half_of_their_optional_keys_are_refused_in_words() {
    let held = strings(&["who", "held", "c"]);
    let report = strings(&["c", "60000", "0", "{}"]);
    refused([
        ("cancel", &["audit", "running:c"][..], held),
        ("heartbeat", &["notices:c"], report),
    ])
    .await;
}

#[tokio::test]
async fn a_claim_with_a_flag_that_is_none_is_refused_and_one_that_leaves_the_last_out_works() {
    let own: &[&str] = &["running:c", "session:c"];
    let flags = |park: &str, rank: &str, tries: &str| strings(&["c", "1", "0", park, "1000", rank, "1", tries]);
    let cases = [
        ("2", "", "0"),
        ("yes", "", "0"),
        ("1", "x", "0"),
        ("1", "", "3"),
        ("1", "", "yes"),
    ];
    refused(cases.map(|(park, rank, tries)| ("claim", own, flags(park, rank, tries)))).await;
    let yard = Yard::start().await;
    yard.broker.link().load_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    for args in [
        flags("", "", ""),
        flags("0", "", "0"),
        flags("1", "7", "2"),
        flags("1", "", "1")[..5].to_vec(),
    ] {
        call(&mut redis, "claim", own, &args)
            .await
            .unwrap_or_else(|e| panic!("{args:?}: {e}"));
    }
}

#[tokio::test]
async fn a_call_with_too_few_keys_is_refused_in_words() {
    let yard = Yard::start().await;
    let mut redis = yard.server.connection().await;
    yard.queue.overview().await.unwrap();
    let mut registered: Vec<String> =
        ask::<Vec<BTreeMap<String, Value>>>(&mut redis, &["FUNCTION", "LIST"].map(str::to_owned))
            .await
            .iter()
            .flat_map(|library| {
                redis::from_redis_value::<Vec<BTreeMap<String, Value>>>(library["functions"].clone()).unwrap()
            })
            .map(|function| redis::from_redis_value::<String>(function["name"].clone()).unwrap())
            .collect();
    registered.sort_unstable();
    let named: Vec<String> = KEYS.iter().map(|(name, _)| format!("workyard_1_{name}")).collect();
    assert_eq!(named, registered, "the table names every function");
    let before = dump(&mut redis).await;
    for (name, own) in KEYS {
        let least = SHARED.len() + own_keys(own);
        let behind = if own.is_empty() {
            String::new()
        } else {
            format!(", then {}", own.join(", "))
        };
        for keys in [0, 1, SHARED.len() - 1, SHARED.len(), least - 1] {
            if keys >= least {
                continue;
            }
            let mut cmd = redis::cmd("FCALL");
            cmd.arg(format!("workyard_1_{name}")).arg(keys);
            for n in 0..keys {
                cmd.arg(format!("{BASE}{}", SHARED.get(n).unwrap_or(&"inbox")));
            }
            let error = cmd.arg("1").query_async::<Value>(&mut redis).await.expect_err(name);
            let said = format!("{name} takes the 15 shared keys first{behind}: {least} keys at least, but got {keys}");
            assert!(
                error.code() == Some("INVALID") && error.to_string().contains(&said),
                "{name}: {error}"
            );
        }
    }
    assert_eq!(dump(&mut redis).await, before);
}

#[tokio::test]
async fn no_call_holds_redis_for_long_on_a_large_queue() {
    let yard = Yard::start().await;
    yard.add_many(200_000, "k", "\"some payload of usual size, give or take a few bytes\"")
        .await;
    let mut redis = yard.note_calls(Duration::from_millis(5)).await;
    let consumer = workyard_shared::name::SessionId::fresh();
    yard.consumer
        .heartbeat(&consumer, Duration::from_secs(60), true)
        .await
        .unwrap();
    let mut above = 0;
    for _ in 0..20 {
        let request = workyard_shared::broker::ClaimRequest {
            park: true,
            ..workyard_shared::broker::ClaimRequest::new(&consumer, 1000, above)
        };
        let workyard_shared::broker::Claimed::Tasks(grants) = yard.consumer.claim(request).await.unwrap() else {
            panic!()
        };
        assert_eq!(grants.len(), 1000);
        above = grants[0].token;
    }
    yard.consumer.leave(&consumer).await.unwrap();
    yard.consumer.sweep(1000).await.unwrap();
    while yard
        .operator
        .purge_step(workyard_shared::broker::PurgePlace::Pending)
        .await
        .unwrap()
        > 0
    {}
    let slow = yard.noted_us(&mut redis).await;
    let slowest = slow.iter().max().copied().unwrap_or(0);
    println!("slowest call: {slowest} us (0: none above 5 ms; the aim is 5 ms, this machine may be busy)");
    // Others may run on this machine, and hold up a call or two; what walks all 200,000 tasks takes a second and more.
    let long = slow.iter().filter(|us| **us > 15_000).count();
    assert!(
        long <= 10 && slowest < 500_000,
        "{long} calls above 15 ms, one of {slowest} us"
    );
    assert_eq!(yard.overview().await.pending, 0);
}

/// The calls of jobs, in steps as large as consumers, submitters and the maintainer make them: how long those above 5 ms took.
async fn long_calls_of_jobs() -> Vec<u64> {
    let yard = Yard::start().await;
    let mut redis = yard.note_calls(Duration::from_millis(5)).await;
    let mut hand = Hand::register(&yard.consumer).await;
    let many = job_id("many");
    submit(&yard.producer, &many, &spec(Form::fold()), 200_000).await;
    for round in 0..20 {
        let verdict = if round == 7 {
            JobVerdict::Retry
        } else {
            JobVerdict::Done
        };
        settle_some(&mut hand, &many, 200, verdict, 1).await;
    }
    let (_, members) = yard.queue.job_live(&many, 0).await.unwrap();
    yard.consumer.job_tend(&many, None, &members).await.unwrap();
    let copied: Vec<String> = members.into_iter().take(100).collect();
    assert!(yard.consumer.job_backup(&many, &copied).await.unwrap() > 0);
    for ends in 0..2 {
        assert_eq!(yard.operator.job_cancel(&many).await.unwrap(), JobCancelled::Cancelled);
        while yard.consumer.job_tend(&many, None, &[]).await.unwrap().more {}
        while ends == 0 && yard.operator.job_retry(&many).await.unwrap() == JobRetried::More {}
    }
    while yard.operator.job_delete(&many, false).await.unwrap() == JobDeleted::More {}

    // All levels of a tree, and all partitions that there may be.
    let tree = job_id("tree");
    submit(&yard.producer, &tree, &spec(Form::fold()), 3200).await;
    while settle_some(&mut hand, &tree, 200, JobVerdict::Done, 1).await > 0 {}
    assert_eq!(hand.record(&tree).await.state, JobState::Completed);
    let wide = job_id("wide");
    submit(&yard.producer, &wide, &spec(Form::Keyed { partitions: 1000 }), 100).await;
    for _ in 0..50 {
        settle_some(&mut hand, &wide, 2, JobVerdict::Done, 1000).await;
    }
    while settle_some(&mut hand, &wide, 200, JobVerdict::Done, 1).await > 0 {}
    let record = hand.record(&wide).await;
    assert_eq!((record.state, record.reduces.done), (JobState::Completed, 1000));
    while yard.operator.job_delete(&wide, false).await.unwrap() == JobDeleted::More {}

    yard.noted_us(&mut redis).await
}

#[tokio::test]
async fn no_call_of_a_job_holds_redis_for_long_however_large_the_job() {
    // The best of three: others may run on this machine, and hold up a call for a while. Steps of 500 outcomes took 20 to 40 ms.
    for left in (0..3).rev() {
        let slow = long_calls_of_jobs().await;
        let slowest = slow.iter().max().copied().unwrap_or(0);
        let (all, long) = (slow.len(), slow.iter().filter(|us| **us > 15_000).count());
        println!("{all} calls above 5 ms (the aim is none), {long} above 15 ms, the slowest {slowest} us");
        if 10 * long <= all.max(10) && slowest < 150_000 {
            return;
        }
        assert!(left > 0, "{long} of {all} above 15 ms, one of {slowest} us");
    }
}

/// Claims up to so many tasks of a job and settles them in one call, each with so many parts. How many.
async fn settle_some(hand: &mut Hand, job: &JobId, most: usize, verdict: JobVerdict, parts: u32) -> usize {
    let grants = hand.claim(most).await;
    let part = || Part::Inline(Bytes::from_static(b"12,\n"));
    let outcomes: Vec<_> = grants
        .iter()
        .map(|grant| {
            let parts = if verdict == JobVerdict::Done { parts } else { 0 };
            outcome(grant, verdict, (0..parts).map(|name| (name, part())).collect())
        })
        .collect();
    let settled = outcomes.len();
    if settled > 0 {
        hand.settle(job, outcomes).await;
    }
    settled
}

/// A queue that is full and sheds writes more keys than one that has room.
#[tokio::test]
async fn a_full_queue_that_meets_a_key_of_the_wrong_type_changes_nothing() {
    let yard = Yard::start().await;
    yard.broker.link().load_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    let (enqueue, ingest) = (
        ["", "", "w", "new", "k priority=1", "1"],
        ["{}", "a", "in", "k priority=1", "1"],
    );
    for (name, own, args) in [
        ("enqueue", &[][..], &enqueue[..]),
        ("ingest", &["inbox", "rejected"], &ingest),
    ] {
        let mut shed = 0;
        for key in SHARED.iter().chain(own) {
            prepare(&mut redis).await;
            call(
                &mut redis,
                "set",
                &["audit"],
                &strings(&["w", "max_pending", "1", "overload", "shed"]),
            )
            .await
            .unwrap();
            if *key != "cfg" && *key != "pending" {
                plain(&mut redis, &["DEL", &format!("{BASE}{key}")]).await;
                plain(&mut redis, &["XADD", &format!("{BASE}{key}"), "1-1", "a", "b"]).await;
            }
            let before = dump(&mut redis).await;
            match call(&mut redis, name, own, &strings(args)).await {
                Err(_) => assert_eq!(before, dump(&mut redis).await, "{name} with {key} of the wrong type"),
                Ok(_) => shed += 1,
            }
        }
        assert!((2..8).contains(&shed), "{name}: {shed} calls worked");
    }
}

/// Claims count consecutive scores up instead of reading them, and make the running hash a hash table
/// by a field that must not stay.
#[tokio::test]
async fn a_claim_keeps_every_score_exactly_and_nothing_else() {
    let yard = Yard::start().await;
    yard.queue.link().load_library().await.unwrap();
    let mut redis = yard.server.connection().await;
    let own = ["running:c", "session:c", "notices:c"];
    call(&mut redis, "heartbeat", &[own[2]], &strings(&["c", "60000", "1"]))
        .await
        .unwrap();
    // Consecutive, with a gap, over two priorities; few and many.
    for (count, gap, urgent) in [
        (40, false, false),
        (40, true, false),
        (40, false, true),
        (3, true, false),
    ] {
        for n in 0..count {
            let urgent = urgent && n % 2 == 0;
            add(&mut redis, &format!("t{n}"), if urgent { "priority=1" } else { "" }).await;
        }
        if gap {
            call(&mut redis, "cancel", &["audit"], &strings(&["who", "t1", ""]))
                .await
                .unwrap();
        }
        let scored = ["ZRANGE", &format!("{BASE}pending"), "0", "-1", "WITHSCORES"].map(str::to_owned);
        let before: Vec<(String, String)> = ask(&mut redis, &scored).await;
        call(
            &mut redis,
            "claim",
            &own[..2],
            &strings(&["c", "1000", "0", "0", "9999"]),
        )
        .await
        .unwrap();
        let running: BTreeMap<String, String> =
            ask(&mut redis, &["HGETALL".to_owned(), format!("{BASE}{}", own[0])]).await;
        let held: BTreeMap<_, _> = running
            .into_iter()
            .map(|(id, value)| (id, value.split_once(' ').unwrap().1.to_owned()))
            .collect();
        assert_eq!(held, before.iter().cloned().collect());
        let encoding: String = ask(
            &mut redis,
            &["OBJECT".to_owned(), "ENCODING".to_owned(), format!("{BASE}{}", own[0])],
        )
        .await;
        assert_eq!(encoding == "hashtable", count > 16, "{encoding}");
        call(&mut redis, "leave", &own, &strings(&["c", "1000"])).await.unwrap();
        let after: Vec<(String, String)> = ask(&mut redis, &scored).await;
        assert_eq!(after, before);
        plain(&mut redis, &["FLUSHDB"]).await;
        call(&mut redis, "heartbeat", &[own[2]], &strings(&["c", "60000", "1"]))
            .await
            .unwrap();
    }
}

async fn ask<T: redis::FromRedisValue>(redis: &mut MultiplexedConnection, words: &[String]) -> T {
    let mut cmd = redis::cmd(&words[0]);
    cmd.arg(&words[1..]);
    cmd.query_async(redis).await.unwrap()
}
