//! TLS to Redis: an authority of one's own, a certificate of one's own, and what is said when one of them is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use workyard_shared::link::{Access, Link, LinkConfig};
use workyard_tests::{Authority, Daemon, Signal, TestServer, Yard, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);

/// A queue whose server speaks TLS as well, on a port of its own.
struct Guarded {
    yard: Yard,
    authority: Authority,
    port: u16,
}

impl Guarded {
    /// `None`, said, if this server was built without TLS, as the Valkey of the Python package is; Redis never is.
    async fn start(asks_clients: bool) -> Option<Self> {
        let (yard, authority) = (Yard::on(TestServer::start_plain().await), Authority::new());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let [cert, key] = authority.pair("server");
        let mut redis = yard.server.connection().await;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET");
        for (name, value) in [
            ("tls-cert-file", cert.to_str().unwrap()),
            ("tls-key-file", key.to_str().unwrap()),
            ("tls-ca-cert-file", authority.ca().to_str().unwrap()),
            ("tls-auth-clients", if asks_clients { "yes" } else { "no" }),
            ("tls-port", &port.to_string()),
        ] {
            set.arg(name).arg(value);
        }
        let done: redis::RedisResult<()> = set.query_async(&mut redis).await;
        if let Err(error) = done {
            let info: redis::InfoDict = redis::cmd("INFO").arg("server").query_async(&mut redis).await.unwrap();
            let name: Option<String> = info.get("server_name");
            assert_eq!(name.as_deref(), Some("valkey"), "Redis without TLS: {error}");
            eprintln!("this Valkey was built without TLS: {error}");
            return None;
        }
        Some(Self { yard, authority, port })
    }

    /// The address of this role's user, by TLS.
    fn url(&self, plain: &str) -> String {
        let plain = plain.replace(&self.yard.server.port().to_string(), &self.port.to_string());
        plain.replace("redis://", "rediss://")
    }

    fn cli(&self, ca: Option<&Path>, args: &[&str]) -> Output {
        let mut command = self.cli_command(args);
        if let Some(ca) = ca {
            command.env("WORKYARD_REDIS_CA", ca);
        }
        command.output().unwrap()
    }

    fn cli_command(&self, args: &[&str]) -> Command {
        let mut command = workspace_binary("workyard");
        command
            .args(args)
            .args(["--queue", "q", "--patience", "2s"])
            .env("WORKYARD_REDIS_URL", self.url(&self.yard.server.cli_url(args)));
        command
    }

    fn daemon(&self, more: &str) -> Daemon {
        Daemon::spawn(&mut self.daemon_command(more))
    }

    fn daemon_command(&self, more: &str) -> Command {
        let file = self.yard.server.dir().join("workyard.toml");
        let text =
            format!("{more}\n[[queues]]\nname = \"q\"\n[handlers.echo]\ntype = \"builtin\"\nfunction = \"echo\"\n");
        std::fs::write(&file, text).unwrap();
        let mut command = workspace_binary("workyard-consumer");
        command.arg("--config").arg(file);
        command.env("WORKYARD_REDIS_URL", self.url(&self.yard.server.consumer_url()));
        command
    }
}

