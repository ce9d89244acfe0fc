//! The promises of `http`, against a server that says exactly what a test wants.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::testing::{PATIENCE, ctx, handler, result_of, run};
use super::*;
use crate::Next;

/// Answers each connection with the next of `answers`; hands out the requests.
async fn server(answers: Vec<String>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tasks?key=hush", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            sender.send(request(&mut stream).await).unwrap();
            // The client may have seen enough before all is written.
            let _cut = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, requests)
}

/// Reads one request: head, and body by its content-length.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the request broke off");
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn post(url: &str, more: &str) -> Arc<dyn Handler> {
    handler(&format!("type = \"http\"\nurl = {url:?}\n{more}"))
}

#[tokio::test]
async fn a_payload_is_posted_byte_for_byte_with_headers_about_its_task() {
    let (url, mut requests) = server(vec![answer("200 OK", "", "1"), answer("200 OK", "", "1")]).await;
    let payload = "{ \"n\": 1e400,\n \"é\": [ ] }";
    result_of(&post(&url, "headers = { authorization = \"Bearer t\" }"), payload).await;
    let text = requests.recv().await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, payload);
    assert!(head.starts_with("POST /tasks?key=hush HTTP/1.1\r\n"), "{head}");
    let expected = [
        "content-type: application/json",
        "authorization: Bearer t",
        "x-workyard-id: task-1",
        "x-workyard-kind: t",
        "x-workyard-queue: test",
        "x-workyard-attempt: 1",
        "x-workyard-token: 1",
    ];
    for line in expected {
        assert!(head.lines().any(|have| have == line), "{line} is missing in {head}");
    }

    let mut limited = ctx();
    limited.edit().deadline = Some(Instant::now() + Duration::from_secs(50));
    run(&post(&url, ""), limited, "1").await.unwrap();
    let text = requests.recv().await.unwrap();
    let left = text
        .lines()
        .find_map(|line| line.strip_prefix("x-workyard-deadline: "))
        .unwrap();
    assert!((30_000..=50_000).contains(&left.parse::<u64>().unwrap()), "{left}");
}

