//! Map-reduce jobs that Redis cannot read: through the real programs, in both forms, in Redis and at a spill place.

use serde_json::json;
use workyard_tests::{Signal, Yard, wait_until};

use crate::stand::{FILE, MARK, SOON, cli, consumer, done, everything, holds, path, stop};

/// Sums the items of a file, one a chunk.
const SUM: [&str; 9] = [
    "map-reduce",
    "--map",
    "sum",
    "--reduce",
    "sum",
    "--items",
    "items",
    "--chunk-size",
    "1",
];

/// Text with the mark in it, and what counting its words gives.
fn text() -> String {
    format!("{MARK} one two\ntwo {MARK} three\n").repeat(200)
}

/// The daemon's file with the keys, and a place for spilled data.
fn file(yard: &Yard, keys: &str) -> String {
    let folder = path(yard, "spill");
    std::fs::create_dir_all(&folder).unwrap();
    let (read, spill) = (yard.server.dir().display().to_string(), folder.display().to_string());
    format!("{FILE}\n[jobs]\nread = [{read:?}]\nspill = [{spill:?}]\n\n{keys}")
}

/// Whether any file below the folder has the mark; and how many there are.
fn spilled(yard: &Yard) -> (bool, usize) {
    let mut folders = vec![path(yard, "spill")];
    let (mut shows, mut files) = (false, 0);
    while let Some(folder) = folders.pop() {
        // What is only intermediate goes when the job has ended, perhaps just now.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(content) = std::fs::read(path) {
                files += 1;
                shows |= holds(&content, MARK);
            }
        }
    }
    (shows, files)
}