fn refused(output: &Output, code: i32, reason: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(reason), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_to_a_consumer_and_back_by_tls_with_an_authority_of_ones_own() {
    let Some(site) = Guarded::start(false).await else {
        return;
    };
    let ca = site.authority.ca();
    let daemon = site.daemon(&format!("redis_ca = {:?}", ca.to_str().unwrap()));
    wait_until(SOON, || async { site.yard.overview().await.consumers > 0 }).await;
    let done = site.cli(Some(&ca), &["enqueue", "echo", "7", "--wait", "20s"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "7", "{done:?}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(0), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_an_unknown_authority_signed_is_refused_and_the_error_says_what_to_do() {
    let Some(site) = Guarded::start(false).await else {
        return;
    };
    let stranger = Authority::new();
    for ca in [Some(stranger.ca()), None] {
        let output = site.cli(ca.as_deref(), &["stats"]);
        refused(&output, 4, "the certificate of Redis is not trusted; --redis-ca names");
    }
    let daemon = site.daemon(&format!("redis_ca = {:?}", stranger.ca().to_str().unwrap()));
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(4), "{}", daemon.log());
    assert!(daemon.log().contains("not trusted"), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_certificate_gets_ours_and_refuses_whoever_has_none() {
    let Some(site) = Guarded::start(true).await else { return };
    let ca = site.authority.ca();
    refused(
        &site.cli(Some(&ca), &["stats"]),
        4,
        "Redis does not accept our certificate",
    );
    let enter = |pair: [std::path::PathBuf; 2]| {
        let [cert, key] = pair.map(Some);
        let access = Access {
            redis_ca: Some(ca.clone()),
            redis_cert: cert,
            redis_key: key,
            ..Access::default()
        };
        let config = LinkConfig::from_url(&site.url(&site.yard.server.url())).unwrap();
        Link::new(config.with_access(&access).unwrap(), None).unwrap()
    };
    let ping = redis::cmd("PING");
    enter(site.authority.pair("client")).call(&ping).await.unwrap();
    let stranger = Authority::new();
    let foreign = enter(stranger.pair("client")).call(&ping).await;
    assert!(matches!(foreign, Err(workyard_shared::Error::Denied(_))), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_the_system_are_read_once_and_not_for_each_connection() {
    let Some(site) = Guarded::start(false).await else {
        return;
    };
    let system = site.yard.server.dir().join("system.pem");
    std::fs::copy(site.authority.ca(), &system).unwrap();
    let daemon = Daemon::spawn(site.daemon_command("").env("SSL_CERT_FILE", &system));
    wait_until(SOON, || async { site.yard.overview().await.consumers > 0 }).await;
    // On a connection of its own, too.
    let mut enqueue = site.cli_command(&["enqueue", "echo", "1", "--durability", "fsync"]);
    let enqueued = enqueue.env("SSL_CERT_FILE", &system).output().unwrap();
    assert!(enqueued.status.success(), "{enqueued:?}");
    std::fs::remove_file(&system).unwrap();
    let mut redis = site.yard.server.connection().await;
    for kind in ["normal", "pubsub"] {
        let mut kill = redis::cmd("CLIENT");
        kill.arg(&["KILL", "TYPE", kind]);
        kill.query_async::<u64>(&mut redis).await.unwrap();
    }
    let ca = site.authority.ca();
    let done = site.cli(Some(&ca), &["enqueue", "echo", "7", "--wait", "20s"]);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout).trim(),
        "7",
        "{done:?} {}",
        daemon.log()
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(SOON).await.code(), Some(0), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_of_the_system_is_in_nobodys_way_who_names_an_authority() {
    let Some(site) = Guarded::start(false).await else {
        return;
    };
    let broken = site.yard.server.dir().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    let mut command = site.cli_command(&["enqueue", "echo", "1"]);
    command
        .env("SSL_CERT_FILE", &broken)
        .env("WORKYARD_REDIS_CA", site.authority.ca());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn files_for_tls_that_cannot_be_used_are_told_before_anything_connects() {
    let run = |args: &[&str]| -> Output {
        let mut command: Command = workspace_binary("workyard");
        command.args(args).arg("stats").output().unwrap()
    };
    let tls = ["--redis-url", "rediss://127.0.0.1:1/"];
    let authority = Authority::new();
    let pem = authority.ca();
    let pem = pem.to_str().unwrap();
    refused(&run(&["--redis-ca", pem]), 2, "rediss://");
    refused(&run(&[tls[0], tls[1], "--redis-ca", "/none"]), 2, "cannot read /none");
    refused(&run(&[tls[0], tls[1], "--redis-cert", pem]), 2, "both");
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    refused(
        &run(&[tls[0], tls[1], "--redis-cert", text, "--redis-key", text]),
        2,
        "the files for TLS cannot be used",
    );
}
