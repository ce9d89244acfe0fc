//! Traces: what programs hand on, what a collector gets, and that nobody waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Command;
use std::time::{Duration, Instant};

use workyard_tests::{Authority, Collector, Daemon, SeenSpan, Signal, Yard, wait_until, workspace_binary};

const LIMIT: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

const HANDLERS: &str = r#"
drain_timeout = "5s"

[[queues]]
name = "q"

[jobs]

[handlers.trace]
type = "command"
argv = ["sh", "-c", "echo $TRACEPARENT $TRACESTATE"]
output = "text"

[handlers.second-try]
type = "command"
argv = ["sh", "-c", "[ $WORKYARD_ATTEMPT = 2 ] || { echo not yet >&2; exit 1; }"]

[handlers.noop]
type = "builtin"
function = "noop"
"#;

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

fn consumer(yard: &Yard, table: &str, set_up: impl FnOnce(&mut Command) -> &mut Command) -> Daemon {
    let path = yard.server.dir().join("workyard.toml");
    std::fs::write(&path, format!("{HANDLERS}\n{table}")).unwrap();
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(path)
        .env("WORKYARD_REDIS_URL", yard.server.consumer_url());
    set_up(&mut command);
    Daemon::spawn(&mut command)
}

/// Runs the command line in the trace of these tests.
fn cli(yard: &Yard, args: &[&str]) -> (i32, String, String) {
    let mut command = workspace_binary("workyard");
    let output = command
        .args(args)
        .env("WORKYARD_REDIS_URL", yard.server.cli_url(args))
        .env("WORKYARD_QUEUE", "q")
        .env("TRACEPARENT", traceparent())
        .env("TRACESTATE", "vendor=7")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs a command that must succeed; what it wrote.
fn done(yard: &Yard, args: &[&str]) -> String {
    let (code, out, err) = cli(yard, args);
    assert_eq!(code, 0, "{out}\n{err}");
    out
}

/// Drains a daemon; how long it took.
async fn drained(daemon: &Daemon) -> Duration {
    let begun = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait_exit(LIMIT).await;
    assert!(status.success(), "{status}\n{}", daemon.log());
    begun.elapsed()
}

fn only<'a>(spans: &'a [SeenSpan], name: &str) -> Vec<&'a SeenSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_and_run_of_a_task_are_below_the_span_that_enqueued_it() {
    let (yard, collector) = (Yard::start().await, Collector::start().await);
    let table = format!(
        "[telemetry]\nendpoint = {:?}\nservice_name = \"mail\"\nheaders = {{ x-key = \"hush-hush\" }}",
        collector.endpoint()
    );
    let daemon = consumer(&yard, &table, |command| command.args(["--log", "trace"]));
    let seen = done(&yard, &["enqueue", "trace", "--id", "t-1", "--wait=30s"]);
    drained(&daemon).await;
    let spans = collector.spans();
    let [wait, run] = [only(&spans, "wait q"), only(&spans, "run q")].map(|found| {
        assert_eq!(found.len(), 1, "{spans:#?}");
        found[0]
    });
    for span in [wait, run] {
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT), "{span:?}");
        assert_eq!(span.service, "mail");
        assert_eq!(span.error, None);
        for (name, value) in [
            ("messaging.system", "workyard"),
            ("messaging.destination.name", "q"),
            ("messaging.message.id", "t-1"),
            ("messaging.message.body.size", "4"),
            ("workyard.kind", "trace"),
            ("workyard.attempt", "1"),
        ] {
            assert_eq!(span.says(name), value, "{span:?}");
        }
    }
    assert_eq!((wait.kind, run.kind), (1, 5));
    assert_eq!(run.says("workyard.outcome"), "completed");
    assert_eq!(wait.times.1, run.times.0, "the run begins when the wait ends");
    // The program's own spans would be below the run.
    assert_eq!(seen, format!("\"00-{TRACE}-{}-01 vendor=7\"", run.id));
    // The secret goes to the collector and nowhere else.
    assert!(collector.heads().iter().all(|head| head.contains("x-key: hush-hush")));
    assert!(
        daemon.stderr().contains("spans go to http://127.0.0.1"),
        "{}",
        daemon.log()
    );
    assert!(!daemon.stderr().contains("hush-hush"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_go_to_a_collector_over_tls_and_packed_if_it_is_asked_for() {
    // Over TLS the suite's own authority is the system's already.
    let ours = Authority::new();
    let (yard, collector) = (Yard::start().await, Collector::over_tls(&ours).await);
    let table = format!("[telemetry]\nendpoint = {:?}", collector.endpoint());
    let trusted = yard.server.dir().join("authorities.pem");
    let known = std::env::var_os("SSL_CERT_FILE").and_then(|file| std::fs::read(file).ok());
    let all = [known.unwrap_or_default(), std::fs::read(ours.ca()).unwrap()].concat();
    std::fs::write(&trusted, all).unwrap();
    let daemon = consumer(&yard, &table, |command| {
        command
            .env("SSL_CERT_FILE", &trusted)
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    });
    done(&yard, &["enqueue", "trace", "--wait=30s"]);
    drained(&daemon).await;
    assert_eq!(only(&collector.spans(), "run q").len(), 1, "{}", daemon.log());
    assert!(
        collector
            .heads()
            .iter()
            .all(|head| head.contains("content-encoding: gzip"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_whose_certificate_is_not_trusted_gets_nothing_and_the_log_says_so_once() {
    let (yard, collector) = (Yard::start().await, Collector::over_tls(&Authority::new()).await);
    let table = format!("[telemetry]\nendpoint = {:?}", collector.endpoint());
    let daemon = consumer(&yard, &table, |command| command);
    done(&yard, &["enqueue", "trace", "--wait=30s"]);
    drained(&daemon).await;
    assert!(collector.spans().is_empty());
    let log = daemon.log();
    assert_eq!(log.matches("spans cannot be delivered").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_of_a_task_has_a_run_in_its_one_trace() {
    let (yard, collector) = (Yard::start().await, Collector::start().await);
    let daemon = consumer(&yard, "", |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        command.env("OTEL_SERVICE_NAME", "by-variable")
    });
    done(
        &yard,
        &["enqueue", "second-try", "--backoff-base", "20ms", "--wait=30s"],
    );
    drained(&daemon).await;
    let spans = collector.spans();
    assert!(
        spans.iter().all(|span| span.trace == TRACE && span.parent == PARENT),
        "{spans:#?}"
    );
    assert!(spans.iter().all(|span| span.service == "by-variable"), "{spans:#?}");
    let runs = only(&spans, "run q");
    let told: Vec<_> = runs
        .iter()
        .map(|run| (run.says("workyard.attempt"), run.says("error.type")))
        .collect();
    assert_eq!(told, [("1", "retry"), ("2", "")]);
    assert!(runs[0].error.as_ref().unwrap().contains("not yet"), "{runs:#?}");
    assert_eq!(runs[0].says("workyard.outcome"), "failed");
    let waits = only(&spans, "wait q");
    assert_eq!(waits.len(), 2);
    assert!(
        waits[1].times.0 + 1_000_000 >= runs[0].times.1,
        "the second wait begins at the failure: {spans:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_job_are_in_the_trace_of_its_submitter() {
    let (yard, collector) = (Yard::start().await, Collector::start().await);
    let flag = collector.endpoint();
    let daemon = consumer(&yard, "", |command| command.args(["--otlp-endpoint", &flag]));
    let items = yard.server.dir().join("items.json");
    std::fs::write(&items, "[1,2,3,4]").unwrap();
    let items = items.to_str().unwrap();
    let sum = [
        "map-reduce",
        "--items",
        items,
        "--map",
        "sum",
        "--reduce",
        "sum",
        "--chunk-size",
        "2",
        "--id",
        "j",
    ];
    assert_eq!(done(&yard, &sum), "10");
    drained(&daemon).await;
    let spans = collector.spans();
    assert!(
        spans.iter().all(|span| span.trace == TRACE && span.parent == PARENT),
        "{spans:#?}"
    );
    for name in ["wait q", "run q"] {
        let mut steps: Vec<_> = only(&spans, name)
            .iter()
            .map(|span| {
                (
                    span.says("workyard.job"),
                    span.says("workyard.step"),
                    span.says("workyard.kind"),
                )
            })
            .collect();
        steps.sort_unstable();
        assert_eq!(steps, [("j", "m:0", "sum"), ("j", "m:1", "sum"), ("j", "r:1.0", "sum")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_begins_here_is_recorded_as_often_as_asked() {
    let (yard, collector) = (Yard::start().await, Collector::start().await);
    let table = format!("[telemetry]\nendpoint = {:?}\nsample_ratio = 0", collector.endpoint());
    let daemon = consumer(&yard, &table, |command| command);
    // Without a trace of its own.
    let alone = yard.add("trace", "null", |_| {}).await;
    let seen = yard.result(&alone).await;
    assert!(
        seen.starts_with("\"00-") && seen.trim_end_matches('"').trim_end().ends_with("-00"),
        "{seen}"
    );
    // In one that is recorded.
    done(&yard, &["enqueue", "noop", "--id", "recorded", "--wait=30s"]);
    drained(&daemon).await;
    let spans = collector.spans();
    assert!(
        spans.iter().all(|span| span.says("messaging.message.id") == "recorded"),
        "{spans:#?}"
    );
    assert_eq!(spans.len(), 2);

    let daemon = consumer(&yard, "", |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
    });
    let alone = yard.add("noop", "null", |_| {}).await;
    yard.result(&alone).await;
    drained(&daemon).await;
    let spans = collector.spans();
    let [wait, run] = [only(&spans, "wait q"), only(&spans, "run q")].map(|found| {
        let mine: Vec<_> = found
            .into_iter()
            .filter(|span| span.says("messaging.message.id") == alone)
            .collect();
        assert_eq!(mine.len(), 1, "{spans:#?}");
        mine[0]
    });
    assert_eq!(
        (wait.parent.as_str(), &run.parent),
        ("", &wait.id),
        "the wait is the root of the new trace"
    );
    assert_eq!(wait.trace, run.trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_a_line_and_no_task() {
    let (yard, collector) = (Yard::start().await, Collector::start().await);
    let nobody = collector.endpoint();
    drop(collector);
    let daemon = consumer(&yard, "", |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &nobody);
        // Many batches, each of which fails.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "20")
    });
    for _ in 0..5 {
        done(&yard, &["enqueue", "noop", "--wait=30s"]);
    }
    wait_until(LIMIT, || async {
        daemon.stderr().contains("spans cannot be delivered")
    })
    .await;
    for _ in 0..5 {
        done(&yard, &["enqueue", "noop", "--wait=30s"]);
    }
    let took = drained(&daemon).await;
    let log = daemon.stderr();
    assert!(took < Duration::from_secs(5), "{took:?}\n{log}");
    assert_eq!(log.matches("spans cannot be delivered").count(), 1, "{log}");
    assert!(log.contains("20 of 20 spans were not delivered"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_the_end_for_three_seconds_at_most() {
    let (yard, collector) = (Yard::start().await, Collector::silent().await);
    let daemon = consumer(&yard, "", |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        command.env("OTEL_BSP_SCHEDULE_DELAY", "20")
    });
    done(&yard, &["enqueue", "noop", "--wait=30s"]);
    collector.named("run q", 1).await;
    done(&yard, &["enqueue", "noop", "--wait=30s"]);
    let took = drained(&daemon).await;
    assert!(took < Duration::from_secs(6), "{took:?}\n{}", daemon.log());
    assert!(daemon.stderr().contains("spans were not delivered"), "{}", daemon.log());
}

/// Whether a thread for spans runs in a process.
fn has_exporter(daemon: &Daemon) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .any(|name| name.starts_with("OpenTelemetry"))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_there_is_no_exporter_and_the_trace_is_handed_on_as_it_is() {
    let (yard, collector) = (Yard::start().await, Collector::start().await);
    let on = consumer(&yard, "", |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
    });
    done(&yard, &["enqueue", "noop", "--wait=30s"]);
    // A thread gives itself its name. Without this the test could not tell.
    wait_until(LIMIT, || async { has_exporter(&on) }).await;
    drained(&on).await;
    let before = collector.connections();
    assert_eq!(before, 1);

    let disabled: fn(&mut Command) -> &mut Command = |command| command.env("OTEL_SDK_DISABLED", "true");
    for (table, set_up) in [
        (String::new(), (|command| command) as fn(&mut Command) -> &mut Command),
        (format!("[telemetry]\nendpoint = {:?}", collector.endpoint()), disabled),
    ] {
        let daemon = consumer(&yard, &table, set_up);
        let seen = done(&yard, &["enqueue", "trace", "--wait=30s"]);
        assert_eq!(seen, format!("\"{} vendor=7\"", traceparent()));
        assert!(!has_exporter(&daemon));
        drained(&daemon).await;
        assert!(!daemon.stderr().contains("spans"), "{}", daemon.log());
    }
    assert_eq!(collector.connections(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_hands_on_its_trace_unless_a_header_names_another() {
    let yard = Yard::start().await;
    let header = |id: &str| {
        let view: serde_json::Value = serde_json::from_str(&done(&yard, &["task", id, "--json"])).unwrap();
        view["headers"]["traceparent"].as_str().unwrap_or_default().to_owned()
    };
    done(&yard, &["enqueue", "k", "--id", "a"]);
    assert_eq!(header("a"), traceparent());
    let other = traceparent().replace("01", "00");
    done(
        &yard,
        &["enqueue", "k", "--id", "b", "--header", &format!("traceparent={other}")],
    );
    assert_eq!(header("b"), other);
    let file = yard.server.dir().join("tasks.jsonl");
    std::fs::write(&file, format!("{{\"kind\":\"k\",\"id\":\"c\"}}\n{{\"kind\":\"k\",\"id\":\"d\",\"headers\":{{\"traceparent\":{other:?}}}}}\n")).unwrap();
    done(&yard, &["enqueue", "--from-file", file.to_str().unwrap()]);
    assert_eq!((header("c"), header("d")), (traceparent(), other));

    let mut command = workspace_binary("workyard");
    let args = ["enqueue", "k", "--id", "e", "-q", "q"];
    command.args(args).env("WORKYARD_REDIS_URL", yard.server.cli_url(&args));
    let output = command.env("TRACEPARENT", "nonsense").output().unwrap();
    assert!(output.status.success());
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("TRACEPARENT is left out"), "{notes}");
    assert_eq!(header("e"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_work_ends_the_daemon_with_bad_use() {
    let yard = Yard::start().await;
    for (table, variable, reason) in [
        (
            "[telemetry]\nendpoint = \"collector:4318\"",
            ("A", "b"),
            "telemetry.endpoint",
        ),
        (
            "[telemetry]\nendpoint = \"http://me:hush@h:1\"",
            ("A", "b"),
            "holds credentials",
        ),
        ("[telemetry]\nsample_ratio = 1.5", ("A", "b"), "give 0 to 1"),
        (
            "[telemetry]\nendpoint = \"http://h:1\"",
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            "http/protobuf only",
        ),
    ] {
        let daemon = consumer(&yard, table, |command| command.env(variable.0, variable.1));
        let status = daemon.wait_exit(LIMIT).await;
        assert_eq!(status.code(), Some(2), "{}", daemon.log());
        assert!(
            daemon.stderr().contains(reason) && !daemon.stderr().contains("hush"),
            "{}",
            daemon.log()
        );
    }
}
