//! How each mistake in a `[handlers.KIND]` is answered, and that secrets stay hidden.

use std::path::Path;

use super::*;
use crate::Concurrency;

const QUEUE: &str = "[[queues]]\nname = \"q\"\n";

/// The refusal of a file whose only handler is `body`, which begins in line 4.
fn refusal(body: &str) -> String {
    let text = format!("{QUEUE}[handlers.send]\n{body}");
    parse(&text, Path::new("/etc/workyard/daemon.toml"))
        .expect_err(body)
        .to_string()
}

/// The only handler of a file.
fn accepted(body: &str) -> HandlerConfig {
    let text = format!("{QUEUE}[handlers.send]\n{body}");
    let file = parse(&text, Path::new("/etc/workyard/daemon.toml")).unwrap();
    file.handlers["send"].clone()
}

/// Every line of `table`, put below `head`, is refused with the text beside it.
fn each_is_refused(head: &str, table: &[(&str, &str)]) {
    for (line, expected) in table {
        let error = refusal(&format!("{head}\n{line}"));
        assert!(error.contains(expected), "{head} {line}: {error}");
    }
}

#[test]
fn a_type_is_demanded() {
    let missing = refusal("argv = [\"x\"]");
    assert!(
        missing.contains(":3: handlers.send.type: is missing; give \"command\", \"worker\""),
        "{missing}"
    );
    let unknown = refusal("type = \"shell\"");
    assert!(
        unknown.contains(":4: handlers.send.type: \"shell\" is no type; give"),
        "{unknown}"
    );
}

#[test]
fn a_value_of_another_type_is_told_its_field_and_an_unknown_field_the_one_meant() {
    let list = "expected a list in brackets, like [\"a\", \"b\"]";
    let argv = format!(":5: handlers.send.argv: invalid type: string \"true\", {list}");
    each_is_refused("type = \"command\"", &[("argv = \"true\"", &argv)]);
    let codes = format!(":6: handlers.send.final_exit_codes: invalid type: integer `3`, {list}");
    let mistakes = [
        ("timout = \"3s\"", "; did you mean `timeout`?"),
        ("final_exit_codes = 3", &*codes),
    ];
    each_is_refused("type = \"command\"\nargv = [\"x\"]", &mistakes);
}