#[tokio::test]
async fn a_task_of_a_trace_hands_it_on() {
    const NAMED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (url, mut requests) = server(vec![answer("200 OK", "", "1"), answer("200 OK", "", "1")]).await;
    let mut named = ctx();
    named.edit().headers.insert(TRACEPARENT.to_owned(), NAMED.to_owned());
    named.edit().headers.insert(TRACESTATE.to_owned(), "a=1".to_owned());
    run(&post(&url, ""), named.clone(), "1").await.unwrap();
    let text = requests.recv().await.unwrap();
    assert!(
        text.contains(&format!("traceparent: {NAMED}\r\n")) && text.contains("tracestate: a=1\r\n"),
        "{text}"
    );
    let own = NAMED.replace("b7", "b8");
    named.edit().trace = TraceContext::new(own.as_str()).ok();
    run(&post(&url, ""), named, "1").await.unwrap();
    let text = requests.recv().await.unwrap();
    assert!(
        text.contains(&format!("traceparent: {own}\r\n")) && !text.contains("tracestate"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_becomes_the_result() {
    let table = [
        ("{ \"b\": 1e400, \"a\":[ ] }", "{ \"b\": 1e400, \"a\":[ ] }"),
        ("plain \"text\"", "\"plain \\\"text\\\"\""),
        ("", "null"),
    ];
    for (body, expected) in table {
        let (url, _requests) = server(vec![answer("201 Created", "", body)]).await;
        assert_eq!(result_of(&post(&url, ""), "1").await, expected);
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_fails_for_good() {
    let (url, _requests) = server(vec![answer("200 OK", "", &"1".repeat((1 << 20) + 1))]).await;
    let failure = run(&post(&url, ""), ctx(), "1").await.unwrap_err();
    assert_eq!(failure.next, Next::Final);
    assert!(
        failure.message.contains("longer than the 1048576 bytes"),
        "{}",
        failure.message
    );

    let largest = "1".repeat(1 << 20);
    let (url, _requests) = server(vec![answer("200 OK", "", &largest)]).await;
    assert_eq!(result_of(&post(&url, ""), "1").await, largest);
}

#[tokio::test]
async fn statuses_and_retry_after_decide_what_happens_next() {
    let table = [
        ("400 Bad Request", "", Next::Final),
        (
            "429 Too Many Requests",
            "retry-after: 12\r\n",
            Next::RetryAfter(Duration::from_secs(12)),
        ),
        ("500 Internal Server Error", "retry-after: 12\r\n", Next::Retry),
    ];
    for (status, headers, next) in table {
        let (url, _requests) = server(vec![answer(status, headers, &format!("because{}", "!".repeat(9000)))]).await;
        let failure = run(&post(&url, ""), ctx(), "1").await.unwrap_err();
        assert_eq!(failure.next, next, "{status}");
        assert!(
            failure.message.starts_with(&format!("HTTP {status}: because!")),
            "{}",
            failure.message
        );
        assert!(failure.message.len() < 1200, "the excerpt is bounded");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (target, mut untouched) = server(vec![answer("200 OK", "", "1")]).await;
    let redirect = answer("307 Temporary Redirect", &format!("location: {target}\r\n"), "");
    let (url, _requests) = server(vec![redirect]).await;
    let failure = run(&post(&url, ""), ctx(), "1").await.unwrap_err();
    assert_eq!(
        (failure.next, failure.message.as_str()),
        (Next::Retry, "HTTP 307 Temporary Redirect")
    );
    assert!(untouched.try_recv().is_err());
}

#[tokio::test]
async fn a_connection_that_fails_or_breaks_off_is_retried_without_telling_the_address() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (hangs_up, _requests) = server(vec![String::new()]).await;
    let (halfway, _more) = server(vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1".to_owned()]).await;
    let table = [
        (format!("http://{closed}/?key=hush"), "cannot reach 127.0.0.1: "),
        (hangs_up, "cannot reach 127.0.0.1: "),
        (halfway, "the answer of 127.0.0.1 broke off: "),
    ];
    for (url, expected) in table {
        let failure = run(&post(&url, ""), ctx(), "1").await.unwrap_err();
        assert_eq!(failure.next, Next::Retry);
        assert!(failure.message.starts_with(expected), "{}", failure.message);
        assert!(!failure.message.contains("hush"), "{}", failure.message);
    }
}

/// Accepts one request, never answers; resolves when the client has hung up.
async fn silent_server() -> (String, mpsc::UnboundedReceiver<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, arrived) = mpsc::unbounded_channel();
    let hung_up = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        sender.send(()).unwrap();
        // Ends with 0 bytes, or a reset: both say that the client is gone.
        let _end = stream.read(&mut [0; 1]).await;
    });
    (url, arrived, hung_up)
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let (url, mut arrived, hung_up) = silent_server().await;
    let attempt = tokio::spawn(post(&url, "").run(ctx(), Bytes::from_static(b"1")));
    arrived.recv().await.unwrap();
    attempt.abort();
    tokio::time::timeout(PATIENCE, hung_up)
        .await
        .expect("the connection is still open")
        .unwrap();
}

#[tokio::test]
async fn cancellation_and_timeouts_end_the_request() {
    let (url, mut arrived, hung_up) = silent_server().await;
    let ctx = ctx();
    let attempt = tokio::spawn(post(&url, "").run(ctx.clone(), Bytes::from_static(b"1")));
    arrived.recv().await.unwrap();
    ctx.cancellation().cancel();
    assert_eq!(attempt.await.unwrap().unwrap_err().message, "cancelled");
    tokio::time::timeout(PATIENCE, hung_up).await.unwrap().unwrap();

    let (url, _arrived, hung_up) = silent_server().await;
    let failure = run(&post(&url, "timeout = \"200ms\""), super::super::testing::ctx(), "1")
        .await
        .unwrap_err();
    assert_eq!(
        (failure.next, failure.message.as_str()),
        (Next::Retry, "timed out after 200ms")
    );
    tokio::time::timeout(PATIENCE, hung_up).await.unwrap().unwrap();
}

#[test]
fn a_handler_does_not_show_its_secrets() {
    let config = crate::config::parse(
        "[[queues]]\nname = \"q\"\n[handlers.t]\ntype = \"http\"\nurl = \"http://h/\"\nheaders = { a = \"hush\" }",
        "/t.toml".as_ref(),
    )
    .unwrap();
    let crate::config::Action::Http(http) = &config.handlers["t"].action else {
        panic!()
    };
    let shown = format!("{:?}", HttpHandler::new(http.clone(), None).unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn as_a_function_of_a_job_it_posts_its_items_and_answers_with_what_it_emits() {
    use crate::stage::tests::{items, map, one_partition, spec};
    let answers = [
        ("200 OK", "[[\"b\",1],\n[\"a\", 2]]"),
        ("200 OK", "{}"),
        ("500 Oops", "why"),
    ];
    let (url, mut requests) = server(answers.iter().map(|(status, body)| answer(status, "", body)).collect()).await;
    let mut registry = crate::Registry::new();
    let function = super::super::testing::stage(&format!("type = \"http\"\nurl = {url:?}"));
    registry.stage("post", function).unwrap();
    let stages = registry.stages(&[]);
    let spec = spec(one_partition(), r#"post {"n":1}"#, "identity");
    let run = || map(&stages, &spec, items(&serde_json::json!(["x", [1]])));
    assert_eq!(run().await.unwrap(), [(0, "[\"a\",2]\n[\"b\",1]\n".to_owned())]);
    let text = requests.recv().await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        r#"{"stage":"map","form":"keyed","args":{"n":1},"payload":["x",[1]]}"#
    );
    assert!(head.contains("x-workyard-kind: post"), "{head}");
    let failure = run().await.unwrap_err();
    assert_eq!(failure.next, Next::Final);
    assert!(
        failure.message.starts_with("the answer must be an array"),
        "{}",
        failure.message
    );
    assert_eq!(
        run().await.unwrap_err(),
        Failure::retry("HTTP 500 Internal Server Error: why")
    );
}
