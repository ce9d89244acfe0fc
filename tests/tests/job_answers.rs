//! The stated answer to each odd input of a job, through the daemon: docs/jobs.md, "Inputs" and "When something fails".
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use workyard_producer::{Client, ClientConfig, FileFormat, JobHandle, JobRecord, JobState, MapReduce};
use workyard_tests::{Daemon, Yard, queue_name, roles_are_on, workspace_binary};

const SOON: Duration = Duration::from_secs(60);

/// A yard with a daemon that reads `dir`, and mappers that emit what is malformed.
struct Site {
    yard: Yard,
    dir: tempfile::TempDir,
    config: PathBuf,
    client: Client,
}

impl Site {
    async fn open() -> Self {
        let (yard, dir) = (Yard::start().await, tempfile::tempdir().unwrap());
        let mut text = String::from("concurrency = 2\n[[queues]]\nname = \"q\"\n");
        writeln!(text, "[jobs]\nread = [{:?}]", dir.path()).unwrap();
        let worker = "import json, sys\n\
            for line in sys.stdin:\n\
            \x20   task = json.loads(line)\n\
            \x20   if task['type'] == 'task':\n\
            \x20       print(json.dumps({'type': 'result', 'id': task['id'], 'token': task['token'], 'result': 7}), flush=True)\n";
        for (kind, more) in [
            (
                "no-json",
                "output = \"json\"\nargv = [\"echo\", \"{no json\"]".to_owned(),
            ),
            ("no-pair", "argv = [\"echo\", \"word\"]".to_owned()),
            ("no-array", format!("argv = [\"python3\", \"-c\", {worker:?}]")),
        ] {
            let form = if kind == "no-array" { "worker" } else { "command" };
            writeln!(text, "[handlers.{kind}]\ntype = \"{form}\"\n{more}").unwrap();
        }
        let config = dir.path().join("consumer.toml");
        std::fs::write(&config, text).unwrap();
        let client = Client::new(ClientConfig::from_url(&yard.server.producer_url()).unwrap()).unwrap();
        Self {
            yard,
            dir,
            config,
            client,
        }
    }

    fn daemon(&self) -> Daemon {
        let mut command = workspace_binary("workyard-consumer");
        let command = command.arg("--config").arg(&self.config);
        Daemon::spawn(command.args(["--redis-url", &self.yard.server.consumer_url(), "--log", "warn"]))
    }

    fn job(&self, map: &str) -> MapReduce {
        self.client.map_reduce(&queue_name("q"), map, "sum")
    }

    /// Submits a job over a file of two lines, while nobody works.
    async fn over_a_file(&self) -> (PathBuf, JobHandle) {
        let file = self.dir.path().join("text.txt");
        std::fs::write(&file, "a\nb\n").unwrap();
        let job = self.job("line-count");
        let job = job.files([file.to_str().unwrap()], Some(FileFormat::Lines));
        (file, job.submit().await.unwrap())
    }
}

