//! Word count over real text, through real daemons, against `tr`, `sort` and `uniq`: in both forms, with mappers in Rust, `awk`
//! and Python, and while consumers and Redis are killed.
//!
//! The text is the source code of the crates that cargo has downloaded: 32 MB of it for the mapper in Rust and the first 8 for
//! the others, since these daemons are not optimised. `WORKYARD_CORPUS_MB` says how much for all of them; `all` is everything.
//! `WORKYARD_CORPUS_MAP` names the one mapper to run, since Python takes its time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use workyard_producer::{Client, ClientConfig, FileFormat, JobHandle, JobState};
use workyard_tests::{Daemon, Signal, TestServer, queue_name, wait_until, workspace_binary};

/// How much of the text most jobs read, and the mapper in Rust, in MB.
const SOME_MB: u64 = 8;
const MANY_MB: u64 = 32;
/// ... and each of those under which consumers are killed.
const KILLED_MB: u64 = 2;
/// A wait for a job over so much text: far more than it takes.
const PATIENCE: Duration = Duration::from_secs(240);
const PATIENCE_PER_MB: Duration = Duration::from_secs(10);

type Counts = BTreeMap<String, u64>;

/// Rust sources of downloaded crates, in folders of the test's own: copies, so that nothing changes under the job.
struct Corpus {
    dir: tempfile::TempDir,
    some_bytes: u64,
    bytes: u64,
}

/// How much of it is meant.
#[derive(Clone, Copy, PartialEq)]
enum Text {
    Some,
    All,
}

impl Corpus {
    /// `most_mb` of it, unless the environment says how much.
    fn copy(most_mb: u64) -> Self {
        let (some, most) = match std::env::var("WORKYARD_CORPUS_MB") {
            Ok(all) if all == "all" => (u64::MAX, u64::MAX),
            Ok(number) => {
                let bytes = number
                    .parse::<u64>()
                    .expect("WORKYARD_CORPUS_MB is a number or \"all\"")
                    << 20;
                (bytes, bytes)
            }
            Err(_) => (SOME_MB << 20, most_mb << 20),
        };
        let dir = tempfile::tempdir().unwrap();
        for part in ["some", "more"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        let (mut bytes, mut some_bytes, mut number) = (0, 0, 0);
        let mut folders = vec![registry()];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            entries.sort();
            for path in entries {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") && bytes < most {
                    // What is no UTF-8 cannot be a JSON string as it is: docs/jobs.md says what becomes of it.
                    let Ok(text) = std::fs::read_to_string(&path) else {
                        continue;
                    };
                    let part = if bytes < some { "some" } else { "more" };
                    bytes += text.len() as u64;
                    some_bytes = if part == "some" { bytes } else { some_bytes };
                    number += 1;
                    std::fs::write(dir.path().join(format!("{part}/{number:06}.rs")), text).unwrap();
                }
            }
        }
        assert!(bytes > 1 << 20, "cargo has downloaded less than 1 MiB of sources");
        Self { dir, some_bytes, bytes }
    }

    fn bytes(&self, text: Text) -> u64 {
        match text {
            Text::Some => self.some_bytes,
            Text::All => self.bytes,
        }
    }

    fn pattern(&self, text: Text) -> String {
        let part = if text == Text::All { "*" } else { "some" };
        format!("{}/{part}/*.rs", self.dir.path().display())
    }

    fn patience(&self) -> Duration {
        PATIENCE + PATIENCE_PER_MB * u32::try_from(self.bytes >> 20).unwrap()
    }

    /// What the old tools say.
    fn expected(&self, text: Text) -> Counts {
        let begun = Instant::now();
        let part = if text == Text::All { "" } else { "some" };
        // A file that does not end its last line would lend its last word to the next one.
        let script = "find \"$1\" -name '*.rs' -exec sh -c 'for file; do cat \"$file\"; echo; done' sh {} + \
                      | tr -s '[:space:]' '\\n' | sort | uniq -c";
        let output = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(self.dir.path().join(part))
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(output.status.success());
        println!("tr, sort and uniq: {} bytes in {:?}", self.bytes(text), begun.elapsed());
        let counted = String::from_utf8(output.stdout).unwrap();
        let pairs = counted.lines().map(|line| line.trim_start().split_once(' ').unwrap());
        let counts = pairs.map(|(count, word)| (word.to_owned(), count.parse().unwrap()));
        counts.filter(|(word, _): &(String, u64)| !word.is_empty()).collect()
    }
}

fn registry() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo"));
    home.join("registry/src")
}

