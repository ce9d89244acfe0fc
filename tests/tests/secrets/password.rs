//! Passwords of Redis: right ones, wrong ones, from variables, files, URLs and arguments.

use std::process::Command;

use workyard_shared::link::{Access, Link, LinkConfig};
use workyard_shared::secret::Secret;
use workyard_tests::{Daemon, Yard, http_of, workspace_binary};

use crate::seen::{FILE, MARK, SOON, Seen, becomes_ready, file, marked, plain_url};

fn consumer(yard: &Yard, format: &str) -> Command {
    let mut command = workspace_binary("workyard-consumer");
    command.arg("--config").arg(file(yard, "workyard.toml", FILE));
    command.args(["--log", "trace", "--log-format", format, "--redis-user", "worker"]);
    command.env("WORKYARD_REDIS_URL", plain_url(yard));
    command
}

fn workyard(yard: &Yard, password: &str, args: &[&str]) -> String {
    let mut command = workspace_binary("workyard");
    command.args(args).args(["-q", "q", "-vv", "--patience", "1s"]);
    command
        .env("WORKYARD_REDIS_URL", plain_url(yard))
        .env("WORKYARD_REDIS_USER", "worker");
    let output = command.env("WORKYARD_REDIS_PASSWORD", password).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    format!("exit code {:?}\n{said}", output.status.code())
}