async fn failed(job: &JobHandle, reason: &str) -> JobRecord {
    let record = job.wait(SOON).await.unwrap();
    assert_eq!(record.state, JobState::Failed, "{reason}");
    assert!(record.error.contains(reason), "{reason}: {}", record.error);
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_input_completes_and_one_item_is_a_job_of_one_chunk() {
    let site = Site::open().await;
    // Of an empty input no function runs: there is no consumer yet.
    let file = site.dir.path().join("empty.txt");
    std::fs::write(&file, "").unwrap();
    let empty = [
        site.job("sum").items(Vec::<i64>::new()),
        site.job("sum").items(Vec::<i64>::new()).keyed(3),
        site.job("line-count").files([file.to_str().unwrap()], None),
    ];
    for (at, job) in empty.into_iter().enumerate() {
        let job = job.submit().await.unwrap();
        let record = job.wait(SOON).await.unwrap();
        assert_eq!((record.state, record.maps.total), (JobState::Completed, 0), "{at}");
        match at {
            1 => {
                let pairs: Vec<(String, i64)> = job.pairs().await.unwrap().collect().await.unwrap();
                assert!(pairs.is_empty());
            }
            _ => assert_eq!(job.result::<Value>().await.unwrap(), None),
        }
    }
    let _daemon = site.daemon();
    let one = site.job("sum").items([7]).submit().await.unwrap();
    let record = one.wait(SOON).await.unwrap();
    assert_eq!((record.maps.total, record.reduces.total), (1, 1));
    assert_eq!(one.result::<i64>().await.unwrap(), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_over_the_limit_is_refused_by_its_number_and_one_of_just_the_limit_is_not() {
    let site = Site::open().await;
    // With its quotes and the chunk around it, one byte too many.
    let text = |bytes: usize| "x".repeat(bytes);
    let refused = site.job("count").items([text(1), text(1 << 20)]).submit().await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("item 2 has more than 1048564 bytes"), "{refused}");
    assert!(site.yard.queue.jobs(0, 1).await.unwrap().is_empty(), "nothing was sent");
    let _daemon = site.daemon();
    let most = site.job("count").items([text((1 << 20) - 100)]).submit().await.unwrap();
    let record = most.wait(SOON).await.unwrap();
    assert_eq!(record.state, JobState::Completed, "{}", record.error);
    assert_eq!(most.result::<i64>().await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_quote_far_on_in_a_csv_file_is_refused_and_leaves_no_job_that_waits() {
    let site = Site::open().await;
    let file = site.dir.path().join("open.csv");
    // More chunks than go in one call, so that some are sent by then.
    std::fs::write(&file, "a,b\n".to_owned() + &"1,2\n".repeat(1500) + "\"3,4\n5,6\n").unwrap();
    let job = || site.job("count").files([file.to_str().unwrap()], None);
    let whole = job().submit().await.unwrap_err().to_string();
    assert!(
        whole.contains("open.csv: the quote at byte 6004 is never closed"),
        "{whole}"
    );
    assert!(site.yard.queue.jobs(0, 1).await.unwrap().is_empty(), "nothing was sent");
    let cut = job().chunk_size(1).submit().await.unwrap_err().to_string();
    assert_eq!(cut, whole);
    let jobs = site.yard.queue.jobs(0, 9).await.unwrap();
    let states: Vec<JobState> = jobs.iter().map(|job| job.record.state).collect();
    // A producer with no more rights than it needs cannot cancel: then it is abandoned in an hour.
    let expected = if roles_are_on() {
        JobState::Pending
    } else {
        JobState::Cancelled
    };
    assert_eq!(states, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_pair_on_stdin_is_an_array_and_the_failure_says_what_to_do() {
    let site = Site::open().await;
    let _daemon = site.daemon();
    let file = site.dir.path().join("pair.jsonl");
    std::fs::write(&file, "[\"a\",1]\n").unwrap();
    let run = |more: &[&str]| {
        let mut command = workspace_binary("workyard");
        let url = site.yard.server.producer_url();
        let job = ["--map", "identity", "--reduce", "sum", "--keyed", "--items"];
        let command = command
            .args(["--redis-url", &url, "--queue", "q", "map-reduce"])
            .args(job);
        command.arg(&file).args(more).output().unwrap()
    };
    let failed = run(&[]);
    let told = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{told}");
    assert!(told.contains("--format json-lines takes it as one item"), "{told}");
    let done = run(&["--format", "json-lines"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "a\t1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_at_submission_is_refused_and_one_that_goes_later_fails_its_chunk() {
    let site = Site::open().await;
    let gone = site.dir.path().join("gone.txt");
    let refused = site
        .job("line-count")
        .files([gone.to_str().unwrap()], None)
        .submit()
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no such file"), "{refused}");
    let (file, job) = site.over_a_file().await;
    std::fs::remove_file(file).unwrap();
    let _daemon = site.daemon();
    let record = failed(&job, "text.txt").await;
    assert_eq!(record.maps.retried, 2, "it might have come back: three attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_under_the_job_fails_its_chunk_for_good() {
    let site = Site::open().await;
    let (file, job) = site.over_a_file().await;
    std::fs::write(file, "a\nB\n").unwrap();
    let _daemon = site.daemon();
    let record = failed(&job, "has changed under the job").await;
    assert_eq!(record.maps.retried, 0, "no attempt can help");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapper_that_emits_malformed_lines_fails_its_chunk_for_good_with_the_line() {
    let site = Site::open().await;
    let _daemon = site.daemon();
    for (map, reason) in [
        ("no-json", "line 1 of standard output is not JSON"),
        ("no-pair", "line 1 of standard output is no pair"),
        ("no-array", "must be an array of what it emits"),
    ] {
        let job = site.job(map).items([1]);
        let job = if map == "no-pair" { job.keyed(2) } else { job };
        let record = failed(&job.submit().await.unwrap(), reason).await;
        assert_eq!(record.maps.retried, 0, "{map}: no attempt can help");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_fit_a_built_in_function_fail_the_job_without_a_retry() {
    let site = Site::open().await;
    let _daemon = site.daemon();
    // As another client would submit it: nothing has checked the arguments.
    let args = serde_json::json!({"pattern": "("});
    let job = site.job("grep").map_args(&args).items(0..100).chunk_size(1);
    let record = failed(&job.submit().await.unwrap(), "the pattern of grep does not fit").await;
    assert_eq!(record.maps.retried, 0);
}

/// What Python's own readers make of an input: the records, one by one.
const READERS: &str = r#"
import csv, json, sys
form, names = sys.argv[1], sys.argv[2:]
if form == "csv":
    print(json.dumps(list(csv.DictReader(open(names[0], newline="")))))
elif form == "json-lines":
    print(json.dumps([json.loads(line) for line in open(names[0]) if line.strip()]))
else:
    print(json.dumps([{"path": name, "text": open(name, newline="").read()} for name in sorted(names)]))
"#;

fn read_by_python(form: &str, files: &[PathBuf]) -> Vec<Value> {
    let mut python = std::process::Command::new("python3");
    let ran = python.args(["-c", READERS, form]).args(files).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

impl Site {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.dir.path().canonicalize().unwrap().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// What `map-reduce --json` says of these files, in chunks of 64 bytes; and of how many.
    fn reduced(&self, id: &str, files: &[PathBuf], more: &[&str]) -> (Value, u64) {
        let mut line = vec!["map-reduce", "--queue", "q", "--id", id, "--chunk-size", "64", "--json"];
        line.extend(files.iter().flat_map(|file| ["--input", file.to_str().unwrap()]));
        let said: Value = serde_json::from_str(&self.yard.said(&[&line[..], more].concat())).unwrap();
        assert_eq!(said["state"], "completed", "{said}");
        let record: Value = serde_json::from_str(&self.yard.said(&["job", id, "--queue", "q", "--json"])).unwrap();
        (said["result"].clone(), record["chunks"].as_u64().unwrap())
    }
}

/// The submitter cuts, the daemon reads: together they see what there is, wherever a cut falls.
#[tokio::test(flavor = "multi_thread")]
async fn csv_json_lines_and_whole_files_come_through_as_python_reads_them() {
    let site = Site::open().await;
    let _daemon = site.daemon();
    // Quotes, commas and line breaks in fields; the records have from 7 to 90 bytes.
    let mut table = "city,price,note\r\n".to_owned();
    for n in 0..200 {
        let city = [
            "Berlin",
            "\"Bad \"\"Ems\"\", on the Lahn\"",
            "\"two\nlines\"",
            "K\u{f6}ln",
        ][n % 4];
        writeln!(table, "{city},{},\"{}\"", n * 3, "x,\n".repeat(n % 25)).unwrap();
    }
    let csv = [site.write("t.csv", &table)];
    let json: String = (0..200)
        .map(|n| {
            format!(
                "{{\"n\": {n}, \"text\": \"{}\"}}{}",
                "\u{e9}\\n".repeat(n % 20),
                ["\n", "\r\n", "\n\n"][n % 3]
            )
        })
        .collect();
    let json = [site.write("t.jsonl", &json)];
    let files: Vec<PathBuf> = (0..9)
        .map(|n| site.write(&format!("{n}.whole"), &"a \"line\"\r\n".repeat(n * n)))
        .collect();
    let all = ["--map", "identity", "--reduce", "identity"];
    for (form, files, least) in [("csv", &csv[..], 50), ("json-lines", &json, 50), ("files", &files, 3)] {
        let (found, chunks) = site.reduced(form, files, &[&all[..], &["--format", form]].concat());
        assert!(chunks >= least, "{form}: only {chunks} chunks");
        assert_eq!(found, Value::from(read_by_python(form, files)), "{form}");
    }
    let mut sums = serde_json::Map::new();
    for record in read_by_python("csv", &csv) {
        let sum = sums.entry(record["city"].as_str().unwrap()).or_insert_with(|| 0.into());
        let price: u64 = record["price"].as_str().unwrap().parse().unwrap();
        *sum = (sum.as_u64().unwrap() + price).into();
    }
    let by = [
        "--map",
        "sum-by-key",
        "--map-arg",
        "by=city",
        "--map-arg",
        "field=price",
    ];
    let (found, _) = site.reduced("sums", &csv, &[&by[..], &["--reduce", "sum-by-key", "--fold"]].concat());
    assert_eq!((found, sums.len()), (Value::Object(sums), 4));
}

/// The words of a text by how often they are there, by the old tools.
fn counted_by_uniq(root: &std::path::Path) -> BTreeMap<String, u64> {
    let script = "find docs -name '*.md' -exec cat {} + | tr -s ' \\t\\n\\v\\f\\r' '\\n' | grep . | sort | uniq -c";
    let mut shell = std::process::Command::new("sh");
    let ran = shell
        .args(["-c", script])
        .current_dir(root)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let pairs = text.lines().map(|line| line.trim_start().split_once(' ').unwrap());
    pairs
        .map(|(count, word)| (word.to_owned(), count.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_frequent_words_of_the_readme_s_example_are_those_that_uniq_counts() {
    let yard = Yard::start().await;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .canonicalize()
        .unwrap();
    let mut daemon = workspace_binary("workyard-consumer");
    let daemon = daemon.arg("--jobs-read").arg(&root);
    let _daemon = Daemon::spawn(daemon.args(["--redis-url", &yard.server.consumer_url(), "--log", "warn"]));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let typed = |line: &&str| line.starts_with("workyard map-reduce") && line.contains("--top 20");
    let typed = readme.lines().find(typed).expect("README.md has such an example");
    let program = PathBuf::from(workspace_binary("workyard").get_program());
    let path = std::env::var("PATH").unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", typed])
        .current_dir(&root)
        .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
        .env("WORKYARD_REDIS_URL", yard.server.cli_url(&["map-reduce"]));
    let ran = shell.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    let found: Vec<(&str, u64)> = said
        .lines()
        .filter_map(|line| line.trim().rsplit_once(char::is_whitespace))
        .filter_map(|(word, count)| Some((word.trim_end(), count.parse().ok()?)))
        .collect();
    let counts = counted_by_uniq(&root);
    let mut most: Vec<u64> = counts.values().copied().collect();
    most.sort_unstable_by(|a, b| b.cmp(a));
    most.truncate(20);
    // Words that are there as often may stand in any order.
    assert_eq!(
        found.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
        most,
        "{said}"
    );
    for (word, count) in &found {
        assert_eq!(counts.get(*word), Some(count), "{word}: {said}");
    }
    let words: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(words.len(), 20, "{said}");
}