async fn with_keys(required: bool) -> (Yard, workyard_tests::Daemon) {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring", "--id", "k1"]);
    let keys = format!("[keys]\nfile = \"ring\"\nrequire_sealed = {required}\n");
    let daemon = consumer(&yard, &file(&yard, &keys), &[]);
    wait_until(SOON, || async { yard.overview().await.consumers > 0 }).await;
    (yard, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_redis_nor_the_spill_place_sees_what_a_sealed_job_reads_and_makes() {
    let (yard, daemon) = with_keys(true).await;
    std::fs::write(path(&yard, "text"), text()).unwrap();
    let spill = path(&yard, "spill").display().to_string();
    let job = |id: &'static str, more: &[&str]| {
        let base = ["map-reduce", "--keys", "ring", "--id", id, "--json"];
        done(&yard, &[&base[..], more].concat())
    };
    let lines = ["--items", "text", "--format", "lines", "--chunk-size", "10"];
    let words = ["--map", "word-count", "--reduce", "sum-by-key"];
    let counted = |answer: &str| {
        assert!(answer.contains(MARK), "{answer}");
        answer.contains("400")
    };
    // Keyed, in Redis; the same with all data spilled; from byte ranges of a file; a fold of maps.
    let keyed = job("keyed", &[&lines[..], &words, &["--keyed"]].concat());
    assert!(counted(&keyed), "{keyed}");
    let apart = job(
        "spilled",
        &[&lines[..], &words, &["--keyed", "--budget", "0", "--spill", &spill]].concat(),
    );
    assert_eq!(apart, keyed);
    let (shows, files) = spilled(&yard);
    assert!(!shows && files > 0, "{files} files, in the open: {shows}");
    let ranges = job(
        "ranges",
        &[&["--input", "text", "--chunk-size", "1KiB"][..], &words, &["--keyed"]].concat(),
    );
    assert_eq!(ranges, keyed);
    // Arguments can be secrets, too: here they come back as what was found.
    let pattern = format!("pattern={MARK} one");
    let found = job(
        "found",
        &[
            &lines[..],
            &["--map", "grep", "--map-arg", &pattern, "--reduce", "identity"],
        ]
        .concat(),
    );
    assert_eq!(found.matches(&format!("{MARK} one")).count(), 200, "{found}");

    let all = everything(&yard).await;
    assert!(!holds(&all, MARK), "Redis has it in the open");
    assert!(holds(&all, "workyard.sealed"), "it looks where data is");
    // The same call again is the same job, and its mark in Redis is no plain hash of the input.
    let again = done(
        &yard,
        &[
            &["map-reduce", "--keys", "ring", "--id", "keyed", "--json"][..],
            &lines,
            &words,
            &["--keyed"],
        ]
        .concat(),
    );
    assert_eq!(again, keyed);
    // Without the keys there is nothing to see.
    let (code, stdout, stderr) = cli(&yard, &["job", "result", "keyed"]);
    assert!(
        code == 2 && stdout.is_empty() && stderr.contains("sealed with key k1, and no key ring"),
        "{code} {stdout} {stderr}"
    );
    stop(&daemon).await;
    assert!(!daemon.log().contains(MARK), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_chunks_of_a_sealed_job_are_for_those_with_the_keys() {
    let (yard, daemon) = with_keys(false).await;
    std::fs::write(path(&yard, "items"), json!([1, 2, MARK]).to_string()).unwrap();
    let (code, _, stderr) = cli(&yard, &[&SUM[..], &["--id", "j", "--keys", "ring"]].concat());
    assert!(
        code == 1 && stderr.contains(MARK),
        "its owner sees the item: {code} {stderr}"
    );
    assert!(!holds(&everything(&yard).await, MARK), "the error stands in the open");
    let (code, stdout, stderr) = cli(&yard, &["job", "j", "--json", "--keys", "ring"]);
    assert!(
        code == 0 && stdout.matches(MARK).count() >= 3,
        "record, error, chunk: {stdout} {stderr}"
    );
    let shown = done(&yard, &["job", "j", "--json"]);
    assert!(shown.contains("sealed with key k1") && !shown.contains(MARK), "{shown}");
    let listed = done(&yard, &["job", "list", "--json", "--keys", "ring"]);
    assert!(listed.contains(MARK), "{listed}");
    stop(&daemon).await;
}

/// Replaces a text in all that Redis has of the chunks of jobs, as whoever has the password of a producer could.
async fn replace(yard: &Yard, job: &str, old: &str, new: &str) {
    let mut redis = yard.server.connection().await;
    let mut replaced = 0;
    for key in [
        yard.queue.keys().named("tasks"),
        yard.queue.keys().named(&format!("job:{job}:chunks")),
    ] {
        let all: Vec<(String, String)> = redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await.unwrap();
        for (field, text) in all.into_iter().filter(|(_, text)| text.contains(old)) {
            replaced += 1;
            let mut set = redis::cmd("HSET");
            set.arg(&key).arg(field).arg(text.replace(old, new));
            let () = set.query_async(&mut redis).await.unwrap();
        }
    }
    assert!(replaced > 0, "chunk {old} of {job} is nowhere");
}

async fn chunk(yard: &Yard, job: &str, number: u32) -> String {
    let mut get = redis::cmd("HGET");
    get.arg(yard.queue.keys().named(&format!("job:{job}:chunks")))
        .arg(number);
    get.query_async(&mut yard.server.connection().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exchanged_or_made_up_in_a_sealed_job_is_refused() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring", "--id", "k1"]);
    done(&yard, &["keys", "new", "other", "--id", "k2"]);
    std::fs::write(path(&yard, "items"), "[1, 2, 3]").unwrap();
    let submit = |id: &str, more: &[&str]| {
        done(&yard, &[&SUM[..], &["--detach", "--id", id], more].concat());
    };
    for id in ["good", "exchanged", "made-up", "functions"] {
        submit(id, &["--keys", "ring"]);
    }
    submit("unknown", &["--keys", "other"]);
    submit("open", &[]);
    let (first, second) = (chunk(&yard, "exchanged", 0).await, chunk(&yard, "exchanged", 1).await);
    replace(&yard, "exchanged", &first, &second).await;
    replace(&yard, "made-up", &chunk(&yard, "made-up", 0).await, "{\"items\":[9]}").await;
    // Another function than its owner chose, which might show what it reads.
    let record = yard.queue.keys().named("job:functions");
    let mut set = redis::cmd("HSET");
    set.arg(record).arg("reduce").arg("max");
    let () = set.query_async(&mut yard.server.connection().await).await.unwrap();

    let keys = "[keys]\nfile = \"ring\"\nrequire_sealed = true\n";
    let daemon = consumer(&yard, &file(&yard, keys), &[]);
    assert_eq!(done(&yard, &["job", "wait", "good", "--keys", "ring"]), "6");
    for (id, reason) in [
        ("exchanged", "sealed with key k1, but it does not open"),
        ("made-up", "the job's chunk is not sealed"),
        ("functions", "sealed with key k1, but it does not open"),
        ("unknown", "sealed with key k2, which is not in the key ring"),
        ("open", "the job's chunk is not sealed"),
    ] {
        let (code, _, stderr) = cli(&yard, &["job", "wait", id, "--timeout", "30s"]);
        assert!(code == 1 && stderr.contains(reason), "{id}: {code} {stderr}");
    }
    stop(&daemon).await;
    // A consumer without keys hands no ciphertext to functions.
    submit("keyless", &["--keys", "ring"]);
    let daemon = consumer(&yard, &file(&yard, ""), &[]);
    let (code, _, stderr) = cli(&yard, &["job", "wait", "keyless", "--timeout", "30s"]);
    assert!(
        code == 1 && stderr.contains("sealed with key k1, and no key ring was given here"),
        "{code} {stderr}"
    );
    stop(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_the_exchange_of_its_key_and_fails_by_name_when_that_is_removed() {
    let yard = Yard::start().await;
    done(&yard, &["keys", "new", "ring", "--id", "old"]);
    // A map waits until there is a file for its item.
    let gated = r#"
[handlers.gated]
type = "command"
argv = ["sh", "-c", "while read -r item; do until [ -e go$item ]; do sleep 0.02; done; echo $item; done"]
"#;
    let keys = "[keys]\nfile = \"ring\"\nrequire_sealed = true\n";
    let daemon = consumer(&yard, &(file(&yard, keys) + gated), &["--concurrency", "4"]);
    wait_until(SOON, || async { yard.overview().await.consumers > 0 }).await;
    let open = |item: &str| std::fs::write(path(&yard, &format!("go{item}")), "").unwrap();
    let reload = |times: usize| {
        daemon.signal(Signal::HUP);
        let log = || daemon.log().matches("the new configuration holds").count();
        wait_until(SOON, move || async move { log() == times })
    };
    // Half of each job is done when the ring changes: outputs of maps are there, and a map is still under way.
    for (id, items) in [("exchanged", "[1, 2, 3]"), ("removed", "[1, 2, 4]")] {
        std::fs::write(path(&yard, "items"), items).unwrap();
        let gated = ["map-reduce", "--map", "gated", "--reduce", "sum", "--items", "items"];
        let more = ["--chunk-size", "1", "--id", id, "--detach", "--keys", "ring"];
        done(&yard, &[&gated[..], &more].concat());
    }
    open("1");
    open("2");
    wait_until(SOON, || async {
        ["exchanged", "removed"].iter().all(|id| {
            let record: serde_json::Value = serde_json::from_str(&done(&yard, &["job", id, "--json"])).unwrap();
            record["maps"]["done"] == 2
        })
    })
    .await;
    std::fs::copy(path(&yard, "ring"), path(&yard, "before")).unwrap();
    done(&yard, &["keys", "new", "ring", "--id", "new"]);
    done(&yard, &["keys", "use", "ring", "new"]);
    reload(1).await;
    open("3");
    assert_eq!(
        done(
            &yard,
            &["job", "wait", "exchanged", "--timeout", "30s", "--keys", "ring"]
        ),
        "6"
    );
    // Without the key nobody can read what the job has: it says so at once, in words that name the key.
    done(&yard, &["keys", "remove", "ring", "old"]);
    reload(2).await;
    open("4");
    let (code, stdout, stderr) = cli(
        &yard,
        &["job", "wait", "removed", "--timeout", "30s", "--keys", "before"],
    );
    assert!(
        code == 1 && stdout.is_empty() && stderr.contains("sealed with key old, which is not in the key ring"),
        "{code} {stdout} {stderr}"
    );
    let record = done(&yard, &["job", "removed", "--json"]);
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(
        (&record["state"], &record["reduces"]["retried"]),
        (&json!("failed"), &json!(0)),
        "{record}"
    );
    stop(&daemon).await;
}
