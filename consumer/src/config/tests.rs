//! What the file may say, and how each mistake is answered.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::kind_slots::Concurrency;

const HANDLER: &str = "[handlers.t]\ntype = \"builtin\"\nfunction = \"echo\"\n";
const QUEUE: &str = "[[queues]]\nname = \"q\"\n";

fn read(text: &str) -> Result<DaemonConfig, ConfigError> {
    parse(text, Path::new("/etc/workyard/daemon.toml"))
}

fn refusal(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

/// The refusal of a file that is right but for `line` at its top.
fn refusal_of_top(line: &str) -> String {
    refusal(&format!("{line}\n{QUEUE}{HANDLER}"))
}

const FULL: &str = r#"
        redis_url = "redis://u:hidden@h/"
        prefix = "shop.eu"
        concurrency = 16
        prefetch = 0
        watch_host = false
        lease = "1500ms"
        drain_timeout = "1m 30s"
        queue_order = "weighted"
        [[queues]]
        name = "a"
        weight = 3
        [[queues]]
        name = "b"
        [handlers."mail:send"]
        type = "command"
        argv = ["bin/x", "--to", "{payload.to.addr}"]
        concurrency = 4
        timeout = "30s"
        cwd = "work"
        kill_after = "1s"
        output = "none"
        final_exit_codes = [3]
        allow_dash_args = true
        env = { A = "b" }
        "#;

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let config = read(&format!("{QUEUE}{HANDLER}")).unwrap();
    assert!(config.redis_url.is_none());
    assert_eq!(config.prefix.as_str(), "workyard");
    assert!(config.concurrency >= 4 && config.watch_host);
    assert_eq!(config.lease, Duration::from_secs(3));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.queue_order, QueueOrder::Strict);
    assert_eq!((config.http, config.log), (None, None));
    assert_eq!((config.queues[0].name.as_str(), config.queues[0].weight), ("q", 1));
    let handler = &config.handlers["t"];
    assert_eq!((handler.concurrency, handler.timeout), (None, None));
    assert!(matches!(&handler.action, Action::Builtin(b) if b.function == Function::Echo));
}

#[test]
fn every_field_of_the_daemon_is_read() {
    let config = read(FULL).unwrap();
    assert_eq!(config.redis_url.as_ref().unwrap().expose(), "redis://u:hidden@h/");
    assert!(!format!("{config:?}").contains("hidden"));
    assert_eq!((config.prefix.as_str(), config.concurrency), ("shop.eu", 16));
    assert_eq!(config.prefetch, 0);
    assert_eq!(
        (config.lease, config.drain_timeout),
        (Duration::from_millis(1500), Duration::from_secs(90))
    );
    assert!(!config.watch_host);
    assert_eq!(config.queue_order, QueueOrder::Weighted);
    assert_eq!(config.queues.iter().map(|q| q.weight).collect::<Vec<_>>(), [3, 1]);
    let handler = &config.handlers["mail:send"];
    assert_eq!(
        (handler.concurrency, handler.timeout),
        (Some(Concurrency::Fixed(4)), Some(Duration::from_secs(30)))
    );
    let Action::Command(command) = &handler.action else {
        panic!("{handler:?}")
    };
    assert_eq!(command.program, Path::new("/etc/workyard/bin/x"));
    assert_eq!(command.args[1], Arg::Field(vec!["to".to_owned(), "addr".to_owned()]));
    assert_eq!(command.process.cwd.as_deref(), Some(Path::new("/etc/workyard/work")));
    assert_eq!(command.process.kill_after, Duration::from_secs(1));
    assert_eq!((command.output, command.allow_dash_args), (Output::None, true));
    assert_eq!(command.final_exit_codes.iter().copied().collect::<Vec<_>>(), [3]);
}

#[test]
fn a_queue_that_is_a_bare_name_is_told_how_to_be_a_table() {
    let error = read("queues = [\"emails\"]\n[jobs]\n").unwrap_err().to_string();
    assert!(
        error.contains("expected a table: [[queues]], and below it name = \"emails\""),
        "{error}"
    );
    let error = read("[queues]\nname = \"q\"\n[jobs]\n").unwrap_err().to_string();
    assert!(
        error.contains(":1: queues: ") && error.contains("two pairs of brackets"),
        "{error}"
    );
}

#[test]
fn a_kind_with_a_dot_is_told_its_quotes() {
    for (head, quoted) in [
        ("[handlers.mail.send]", "[handlers.\"mail.send\"]"),
        ("[handlers.a.b.c]", "[handlers.\"a.b.c\"]"),
    ] {
        let text = format!("[[queues]]\nname = \"q\"\n{head}\ntype = \"command\"\nargv = [\"x\"]\n");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains("stands in quotes") && error.contains(quoted), "{error}");
        let right = text.replace(head, quoted);
        assert_eq!(read(&right).unwrap().handlers.len(), 1, "{right}");
    }
}

