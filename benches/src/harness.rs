//! One run of a harness: a mode, its JSON line, its end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::peers::Peer;

/// A mode that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// From a worker's first word until it surely waits for tasks.
const SETTLE: Duration = Duration::from_millis(1500);

/// What a harness reports; zero is what its mode does not measure.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) count: usize,
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// Where harnesses are and which Redis they use.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Where the peers are installed.
    pub(crate) root: PathBuf,
    /// benches/peers.
    pub(crate) sources: PathBuf,
    pub(crate) url: String,
    /// Bytes of a payload.
    pub(crate) payload: usize,
}

/// A running harness; killed when dropped.
#[derive(Debug)]
pub(crate) struct Harness {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: JoinHandle<String>,
    said: String,
}

impl Harness {
    pub(crate) fn start(place: &Place, peer: &Peer, words: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::from(peer.harness(&place.root, &place.sources)?);
        let command = command.args(words).env("REDIS_URL", &place.url);
        let command = command.env("BENCH_PAYLOAD", place.payload.to_string());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the harness of {}", peer.name))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        Ok(Self {
            lines: BufReader::new(stdout).lines(),
            complaints: tokio::spawn(last_line(stderr)),
            said: words.join(" "),
            child,
        })
    }

    /// A worker that waits for tasks.
    pub(crate) async fn worker(place: &Place, peer: &Peer, words: &[String]) -> anyhow::Result<Self> {
        let mut worker = Self::start(place, peer, words)?;
        worker.line("ready").await?;
        tokio::time::sleep(SETTLE).await;
        Ok(worker)
    }

    /// Its figures, at its end.
    pub(crate) async fn report(mut self) -> anyhow::Result<Report> {
        let line = self.line("count").await?;
        self.child.wait().await?;
        Ok(serde_json::from_str(&line)?)
    }

    /// The next line of JSON with this field; what libraries print besides is passed over.
    async fn line(&mut self, field: &str) -> anyhow::Result<String> {
        let wanted = format!("\"{field}\":");
        let next = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.starts_with('{') && line.contains(&wanted) {
                    return Ok(Some(line));
                }
            }
            anyhow::Ok(None)
        };
        match tokio::time::timeout(LIMIT, next).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => bail!("`{}` ended early: {}", self.said, (&mut self.complaints).await?),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("`{}` gave nothing in {LIMIT:?}", self.said),
        }
    }
}

/// The last line on stderr; read as it comes, or a talkative library would wait for a reader.
async fn last_line(stderr: ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = String::from("no word");
    while let Ok(Some(line)) = lines.next_line().await {
        if !line.trim().is_empty() {
            last = line;
        }
    }
    last
}

/// Runs one mode to its end.
pub(crate) async fn run(place: &Place, peer: &Peer, words: &[String]) -> anyhow::Result<Report> {
    Harness::start(place, peer, words)?.report().await
}

/// Installs the group of a peer; the error says why it could not be.
pub(crate) async fn install(group: &str, folder: &Path, sources: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("bash");
    command.arg(sources.join("install")).arg(group).arg(folder);
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let reason = text
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    bail!("not installed: {}", reason.trim())
}
