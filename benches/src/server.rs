//! A Redis of the benchmark's own: loopback, AOF off unless a measurement turns it on, ended with it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use redis::Value;
use tempfile::TempDir;
use workyard_shared::link::{Link, LinkConfig};

/// The server under measurement.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours alone: nothing in it is to be kept.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    /// Starts `binary` on a free port of this machine.
    pub(crate) async fn start(binary: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(binary)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                // Whether a hash is being rehashed is seen by DEBUG alone.
                "--enable-debug-command",
                "yes",
            ])
            .args(["--dir", &dir.path().to_string_lossy()])
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {binary}"))?;
        let server = Self { child, port, dir };
        let begun = Instant::now();
        while server.link().await.is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("{binary} does not answer");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A link that has answered.
    pub(crate) async fn link(&self) -> anyhow::Result<Link> {
        let link = Link::new(LinkConfig::from_url(&self.url())?, None)?;
        link.call(&redis::cmd("PING")).await?;
        Ok(link)
    }

    /// CPU time of Redis so far, user and system.
    pub(crate) async fn cpu(&self, link: &Link) -> anyhow::Result<Duration> {
        let info = info(link, "cpu").await?;
        let seconds: f64 = ["used_cpu_sys:", "used_cpu_user:"]
            .iter()
            .filter_map(|name| info.lines().find_map(|line| line.strip_prefix(name)))
            .filter_map(|text| text.trim().parse::<f64>().ok())
            .sum();
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Bytes in use.
    pub(crate) async fn memory(&self, link: &Link) -> anyhow::Result<u64> {
        number(&info(link, "memory").await?, "used_memory:").context("no used_memory")
    }

    /// Turns the append-only file off, or on with a policy; returns when Redis has rewritten it.
    pub(crate) async fn aof(&self, link: &Link, policy: &str) -> anyhow::Result<()> {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET");
        match policy {
            "off" => set.arg("appendonly").arg("no"),
            policy => set.arg("appendfsync").arg(policy).arg("appendonly").arg("yes"),
        };
        link.call(&set).await?;
        is_through(
            link,
            "persistence",
            &["aof_rewrite_in_progress:", "aof_rewrite_scheduled:"],
        )
        .await
    }

    /// Empties it; returns when the memory is free again. Five million tasks take longer to free than a call may last,
    /// so Redis does it beside, and is asked until it is through: what is measured next shares no core with it.
    pub(crate) async fn flush(&self, link: &Link) -> anyhow::Result<()> {
        link.call(redis::cmd("FLUSHALL").arg("ASYNC")).await?;
        is_through(link, "memory", &["lazyfree_pending_objects:"]).await
    }
}

/// Waits until Redis has none left of these.
async fn is_through(link: &Link, section: &str, fields: &[&str]) -> anyhow::Result<()> {
    loop {
        let text = info(link, section).await?;
        if fields.iter().all(|field| number(&text, field) == Some(0)) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The address of a server on this machine.
pub(crate) fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/")
}

/// The field of an INFO answer.
fn number(info: &str, field: &str) -> Option<u64> {
    info.lines()
        .find_map(|line| line.strip_prefix(field))?
        .trim()
        .parse()
        .ok()
}

async fn info(link: &Link, section: &str) -> anyhow::Result<String> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg(section);
    match link.call(&cmd).await? {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } => Ok(text),
        other => bail!("INFO answered {other:?}"),
    }
}