#[test]
fn an_address_of_redis_that_is_none_is_refused_with_the_file_and_without_its_password() {
    let rest = "[[queues]]\nname = \"q\"\n[jobs]\n";
    for (url, why) in [
        ("127.0.0.1:17900", "did you mean redis://127.0.0.1:17900?"),
        ("redis://u:hush@h:179000/", "port 179000 is above 65535"),
    ] {
        let error = read(&format!("redis_url = \"{url}\"\n{rest}")).unwrap_err().to_string();
        assert!(error.contains(":1: redis_url: ") && error.contains(why), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
    read(&format!("redis_url = \"managed\"\n{rest}")).unwrap();
}

#[test]
fn mistakes_of_the_daemon_name_file_line_field_and_remedy() {
    let table = [
        ("leese = \"3s\"", ":1: ", "unknown field `leese`, expected one of"),
        ("\nlease = 3", ":2: ", "a duration as text, such as \"30s\""),
        (
            "lease = \"3 parsecs\"",
            ":1: ",
            "duration \"3 parsecs\" must be like 250ms, 30s",
        ),
        (
            "lease = \"1ms\"",
            ":1: lease: ",
            "1ms is out of range; give 500ms to 10m",
        ),
        (
            "concurrency = 0",
            ":1: concurrency: ",
            "0 is out of range; give 1 to 10000",
        ),
        (
            "prefetch = 10001",
            ":1: prefetch: ",
            "10001 is out of range; give 0 to 10000",
        ),
        ("concurrency = -1", ":1: concurrency: ", "invalid value: integer `-1`"),
        (
            "concurrency = \"many\"",
            ":1: concurrency: ",
            "invalid type: string \"many\", expected a whole number",
        ),
        ("concurency = 3", ":1: ", "did you mean `concurrency`?"),
        ("jobs = true", ":1: ", "expected a table: [jobs]"),
        (
            "prefix = \"{a}\"",
            ":1: prefix: ",
            "prefix \"{a}\" must match [A-Za-z0-9._-]{1,64}",
        ),
        // What the worker would refuse later is refused here, with its place.
        ("prefix = \"shop:eu\"", ":1: prefix: ", "\"shop:eu\" must match"),
        (
            "lease = \"5 sec 3 weeks\"",
            ":1: ",
            "duration \"5 sec 3 weeks\" must be",
        ),
        (
            "http = \"everywhere\"",
            ":1: http: ",
            "must be a port (of 127.0.0.1), or address and port",
        ),
        ("http = 70000", ":1: ", ""),
        ("log = \"loud\"", ":1: log: ", "\"loud\" must be error, warn, info"),
        ("queue_order = \"fair\"", ":1: ", "expected `strict` or `weighted`"),
        (
            "redis_url = { env = \"WORKYARD_NOT_SET\" }",
            ":1: redis_url: ",
            "WORKYARD_NOT_SET is not set",
        ),
        (
            "redis_url = { enf = \"X\" }",
            ":1: ",
            "{ env = \"NAME\" } or { file = \"path\" }",
        ),
        ("redis_url = ", ":1: ", ""),
    ];
    for (line, place, text) in table {
        let error = refusal_of_top(line);
        assert!(
            error.starts_with(&format!("/etc/workyard/daemon.toml{place}")),
            "{line}: {error}"
        );
        assert!(error.contains(text), "{line}: {error}");
    }
}

#[test]
fn queues_and_handlers_are_checked() {
    let table = [
        (HANDLER.to_owned(), "queues: there is none; add [[queues]]"),
        (QUEUE.to_owned(), "handlers: there is none; add [handlers.KIND]"),
        (
            format!("{QUEUE}[handlers]"),
            "handlers: there is none; add [handlers.KIND]",
        ),
        (format!("handlers = 3\n{QUEUE}"), "handlers: must be tables"),
        (format!("{QUEUE}{QUEUE}{HANDLER}"), "\"q\" stands there twice"),
        (
            format!("[[queues]]\nname = \"a b\"\n{HANDLER}"),
            "queue \"a b\" must match [A-Za-z0-9._-]{1,64}",
        ),
        (
            format!("[[queues]]\nname = \"a\"\nweight = 0\n{HANDLER}"),
            "queues.weight: 0 is out of range",
        ),
        (
            format!("[[queues]]\nname = \"a\"\nwait = 0\n{HANDLER}"),
            "unknown field `wait`",
        ),
        (format!("[[queues]]\nweight = 2\n{HANDLER}"), "missing field `name`"),
        (
            format!("{QUEUE}[handlers.\"a b\"]\ntype = \"http\""),
            "kind \"a b\" must match [A-Za-z0-9._:-]{1,128}",
        ),
        (format!("{QUEUE}[handlers]\nsend = 3"), "handlers.send: must be a table"),
    ];
    for (text, expected) in table {
        let error = refusal(&text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = load(Path::new("/no/such.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /no/such.toml: "), "{error}");
}

#[test]
fn places_of_jobs_are_folders_and_object_stores() {
    assert_eq!(read(&format!("{QUEUE}{HANDLER}")).unwrap().jobs, JobsConfig::default());
    let jobs = "[jobs]\nread = [\"data\", \"/abs\", \"s3://b/in\"]\nspill = [\"file:///spill\"]\n";
    let jobs = read(&format!("{QUEUE}{HANDLER}{jobs}")).unwrap().jobs;
    let folder = |path: &str| Place::Folder(path.into());
    let store = Place::Store("s3://b/in".to_owned());
    assert_eq!(jobs.read, [folder("/etc/workyard/data"), folder("/abs"), store]);
    assert_eq!(jobs.spill, [folder("/spill")]);
    for (line, reason) in [
        (
            "read = [\"http://x\"]",
            "jobs.read: \"http://x\" is no place; give a folder or s3://bucket/prefix",
        ),
        ("spill = [\"s3:///x\"]", "jobs.spill: \"s3:///x\" names no bucket"),
        ("reed = []", "unknown field `reed`"),
    ] {
        let error = refusal(&format!("{QUEUE}{HANDLER}[jobs]\n{line}"));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_slots_of_a_kind_are_a_number_or_move_between_two() {
    for (text, expected) in [
        ("4", Concurrency::Fixed(4)),
        ("{ min = 2, max = 32 }", Concurrency::Adaptive { min: 2, max: 32 }),
    ] {
        let config = read(&format!("{QUEUE}{HANDLER}\nconcurrency = {text}")).unwrap();
        assert_eq!(config.handlers["t"].concurrency, Some(expected));
    }
}
