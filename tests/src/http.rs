//! One HTTP request, as Prometheus or a probe would send it.

#![expect(clippy::expect_used, reason = "its only callers are tests")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Daemon, wait_for};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the daemon says that it serves HTTP; start it with `--http 127.0.0.1:0`.
pub async fn http_of(daemon: &Daemon) -> SocketAddr {
    wait_for(PATIENCE, || async {
        let log = daemon.stderr();
        let rest = log
            .split("HTTP on ")
            .nth(1)
            .or_else(|| log.split("metrics on http://").nth(1))?;
        rest.split(|c: char| c == '/' || c.is_whitespace())
            .next()?
            .trim_end_matches(':')
            .parse()
            .ok()
    })
    .await
}

/// Status and body of a page.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = send(address, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

/// Sends bytes and reads until the server closes.
pub async fn send(address: SocketAddr, request: &[u8]) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request).await.ok();
        let mut answer = Vec::new();
        // A server that resets ends the answer too.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, talk)
        .await
        .expect("the server neither answers nor closes")
}