#[test]
fn mistakes_of_a_program_name_line_field_and_remedy() {
    let argv_mistakes = [
        ("", "missing field `argv`"),
        ("argv = []", ":5: handlers.send.argv: names no program"),
        (
            r#"argv = ["{payload.x}"]"#,
            "program itself cannot come from the payload",
        ),
        (
            r#"argv = ["x", "--to={payload.to}"]"#,
            ":5: handlers.send.argv: \"--to={payload.to}\" is no",
        ),
        (r#"argv = ["x", "{payload.}"]"#, "must be an element of its own"),
        (r#"argv = ["x", "a\u0000"]"#, "holds a NUL byte"),
    ];
    each_is_refused("type = \"command\"", &argv_mistakes);
    let others = [
        ("url = \"y\"", ":6: handlers.send: unknown field `url`"),
        (
            "timout = \"3s\"",
            "unknown field `timout`, expected one of `type`, `timeout`, `concurrency`, `signed`, `argv`",
        ),
        (
            "timeout = 3",
            ":6: handlers.send.timeout: invalid type: integer `3`, expected a duration as text",
        ),
        ("timeout = \"0s\"", ":6: handlers.send.timeout: 0ms is out of range"),
        ("concurrency = 0", ":6: handlers.send.concurrency: 0 is out of range"),
        (
            "concurrency = -1",
            ":6: handlers.send.concurrency: invalid value: integer `-1`, expected a number of tasks, or { min = 2, max = 32 }",
        ),
        (
            "concurrency = \"4\"",
            "invalid type: string \"4\", expected a number of tasks, or",
        ),
        (
            "concurrency = { min = 0, max = 4 }",
            ":6: handlers.send.concurrency: min = 0 is out of range; give 1 to 10000",
        ),
        (
            "concurrency = { min = 8, max = 4 }",
            ":6: handlers.send.concurrency: min = 8 is above max = 4; give a min of at most 4",
        ),
        ("concurrency = { max = 4 }", ":6: handlers.send: missing field `min`"),
        ("concurrency = { min = 1, max = 2, most = 3 }", "unknown field `most`"),
        ("final_exit_codes = [0]", "0 is no failing exit code"),
        ("final_exit_codes = [75]", "always means retry"),
        ("output = \"xml\"", ":6: handlers.send.output: unknown variant `xml`"),
        (
            "env = { WORKYARD_ID = \"1\" }",
            "handlers.send.env.WORKYARD_ID: names that begin",
        ),
        ("env = { \"A=B\" = \"1\" }", "cannot name a variable"),
        (
            "kill_after = \"1h\"",
            ":6: handlers.send.kill_after: 1h is out of range",
        ),
    ];
    each_is_refused("type = \"command\"\nargv = [\"x\"]", &others);
}

#[test]
fn mistakes_of_a_pool_are_named() {
    each_is_refused(
        "type = \"worker\"",
        &[(r#"argv = ["x", "{payload.a}"]"#, "is for type = \"command\"")],
    );
    each_is_refused(
        "type = \"worker\"\nargv = [\"x\"]",
        &[
            (
                "processes = 0",
                ":6: handlers.send.processes: 0 is out of range; give 1 to 1024",
            ),
            (
                "processes = 2\nconcurrency = 3",
                "handlers.send.concurrency: 3 is above processes = 2",
            ),
            (
                "concurrency = { min = 1, max = 4 }",
                "handlers.send.concurrency: 4 is above processes = 1",
            ),
        ],
    );
}

#[test]
fn a_pool_of_workers_takes_no_more_tasks_than_it_has_processes() {
    for (more, concurrency) in [
        ("", Concurrency::Fixed(1)),
        ("processes = 3", Concurrency::Fixed(3)),
        ("processes = 3\nconcurrency = 2", Concurrency::Fixed(2)),
    ] {
        let handler = accepted(&format!("type = \"worker\"\nargv = [\"sh\"]\n{more}"));
        assert_eq!(handler.concurrency, Some(concurrency), "{more}");
    }
    let handler = accepted("type = \"command\"\nargv = [\"sh\"]");
    assert_eq!(handler.concurrency, None);
}

#[test]
fn mistakes_of_an_address_and_of_a_builtin_are_named() {
    let addresses = [
        ("url = \"localhost/x\"", ":5: handlers.send.url: is no address"),
        ("url = \"ftp://h/\"", "ftp:// is not supported"),
        ("url = \"http://u:p@h/\"", "holds credentials"),
    ];
    each_is_refused("type = \"http\"", &addresses);
    let headers = [
        (r#"headers = { "a b" = "x" }"#, "is no header name"),
        (r#"headers = { X-Workyard-Id = "x" }"#, "is set by the daemon"),
        (r#"headers = { a = "x\ny" }"#, "holds characters that no header can"),
        (
            r#"headers = { a = { file = "no" } }"#,
            "headers.a: cannot read the secret from /etc/workyard/no",
        ),
    ];
    each_is_refused("type = \"http\"\nurl = \"http://h/\"", &headers);
    let builtins = [
        (
            "function = \"dance\"",
            "unknown variant `dance`, expected one of `echo`",
        ),
        ("function = \"echo\"\nroot = \"/\"", "reads no files; leave it out"),
    ];
    each_is_refused("type = \"builtin\"", &builtins);
}

#[cfg(not(feature = "tls"))]
#[test]
fn an_https_address_without_tls_says_how_to_get_it() {
    let error = refusal("type = \"http\"\nurl = \"https://h/\"");
    assert!(
        error.contains("built without TLS") && error.contains("--features tls"),
        "{error}"
    );
}

#[test]
fn secrets_come_from_variables_and_files_and_never_show() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "from-a-file\n").unwrap();
    let text = r#"
        [[queues]]
        name = "q"
        [handlers.h]
        type = "http"
        url = "http://h/"
        headers = { a = { file = "token" }, b = { env = "PATH" }, c = "in-the-open" }
        [handlers.c]
        type = "command"
        argv = ["x"]
        env = { KEY = { file = "token" } }
    "#;
    let config = parse(text, &dir.path().join("daemon.toml")).unwrap();
    let Action::Http(http) = &config.handlers["h"].action else {
        panic!()
    };
    assert_eq!(http.headers["a"], "from-a-file");
    let path = std::env::var("PATH").unwrap();
    assert_eq!(http.headers["b"], path.as_str());
    let Action::Command(command) = &config.handlers["c"].action else {
        panic!()
    };
    assert_eq!(command.process.env["KEY"].expose(), "from-a-file");
    let shown = format!("{config:?}");
    for value in ["from-a-file", path.as_str(), "in-the-open"] {
        assert!(!shown.contains(value), "{shown}");
    }
}
