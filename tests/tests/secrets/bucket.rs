//! A job whose input and intermediate data are in a bucket of S3: the daemon and the submitter have its credentials.

use workyard_tests::{Daemon, Yard, http_of, wait_until, workspace_binary};

use crate::seen::{FILE, MARK, SOON, Seen, becomes_ready, file, marked, workyard};

#[path = "../../../shared/tests/support/s3.rs"]
mod s3;

const TEXT: &str = "to be or not to be\n";

/// What the bucket asks for, with marked credentials.
fn environment(port: u16) -> Vec<(String, String)> {
    let mut settings = s3::settings(port);
    settings.push(("AWS_SESSION_TOKEN".to_owned(), String::new()));
    for (name, value) in &mut settings {
        match name.as_str() {
            "AWS_ACCESS_KEY_ID" => *value = format!("{MARK}-id"),
            "AWS_SECRET_ACCESS_KEY" => *value = format!("{MARK}-secret"),
            "AWS_SESSION_TOKEN" => *value = format!("{MARK}-session"),
            _ => {}
        }
    }
    settings
}

/// A command of `workyard` that succeeds.
fn well(yard: &Yard, url: &str, environment: &[(String, String)], args: &[&str]) -> String {
    let said = workyard(yard, url, environment, args);
    assert!(said.starts_with("exit code Some(0)"), "{said}");
    said
}

fn started(yard: &Yard, url: &str, environment: &[(String, String)]) -> Daemon {
    let places = "[jobs]\nread = [\"s3://bucket/in\"]\nspill = [\"s3://bucket/spill\"]\n";
    let config = file(yard, "workyard.toml", &format!("{FILE}{places}"));
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(config).args(["--log", "trace"]);
    command.envs(environment.iter().cloned()).env("WORKYARD_REDIS_URL", url);
    Daemon::spawn(&mut command)
}

/// What is said of a job whose objects are put anew, as large as they were, between its submission and its run.
fn put_anew(yard: &Yard, url: &str, environment: &[(String, String)], shelf: &s3::Shared, job: &[&str]) -> String {
    well(yard, url, environment, &["pause"]);
    well(yard, url, environment, &[job, &["--detach", "--id", "anew"]].concat());
    shelf.lock().unwrap().again = 1;
    well(yard, url, environment, &["resume"]);
    let said = workyard(yard, url, environment, &["job", "wait", "anew", "--timeout", "30s"]);
    assert!(
        said.starts_with("exit code Some(1)") && said.contains("txt has changed under the job"),
        "{said}"
    );
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_over_a_bucket_counts_what_is_there_spills_there_and_no_credential_shows() {
    let (yard, mut seen) = (marked().await, Seen::default());
    let (shelf, port) = s3::serve().await;
    for n in 0..4 {
        let object = TEXT.repeat(500).into_bytes();
        shelf
            .lock()
            .unwrap()
            .objects
            .insert(format!("/bucket/in/{n}.txt"), object);
    }
    let (environment, url) = (environment(port), yard.server.url_with(&format!("worker:{MARK}@")));
    let daemon = started(&yard, &url, &environment);
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    let job = ["map-reduce", "--input", "s3://bucket/in/*", "--map", "word-count"];
    let reduce = ["--reduce", "sum-by-key", "--chunk-size", "4KiB"];
    let count = [&job[..], &reduce].concat();
    let spill = [
        "--budget",
        "0",
        "--spill",
        "s3://bucket/spill",
        "--json",
        "--id",
        "spilled",
    ];
    let said = well(&yard, &url, &environment, &[&count[..], &spill].concat());
    for (word, times) in [("to", 4000), ("be", 4000), ("or", 2000), ("not", 2000)] {
        assert!(
            said.contains(&format!("{{\"key\":\"{word}\",\"value\":{times}}}")),
            "{said}"
        );
    }
    seen.add("map-reduce", said);
    let asked = std::mem::take(&mut shelf.lock().unwrap().asked);
    let did = |what: &str| asked.iter().any(|line| line.starts_with(what));
    assert!(did("PUT /bucket/spill/") && did("GET /bucket/spill/"), "{asked:?}");
    // What is spilled goes with the job.
    well(&yard, &url, &environment, &["job", "delete", "spilled"]);
    wait_until(SOON, || async {
        !shelf
            .lock()
            .unwrap()
            .objects
            .keys()
            .any(|name| name.contains("/spill/"))
    })
    .await;

    let anew = put_anew(&yard, &url, &environment, &shelf, &count);
    seen.add("job wait of objects put anew", anew);
    // What they say when the bucket lacks something, and when it answers errors.
    well(&yard, &url, &environment, &["pause"]);
    let once = ["--max-attempts", "1", "--detach", "--id", "gone"];
    well(&yard, &url, &environment, &[&count[..], &once].concat());
    shelf.lock().unwrap().objects.clear();
    well(&yard, &url, &environment, &["resume"]);
    let said = workyard(&yard, &url, &environment, &["job", "wait", "gone", "--timeout", "30s"]);
    assert!(
        said.starts_with("exit code Some(1)") && said.contains("s3://bucket/in/"),
        "{said}"
    );
    seen.add("job wait", said);
    shelf.lock().unwrap().refuse = 1000;
    let said = workyard(&yard, &url, &environment, &count);
    assert!(!said.starts_with("exit code Some(0)"), "{said}");
    seen.add("map-reduce of a bucket that refuses", said);
    seen.arguments("the arguments of the daemon", daemon.pid());
    seen.pages(address).await;
    seen.keys(&yard).await;
    seen.end_of(&daemon).await;
    seen.holds_no_secret();
}
