//! The two programs together, as people use them: files, flags, signals, exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use workyard_shared::broker::{Place, Seen};
use workyard_shared::options::{Backoff, TaskOptions};
use workyard_tests::{Daemon, Signal, TestServer, Yard, is_alive, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(30);

const HANDLERS: &str = r#"
concurrency = 60
drain_timeout = "20s"

[[queues]]
name = "q"

[handlers.env]
type = "command"
argv = ["sh", "-c", "echo $WORKYARD_KIND $WORKYARD_QUEUE $WORKYARD_ATTEMPT $REDIS_SECRET; cat"]
output = "text"

[handlers.sleep]
type = "builtin"
function = "sleep"

[handlers.nap]
type = "command"
argv = ["sleep", "{payload.seconds}"]

[handlers.flaky]
type = "builtin"
function = "fail"
"#;

fn config(yard: &Yard, text: &str) -> PathBuf {
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn consumer(yard: &Yard, text: &str, flags: &[&str]) -> Daemon {
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(config(yard, text)).args(flags);
    command
        .env("WORKYARD_REDIS_URL", yard.server.consumer_url())
        .env("REDIS_SECRET", "leaked");
    Daemon::spawn(&mut command)
}

fn cli(yard: &Yard, args: &[&str]) -> (i32, String, String) {
    let mut command = workspace_binary("workyard");
    let output = command
        .args(args)
        .env("WORKYARD_REDIS_URL", yard.server.cli_url(args))
        .env("WORKYARD_QUEUE", "q")
        .output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_from_the_command_line_through_a_command_to_its_result() {
    let yard = Yard::start().await;
    let daemon = consumer(&yard, HANDLERS, &["--log-format", "json"]);
    // Before it has registered, an enqueue warns that nobody serves the queue.
    wait_until(LIMIT, || async { yard.overview().await.consumers > 0 }).await;
    let (code, result, error) = cli(
        &yard,
        &["enqueue", "env", r#"{"a": "$(touch owned)"}"#, "--wait", "10s"],
    );
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(result, r#""env q 1\n{\"a\": \"$(touch owned)\"}""#);
    assert_eq!(
        cli(
            &yard,
            &[
                "enqueue",
                "flaky",
                r#"{"times":9}"#,
                "--max-attempts",
                "1",
                "--wait",
                "10s"
            ]
        )
        .0,
        1
    );
    assert_eq!(
        cli(&yard, &["enqueue", "nap", r#"{"seconds":60}"#, "--wait", "200ms"]).0,
        3
    );
    let children = daemon.children();
    assert!(!children.is_empty(), "the sleeper is a process");
    daemon.signal(Signal::TERM);
    wait_until(LIMIT, || async { daemon.log().contains("stopping") }).await;
    // The sleeper would hold the drain for its whole limit; a second signal exits now, and nothing of ours goes on.
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(143));
    let seen = yard.overview().await;
    assert_eq!((seen.pending, seen.running), (1, 0), "it was handed back");
    let count = |counter: &str| seen.totals.get(counter).copied().unwrap_or(0);
    assert_eq!((count("released"), count("reclaimed"), count("retried")), (1, 0, 0));
    wait_until(LIMIT, || async { children.iter().all(|pid| !is_alive(*pid)) }).await;
    for line in daemon.stderr().lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "not a JSON line: {line}");
    }
}

/// A program that cleans up for a while when it is told to end, and says so.
const CLEANER: &str = r#"
drain_timeout = "500ms"

[[queues]]
name = "q"

[handlers.clean]
type = "command"
argv = ["sh", "-c", "trap 'sleep 0.4; echo cleaned > {name}.done; exit' TERM; echo > {name}.begun; while :; do sleep 0.05; done", "{payload.name}"]
kill_after = "10s"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_its_time_to_clean_up_however_its_run_is_stopped() {
    let yard = Yard::start().await;
    let dir = yard.server.dir().to_path_buf();
    let file = |name: &str, end: &str| dir.join(format!("{name}.{end}"));
    // The payload names the files: no shell sees it but as $0.
    let handlers = CLEANER.replace("{name}.", &format!("{}/$0.", dir.display()));
    let daemon = consumer(&yard, &handlers, &[]);
    let begin = |name: &'static str, timeout: Option<Duration>| {
        let (yard, begun) = (&yard, file(name, "begun"));
        async move {
            let id = yard
                .add("clean", &format!("{{\"name\":\"{name}\"}}"), |options| {
                    (options.timeout, options.max_attempts) = (timeout, Some(1));
                })
                .await;
            wait_until(LIMIT, || async { begun.exists() }).await;
            id
        }
    };
    let cancelled = begin("cancelled", None).await;
    yard.operator.cancel(&cancelled).await.unwrap();
    wait_until(LIMIT, || async { file("cancelled", "done").exists() }).await;
    begin("late", Some(Duration::from_millis(300))).await;
    wait_until(LIMIT, || async { file("late", "done").exists() }).await;
    yard.reaches("failed", 1).await;
    begin("drained", None).await;
    daemon.signal(Signal::TERM);
    wait_until(LIMIT, || async { yard.overview().await.pending == 1 }).await;
    assert!(
        file("drained", "done").exists(),
        "it went back while its program still ran: {}",
        daemon.log()
    );
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_soon_after_its_time_also_when_redis_does_not_answer() {
    let yard = Yard::start().await;
    let daemon = consumer(&yard, &HANDLERS.replace("20s", "1s"), &["--log", "info,task=debug"]);
    let ids = yard.add_many(20, "sleep", r#"{"ms":700}"#).await;
    // That Redis has handed them out is not enough: its answer may still be on the way.
    wait_until(LIMIT, || async {
        let log = daemon.log();
        ids.iter().all(|id| log.contains(&format!("task {id} starts")))
    })
    .await;
    yard.server.sigstop();
    daemon.signal(Signal::TERM);
    let begun = std::time::Instant::now();
    let code = daemon.wait_exit(LIMIT).await.code();
    println!("a drain of 1 s with a silent Redis took {:?}", begun.elapsed());
    yard.server.sigcont();
    assert_eq!(code, Some(0), "{}", daemon.log());
    // The drain's second, two for the last word, two for the good-bye, and what the heartbeat waits.
    assert!(begun.elapsed() < Duration::from_secs(3 * 7), "{:?}", begun.elapsed());
    assert!(
        daemon.log().contains("could not be delivered before the drain timeout"),
        "{}",
        daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_one_line_an_event_whatever_an_error_says_and_tells_of_retries() {
    let yard = Yard::start().await;
    let handlers = r#"
[[queues]]
name = "q"

[handlers.ugly]
type = "command"
argv = ["sh", "-c", '''printf '\033[31mred\n2026-11-29T12:00:00Z  INFO forged' >&2; exit 1''']
"#;
    let daemon = consumer(&yard, handlers, &["--log", "info,task=debug"]);
    yard.add("ugly", "1", |options| options.max_attempts = Some(1)).await;
    yard.reaches("failed", 1).await;
    wait_until(LIMIT, || async { daemon.log().contains("is dead-lettered") }).await;
    let log = daemon.stderr();
    assert!(!log.contains('\u{1b}'), "{log}");
    assert!(
        log.lines()
            .all(|line| !line.contains("INFO forged") || line.contains("is dead-lettered")),
        "{log}"
    );
    assert!(
        log.contains(r"\u{1b}[31mred\n2026-11-29T12:00:00Z  INFO forged"),
        "{log}"
    );
    yard.add("ugly", "1", |options| options.max_attempts = Some(2)).await;
    wait_until(LIMIT, || async { daemon.log().contains("failed and will be retried") }).await;
    let log = daemon.log();
    assert_eq!(log.matches(" starts task=").count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_fifty_running_tasks_of_two_seconds_and_exits_0() {
    let yard = Yard::start().await;
    let daemon = consumer(&yard, HANDLERS, &["--log", "info,task=debug"]);
    yard.add_many(50, "sleep", r#"{"ms":2000}"#).await;
    // Claimed is not yet started: what a drain finds unstarted goes back.
    wait_until(LIMIT, || async { daemon.log().matches(" starts task=").count() == 50 }).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
    let seen = yard.overview().await;
    assert_eq!(
        (seen.totals["completed"], seen.running, seen.pending, seen.consumers),
        (50, 0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_from_the_command_line_ends_the_process_of_a_running_command_within_a_second() {
    let yard = Yard::start().await;
    let daemon = consumer(&yard, HANDLERS, &[]);
    let id = yard.add("nap", r#"{"seconds":3171}"#, |_| {}).await;
    let naps = || {
        let listing = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&listing.stdout)
            .lines()
            .any(|line| line.trim() == "sleep 3171")
    };
    wait_until(LIMIT, || async { naps() }).await;
    assert_eq!(cli(&yard, &["cancel", &id]).0, 0);
    let took = wait_until(Duration::from_secs(3), || async { !naps() }).await;
    println!("the process was gone after {took:?} (deadline 1 s)");
    assert_eq!(cli(&yard, &["wait", &id]).0, 1);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit(LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn until_empty_ends_when_everything_is_done_retries_included() {
    let yard = Yard::start().await;
    yard.add_many(20, "sleep", r#"{"ms":5}"#).await;
    let id = yard.add("flaky", r#"{"times":1}"#, |o| o.max_attempts = Some(2)).await;
    let daemon = consumer(&yard, HANDLERS, &["--until-empty"]);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
    assert_eq!(yard.result(&id).await, "null");
    assert_eq!(yard.overview().await.totals["completed"], 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn until_empty_says_once_what_it_waits_for_and_ends_when_that_is_over() {
    let yard = Yard::start().await;
    let later = yard
        .add("sleep", r#"{"ms":1}"#, |o| o.delay = Some(Duration::from_secs(3600)))
        .await;
    let daemon = consumer(&yard, HANDLERS, &["--until-empty"]);
    let says = async |text: &str| {
        wait_until(LIMIT, || async { daemon.log().contains(text) }).await;
    };
    says(&format!(
        "queue q is not empty yet: scheduled for later: 1, the first is {later} (kind sleep), due in 59m 5"
    ))
    .await;
    yard.operator.set_paused(true).await.unwrap();
    let stuck = yard.add("sleep", r#"{"ms":1}"#, |_| {}).await;
    says("queue q is not empty yet: it is paused with 2 waiting (`workyard resume q` lets it go on)").await;
    yard.operator.set_paused(false).await.unwrap();
    yard.result(&stuck).await;
    let strange = yard.add("strange", "1", |_| {}).await;
    says("no consumer has a handler for kind strange: ").await;
    let failing = yard
        .add("flaky", r#"{"times":9}"#, |o| {
            o.backoff = Some(Backoff {
                base: Duration::from_secs(1800),
                jitter: 0.0,
                ..Backoff::default()
            })
        })
        .await;
    for id in [&later, &strange] {
        yard.operator.cancel(id).await.unwrap();
    }
    says(&format!(
        "waiting for another attempt: 1, the first is {failing} (kind flaky), due in 59m 5"
    ))
    .await;
    assert!(daemon.is_running());
    yard.operator.cancel(&failing).await.unwrap();
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
    assert_eq!(daemon.log().matches("not empty yet").count(), 4, "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_no_list_is_told_once_and_served_when_it_is_mended() {
    let yard = Yard::start().await;
    let inbox = yard.queue.keys().inbox();
    let send = async |words: &[&str]| {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&inbox).arg(&words[1..]);
        yard.broker.link().call(&cmd).await.unwrap();
    };
    send(&["SET", "x"]).await;
    let daemon = consumer(&yard, HANDLERS, &[]);
    let told = "the inbox of queue q cannot be served until it is mended: ";
    wait_until(LIMIT, || async { daemon.log().contains(told) }).await;
    send(&["DEL"]).await;
    send(&["RPUSH", r#"{"kind":"sleep","id":"raw","payload":{"ms":1}}"#]).await;
    wait_until(LIMIT, || async { yard.total("completed").await == 1 }).await;
    assert_eq!(daemon.log().matches(told).count(), 1, "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn until_empty_says_that_a_kind_fails_everywhere() {
    let yard = Yard::start().await;
    let once = |options: &mut TaskOptions| options.max_attempts = Some(1);
    for _ in 0..400 {
        yard.add("flaky", r#"{"times":99}"#, once).await;
    }
    let daemon = consumer(&yard, HANDLERS, &["--until-empty"]);
    let said = "queue q is not empty yet: kind flaky fails everywhere, one is tried now and then; waiting: ";
    wait_until(LIMIT, || async { daemon.log().contains(said) }).await;
    wait_until(LIMIT, || async {
        cli(&yard, &["purge", "scheduled", "--yes"]);
        !daemon.is_running()
    })
    .await;
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_ends_at_once_with_its_exit_code_and_no_secret() {
    let yard = Yard::start().await;
    let bad = consumer(&yard, "concurrency = 0", &[]);
    assert_eq!(bad.wait_exit(LIMIT).await.code(), Some(2));
    yard.server.config_set("maxmemory-policy", "allkeys-lru").await;
    let evicting = consumer(&yard, HANDLERS, &[]);
    assert_eq!(evicting.wait_exit(LIMIT).await.code(), Some(2));
    assert!(evicting.log().contains("noeviction"), "{}", evicting.log());
    let allowed = consumer(&yard, HANDLERS, &["--allow-eviction", "--until-empty"]);
    assert_eq!(allowed.wait_exit(LIMIT).await.code(), Some(0), "{}", allowed.log());
    yard.server.config_set("maxmemory-policy", "noeviction").await;
    yard.server.config_set("requirepass", "right").await;
    let url = yard.server.url_with(":wrong-secret@");
    let denied = consumer(&yard, HANDLERS, &["--redis-url", &url]);
    assert_eq!(denied.wait_exit(LIMIT).await.code(), Some(4), "{}", denied.log());
    assert!(!denied.log().contains("wrong-secret"), "{}", denied.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_tasks_that_run_together_only_the_one_that_kills_its_daemon_is_poison() {
    let yard = Yard::on(TestServer::start().await);
    let text = format!(
        "{}\n[handlers.killer]\ntype = \"command\"\nargv = [\"sh\", \"-c\", \"sleep 0.3; kill -9 $PPID\"]\n",
        HANDLERS.replace("concurrency = 60", "concurrency = 4\nlease = \"500ms\"")
    );
    // Long enough to be there each time that it kills.
    let mut innocent = Vec::new();
    for _ in 0..3 {
        innocent.push(yard.add("nap", r#"{"seconds":1}"#, |_| {}).await);
    }
    let guilty = yard.add("killer", "1", |_| {}).await;
    let mut deaths = 0;
    let is_over = async |id: &str| {
        matches!(
            yard.look(id).await,
            Seen::Live {
                place: Place::Failed(_),
                ..
            }
        )
    };
    while !is_over(&guilty).await {
        assert!(deaths < 10, "it goes on killing");
        let daemon = consumer(&yard, &text, &[]);
        // It dies, or finds the dead-letter set in the place of the killer.
        wait_until(LIMIT, || async { !daemon.is_running() || is_over(&guilty).await }).await;
        deaths += u32::from(!daemon.is_running());
        if daemon.is_running() {
            // Killed it would be one more death under an innocent that has just started.
            daemon.signal(Signal::TERM);
            assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
        }
    }
    println!("{deaths} daemons died");
    let daemon = consumer(&yard, &text, &["--until-empty"]);
    assert_eq!(daemon.wait_exit(LIMIT).await.code(), Some(0), "{}", daemon.log());
    let (_, shown, _) = cli(&yard, &["task", &guilty]);
    assert!(shown.contains("poison"), "{shown}");
    for id in &innocent {
        let (_, shown, _) = cli(&yard, &["task", id]);
        assert!(shown.contains("completed"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_daemon_was_killed_three_times_is_poison() {
    let yard = Yard::on(TestServer::start().await);
    let text = HANDLERS.replace("concurrency = 60", "concurrency = 60\nlease = \"500ms\"");
    let id = yard.add("sleep", r#"{"ms":60000}"#, |_| {}).await;
    for _ in 0..3 {
        let daemon = consumer(&yard, &text, &[]);
        wait_until(LIMIT, || async {
            matches!(
                yard.look(&id).await,
                Seen::Live {
                    place: Place::Running,
                    ..
                }
            )
        })
        .await;
        daemon.kill9();
        let rescuer = consumer(&yard, &text.replace("[handlers.sleep]", "[handlers.other]"), &[]);
        wait_until(LIMIT, || async {
            !matches!(
                yard.look(&id).await,
                Seen::Live {
                    place: Place::Running,
                    ..
                }
            )
        })
        .await;
        rescuer.signal(Signal::TERM);
        assert!(rescuer.wait_exit(LIMIT).await.success());
    }
    let (code, shown, _) = cli(&yard, &["task", &id]);
    assert_eq!(code, 0);
    assert!(shown.contains("poison"), "{shown}");
}