/// Mappers in other languages: an `awk` line, and Python as a process per chunk and as a worker.
fn config(corpus: &Path, spill: &Path) -> String {
    let awk = r#"{for(i=1;i<=NF;i++) if ($i != "") n[$i]++} END{for(w in n) print w "\t" n[w]}"#;
    let python = "import collections, json, re, sys\n\
        words = re.split(rb'[ \\t\\n\\v\\f\\r]+', sys.stdin.buffer.read())\n\
        counts = collections.Counter(w.decode() for w in words if w)\n\
        print(json.dumps(counts, ensure_ascii=False))\n";
    let worker = "import collections, json, re, sys\n\
        for line in sys.stdin:\n\
        \x20   task = json.loads(line)\n\
        \x20   if task.get('type') != 'task': continue\n\
        \x20   n = collections.Counter(w for line in task['payload'] for w in re.split('[ \\t\\n\\v\\f\\r]+', line) if w)\n\
        \x20   out = [[w, c] for w, c in n.items()] if task['form'] == 'keyed' else [n]\n\
        \x20   print(json.dumps({'type': 'result', 'id': task['id'], 'token': task['token'], 'result': out}), flush=True)\n";
    let mut text = String::from("concurrency = 2\nlease = \"600ms\"\n[[queues]]\nname = \"q\"\n");
    writeln!(text, "[jobs]\nread = [{corpus:?}]\nspill = [{spill:?}]").unwrap();
    writeln!(text, "[handlers.awk]\ntype = \"command\"\nrecords = \"text\"").unwrap();
    writeln!(
        text,
        "argv = [\"awk\", \"-F\", \"[ \\t\\r\\f\\u000b]+\", {awk:?}]\nenv = {{ LC_ALL = \"C\" }}"
    )
    .unwrap();
    writeln!(
        text,
        "[handlers.python]\ntype = \"command\"\nrecords = \"text\"\nargv = [\"python3\", \"-c\", {python:?}]"
    )
    .unwrap();
    writeln!(
        text,
        "[handlers.worker]\ntype = \"worker\"\nprocesses = 2\nargv = [\"python3\", \"-c\", {worker:?}]"
    )
    .unwrap();
    text
}

struct Site {
    server: TestServer,
    corpus: Corpus,
    spill: tempfile::TempDir,
    file: PathBuf,
    client: Client,
}

impl Site {
    async fn open(server: TestServer, most_mb: u64) -> Self {
        let (corpus, spill) = (Corpus::copy(most_mb), tempfile::tempdir().unwrap());
        let file = spill.path().join("consumer.toml");
        std::fs::write(&file, config(corpus.dir.path(), spill.path())).unwrap();
        let mut config = ClientConfig::from_url(&server.producer_url()).unwrap();
        config.patience = corpus.patience();
        Self {
            client: Client::new(config).unwrap(),
            server,
            corpus,
            spill,
            file,
        }
    }

    fn daemon(&self) -> Daemon {
        Daemon::spawn(
            workspace_binary("workyard-consumer")
                .arg("--config")
                .arg(&self.file)
                .args(["--redis-url", &self.server.consumer_url(), "--log", "warn"]),
        )
    }
}

/// The job as an operator has it, who may delete it.
fn operated(site: &Site, job: &JobHandle) -> JobHandle {
    let operator = Client::new(ClientConfig::from_url(&site.server.operator_url()).unwrap()).unwrap();
    operator.job(&queue_name("q"), job.id())
}

async fn result(job: &JobHandle, keyed: bool) -> Counts {
    match keyed {
        true => job.pairs::<String, u64>().await.unwrap().collect().await.unwrap(),
        false => job.result::<Counts>().await.unwrap().unwrap(),
    }
}