/// Closes all connections of the programs.
async fn cut_off(yard: &Yard) {
    let mut redis = yard.server.connection().await;
    let all = ["KILL", "USER", "worker"];
    let () = redis::cmd("CLIENT").arg(&all).query_async(&mut redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_variable_shows_nowhere_while_it_works() {
    let (yard, mut seen) = (marked().await, Seen::default());
    for format in ["human", "json"] {
        let daemon = Daemon::spawn(consumer(&yard, format).env("WORKYARD_REDIS_PASSWORD", MARK));
        let address = http_of(&daemon).await;
        becomes_ready(address).await;
        seen.arguments("the arguments of the daemon", daemon.pid());
        seen.add(
            "the result of a command that shows its environment",
            workyard(&yard, MARK, &["enqueue", "env", "1", "--wait", "20s"]),
        );
        seen.pages(address).await;
        for args in [
            &["stats", "--json"][..],
            &["consumers", "--json"],
            &["consumers"],
            &["metrics"],
            &["audit"],
            &["results"],
        ] {
            let said = workyard(&yard, MARK, args);
            assert!(said.starts_with("exit code Some(0)"), "{said}");
            seen.add(args[0], said);
        }
        seen.keys(&yard).await;
        // An outage and its end are logged with what the connection says of them.
        cut_off(&yard).await;
        becomes_ready(address).await;
        seen.end_of(&daemon).await;
    }
    seen.holds_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_refused_shows_nowhere() {
    let (yard, mut seen) = (marked().await, Seen::default());
    let wrong = format!("{MARK}-wrong");
    for format in ["human", "json"] {
        let denied = Daemon::spawn(consumer(&yard, format).env("WORKYARD_REDIS_PASSWORD", &wrong));
        assert_eq!(denied.wait_exit(SOON).await.code(), Some(4), "{}", denied.log());
        seen.add("the log of a refused daemon", denied.log());
    }
    for args in [
        &["stats"][..],
        &["stats", "--json"],
        &["enqueue", "env", "1"],
        &["wait", "x"],
    ] {
        let said = workyard(&yard, &wrong, args);
        assert!(said.starts_with("exit code Some(4)"), "{said}");
        seen.add("a refused command", said);
    }
    // In the URL, right or wrong, and in URLs that cannot be used.
    for url in [
        yard.server.url_with(&format!("worker:{wrong}@")),
        format!("redis://worker:{wrong}@127.0.0.1:port/"),
        format!("http://worker:{wrong}@127.0.0.1/"),
        format!("redis://worker:{wrong}@127.0.0.1:1/"),
        format!("redis-sentinel://127.0.0.1:1/mymaster?sentinel_password={wrong}"),
        format!("redis-sentinel://127.0.0.1:port/mymaster?sentinel_password={wrong}"),
    ] {
        let mut command = workspace_binary("workyard");
        command
            .args(["stats", "-vv", "--patience", "0"])
            .env("WORKYARD_REDIS_URL", &url);
        let output = command.output().unwrap();
        seen.add(
            "a wrong URL",
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
        );
        seen.add(
            "an error",
            format!("{:?}", LinkConfig::from_url(&url).map(|config| config.address())),
        );
    }
    seen.holds_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_is_read_anew_at_each_connection_and_no_argument_shows_it() {
    let (yard, mut seen) = (marked().await, Seen::default());
    // Relative to the configuration, as for systemd's LoadCredential an absolute one is; the newline is not part of it.
    let secret = file(&yard, "password", &format!("{MARK}\n"));
    let text = FILE.replace(
        "lease",
        "redis_user = \"worker\"\nredis_password = { file = \"password\" }\nlease",
    );
    let mut command = workspace_binary("workyard-consumer");
    command
        .arg("--config")
        .arg(file(&yard, "workyard.toml", &text))
        .args(["--log", "trace"]);
    let daemon = Daemon::spawn(command.env("WORKYARD_REDIS_URL", plain_url(&yard)));
    let address = http_of(&daemon).await;
    becomes_ready(address).await;
    // The password changes, then every connection is cut.
    let changed = format!("{MARK}-new");
    std::fs::write(&secret, &changed).unwrap();
    let mut redis = yard.server.connection().await;
    let rules = ["SETUSER", "worker", "resetpass", &format!(">{changed}")].map(str::to_owned);
    let () = redis::cmd("ACL").arg(&rules).query_async(&mut redis).await.unwrap();
    cut_off(&yard).await;
    let id = yard.add("env", "1", |_| {}).await;
    seen.add("the environment of a command", yard.result(&id).await);
    becomes_ready(address).await;
    seen.arguments("the arguments of the daemon", daemon.pid());
    let mut cli = workspace_binary("workyard");
    cli.args(["stats", "-q", "q", "--redis-user", "worker", "--redis-password-file"])
        .arg(&secret);
    let output = cli.env("WORKYARD_REDIS_URL", plain_url(&yard)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    seen.end_of(&daemon).await;
    seen.holds_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_arguments_is_warned_of_and_debug_output_shows_none() {
    let yard = marked().await;
    let url = yard.server.url_with(&format!("worker:{MARK}@"));
    let mut command = workspace_binary("workyard");
    let output = command.args(["--redis-url", &url, "queues"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("can be read by every user of this machine"),
        "{said}"
    );
    let mut seen = Seen::default();
    seen.add("the warning", said);
    let access = Access {
        password: Some(Secret::new(MARK)),
        ..Access::default()
    };
    seen.add("Access", format!("{access:?}"));
    let config = LinkConfig::from_url(&url).unwrap();
    seen.add("LinkConfig", format!("{config:?} {}", config.address()));
    seen.add("Link", format!("{:?}", Link::new(config.clone(), None).unwrap()));
    seen.add(
        "WorkerConfig",
        format!(
            "{:?}",
            workyard_consumer::WorkerConfig::new(config.clone(), "q".parse().unwrap())
        ),
    );
    let client = workyard_producer::Client::new(workyard_producer::ClientConfig::new(config)).unwrap();
    seen.add("Client", format!("{client:?}"));
    let text = format!("redis_url = \"{url}\"\nredis_password = \"{MARK}\"\n{FILE}");
    seen.add(
        "DaemonConfig",
        format!(
            "{:?}",
            workyard_consumer::config::parse(&text, "x.toml".as_ref()).unwrap()
        ),
    );
    seen.holds_no_secret();
}
