//! Handlers of type `http` behind `https://`: the server's certificate is checked, by the authorities of the system.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use workyard_tests::{Authority, Daemon, Signal, Yard, wait_until, workspace_binary};

const SOON: Duration = Duration::from_secs(30);

/// Answers each POST with its body, by TLS; writes its port first.
const SERVER: &str = r#"
import http.server, ssl, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_goes_only_to_a_server_whose_certificate_is_trusted() {
    let (yard, authority) = (Yard::start().await, Authority::new());
    let [cert, key] = authority.pair("server");
    let mut server = Command::new("python3")
        .args(["-c", SERVER])
        .args([&cert, &key])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let file = yard.server.dir().join("workyard.toml");
    let handler = format!("type = \"http\"\nurl = \"https://127.0.0.1:{}/\"\n", port.trim());
    std::fs::write(&file, format!("[[queues]]\nname = \"q\"\n[handlers.echo]\n{handler}")).unwrap();
    // Behind the system's own, which may be that of Redis.
    let known = std::env::var_os("SSL_CERT_FILE").and_then(|file| std::fs::read(file).ok());
    let daemon = |authorities: &Authority| {
        let trusted = authorities.ca().with_file_name("trusted.pem");
        let all = [
            known.clone().unwrap_or_default(),
            std::fs::read(authorities.ca()).unwrap(),
        ]
        .concat();
        std::fs::write(&trusted, all).unwrap();
        let mut command = workspace_binary("workyard-consumer");
        command
            .arg("--config")
            .arg(&file)
            .env("WORKYARD_REDIS_URL", yard.server.consumer_url())
            .env("SSL_CERT_FILE", trusted);
        Daemon::spawn(&mut command)
    };
    let other = Authority::new();
    let stranger = daemon(&other);
    let id = yard
        .add("echo", "\"unseen\"", |options| options.max_attempts = Some(1))
        .await;
    wait_until(SOON, || async { yard.total("failed").await == 1 }).await;
    let meta = yard.dead(&id).await;
    assert!(meta.error.contains("certificate"), "{}", meta.error);
    stranger.signal(Signal::TERM);
    assert_eq!(stranger.wait_exit(SOON).await.code(), Some(0), "{}", stranger.log());

    let trusting = daemon(&authority);
    let id = yard.add("echo", "{\"n\": 1e400}", |_| {}).await;
    assert_eq!(yard.result(&id).await, "{\"n\": 1e400}");
    trusting.signal(Signal::TERM);
    assert_eq!(trusting.wait_exit(SOON).await.code(), Some(0), "{}", trusting.log());
    server.kill().unwrap();
    server.wait().unwrap();
}