/// Runs one job and returns its counts; nothing of it is left.
async fn count(site: &Site, map: &str, keyed: bool, text: Text) -> Counts {
    let begun = Instant::now();
    let mut job = site
        .client
        .map_reduce(&queue_name("q"), map, "sum-by-key")
        .files([site.corpus.pattern(text)], Some(FileFormat::Lines))
        .chunk_size(256 << 10)
        .spill(format!("file://{}", site.spill.path().display()));
    if keyed {
        job = job.keyed(4);
    }
    let job = job.submit().await.unwrap();
    let record = job.wait(site.corpus.patience()).await.unwrap();
    assert_eq!(record.state, JobState::Completed, "{map}: {}", record.error);
    let counts = result(&job, keyed).await;
    operated(site, &job).delete().await.unwrap();
    let (form, bytes) = (if keyed { "keyed" } else { "fold" }, site.corpus.bytes(text));
    println!(
        "{map:>10} {form:>5}: {} words of {bytes} bytes in {:?}, of which maps {} ms, reduces {} ms",
        counts.len(),
        begun.elapsed(),
        record.mapped_ms - record.started_ms,
        record.finished_ms - record.mapped_ms
    );
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_counted_as_tr_sort_and_uniq_count_them() {
    let site = Site::open(TestServer::start().await, MANY_MB).await;
    let (some, all) = (site.corpus.expected(Text::Some), site.corpus.expected(Text::All));
    let _daemons = [site.daemon(), site.daemon()];
    let only = std::env::var("WORKYARD_CORPUS_MAP").ok();
    for (map, keyed, text) in [
        ("word-count", true, Text::All),
        ("word-count", false, Text::All),
        ("awk", true, Text::Some),
        ("python", false, Text::Some),
        ("worker", true, Text::Some),
        ("worker", false, Text::Some),
    ] {
        if only.as_deref().is_some_and(|only| only != map) {
            continue;
        }
        let counts = count(&site, map, keyed, text).await;
        let expected = if text == Text::All { &all } else { &some };
        assert!(
            &counts == expected,
            "{map}, keyed: {keyed}: {}",
            difference(&counts, expected)
        );
    }
    assert_eq!(keys_of_jobs(&site.server).await, Vec::<String>::new());
}

/// One job under which consumers are killed every second and Redis once; nothing of it is left.
async fn survives(site: &Site, daemons: &mut [Daemon; 2], map: &str, keyed: bool, spills: bool) -> Counts {
    let mut job = site
        .client
        .map_reduce(&queue_name("q"), map, "sum-by-key")
        .files([site.corpus.pattern(Text::All)], Some(FileFormat::Lines))
        // Far below a second each, also on a busy machine: a chunk under which three consumers die is poison.
        .chunk_size(16 << 10)
        .max_attempts(100)
        .spill(format!("file://{}", site.spill.path().display()));
    if keyed {
        job = job.keyed(16);
    }
    if spills {
        job = job.budget(0);
    }
    let job = job.submit().await.unwrap();
    let (mut kills, mut restarted) = (0, false);
    let begun = Instant::now();
    loop {
        let record = job.status().await.unwrap();
        if record.state.is_terminal() {
            assert_eq!(record.state, JobState::Completed, "{map}: {}", record.error);
            break;
        }
        assert!(begun.elapsed() < site.corpus.patience(), "{map}: {record:?}");
        if !restarted && record.maps.done > record.maps.total / 4 {
            restarted = true;
            site.server.kill9();
            site.server.restart().await;
        }
        // The pace of the disturbance is the point of this test, not a wait for anything.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let victim = kills % daemons.len();
        daemons[victim].signal(Signal::KILL);
        daemons[victim] = site.daemon();
        kills += 1;
    }
    println!(
        "{map}, keyed: {keyed}: {kills} consumers were killed and Redis {}: the job took {:?}",
        u8::from(restarted),
        begun.elapsed()
    );
    assert!(
        restarted && kills >= 2,
        "{map}: the job ended before the disturbance: {kills} kills"
    );
    let counts = result(&job, keyed).await;
    let record = job.status().await.unwrap();
    assert_eq!(
        (record.maps.done, record.reduces.done),
        (record.maps.total, record.reduces.total),
        "{map}: each counted once"
    );
    assert_eq!(record.spilled > 0, spills, "{map}: {record:?}");
    let folder = site.spill.path().join(format!("workyard.q.{}", job.id()));
    assert_eq!(folder.is_dir(), spills, "{}", folder.display());
    operated(site, &job).delete().await.unwrap();
    wait_until(Duration::from_secs(30), || async {
        keys_of_jobs(&site.server).await.is_empty() && tasks_left(&site.server).await == 0 && !folder.exists()
    })
    .await;
    counts
}

/// What is known of tasks, and what consumers hold.
async fn tasks_left(server: &TestServer) -> u64 {
    let mut redis = server.connection().await;
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("workyard:{q}:running:*")
        .query_async(&mut redis)
        .await
        .unwrap();
    keys.extend(["tasks", "meta"].map(|name| format!("workyard:{{q}}:{name}")));
    let mut left = 0;
    for key in keys {
        let fields: u64 = redis::Cmd::hlen(key).query_async(&mut redis).await.unwrap();
        left += fields;
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_is_the_same_while_consumers_are_killed_every_second_and_redis_once() {
    let site = Site::open(TestServer::start_durable().await, KILLED_MB).await;
    let expected = site.corpus.expected(Text::All);
    let mut daemons = [site.daemon(), site.daemon()];
    for (map, keyed, spills) in [
        ("word-count", true, true),
        ("word-count", false, false),
        ("awk", true, false),
        ("worker", false, false),
    ] {
        let counts = survives(&site, &mut daemons, map, keyed, spills).await;
        assert!(
            counts == expected,
            "{map}, keyed: {keyed}: {}",
            difference(&counts, &expected)
        );
    }
}

fn difference(found: &Counts, expected: &Counts) -> String {
    let wrong = expected.iter().filter(|(word, n)| found.get(*word) != Some(n)).take(5);
    let extra = found.keys().filter(|word| !expected.contains_key(*word)).take(5);
    format!(
        "expected {:?}; not expected {:?}",
        wrong.collect::<Vec<_>>(),
        extra.collect::<Vec<_>>()
    )
}

async fn keys_of_jobs(server: &TestServer) -> Vec<String> {
    let mut keys = redis::cmd("KEYS");
    keys.arg("*job*")
        .query_async(&mut server.connection().await)
        .await
        .unwrap()
}
