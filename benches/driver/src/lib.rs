//! What Workyard and all Rust peers of the benchmark share: the modes, the tally of the worker, the JSON line.
//!
//! A peer says how it adds one task, how it adds many, how it works, and how it waits for a result; what is
//! timed and how is the same for all (benches/peers/README.md).

use std::future::Future;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The same for all Rust peers, so that no ratio comes from it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Callers at once in `many` and `cycle`.
const CALLERS: usize = 64;
/// Tasks in one bulk call, and most bytes of their payloads.
const BULK: usize = 1000;
const BULK_BYTES: usize = 2_000_000;

/// One queue library.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Adds one task and waits until it is accepted.
    fn one(&self, payload: String) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Adds many in one call.
    fn bulk(&self, _payloads: Vec<String>) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { bail!("this peer has no bulk call") }
    }
    /// Works until the tally ends the process; keeps results if asked.
    fn work(&self, keep: bool) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Adds one task and waits for its result.
    fn cycle(&self, _payload: String) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { bail!("this peer keeps no result to wait for") }
    }
}

/// The words of the command line.
pub fn words() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// What a worker has seen.
struct Tally {
    wanted: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// From send to handler, in nanoseconds.
    spans: Vec<u64>,
    /// When the first task came, and the CPU seconds until then.
    begun: Option<(Instant, f64)>,
}

static TALLY: OnceLock<Tally> = OnceLock::new();

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
fn now() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// CPU seconds of this process, user and system.
fn cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Bytes of a payload as JSON.
fn size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        let asked = std::env::var("BENCH_PAYLOAD").ok();
        asked.and_then(|text| text.parse().ok()).unwrap_or(100)
    })
}

/// So many characters, less the quotes of JSON, that begin with the time of sending.
pub fn payload() -> String {
    let mut text = format!("{};", now());
    text.extend(std::iter::repeat_n('x', (size() - 2).saturating_sub(text.len())));
    text
}

/// What the handler of every peer calls, inside of the runtime.
pub fn hit(payload: &str) {
    let sent: u64 = payload
        .split(';')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let Some(tally) = TALLY.get() else { return };
    let Ok(mut guard) = tally.seen.lock() else { return };
    let begun = *guard.begun.get_or_insert_with(|| (Instant::now(), cpu()));
    guard.spans.push(now().saturating_sub(sent));
    if guard.spans.len() == tally.wanted {
        let mut spans = std::mem::take(&mut guard.spans);
        // The first tenth warms up.
        spans.drain(..spans.len() / 10);
        spans.sort_unstable();
        let at = |share: f64| spans[((spans.len() as f64 * share) as usize).min(spans.len() - 1)] as f64 / 1000.0;
        let line = serde_json::json!({
            "count": tally.wanted, "seconds": begun.0.elapsed().as_secs_f64(), "cpu": cpu() - begun.1,
            "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999),
        });
        tokio::spawn(async move {
            // The last acknowledgements go out.
            tokio::time::sleep(Duration::from_millis(300)).await;
            say(&line);
            std::process::exit(0);
        });
    }
}

fn say(line: &serde_json::Value) {
    println!("{line}");
    std::io::stdout().flush().ok();
}

async fn callers<P: Peer, F>(peer: &P, each: impl Fn(P) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let tasks: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(each(peer.clone()))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The Redis to use.
pub fn url() -> anyhow::Result<String> {
    std::env::var("REDIS_URL").context("REDIS_URL is missing")
}

/// Runs one mode: `MODE COUNT [RATE | keep]`.
pub async fn run<P: Peer>(peer: P, args: &[String]) -> anyhow::Result<()> {
    let word = |i: usize| args.get(i).map(String::as_str).unwrap_or_default();
    let count: usize = word(1).parse().context("usage: MODE COUNT [RATE | keep]")?;
    let begun = Instant::now();
    match word(0) {
        "one" => {
            for _ in 0..count {
                peer.one(payload()).await?;
            }
        }
        "many" => {
            callers(&peer, move |peer| async move {
                for _ in 0..count / CALLERS {
                    peer.one(payload()).await?;
                }
                Ok(())
            })
            .await?;
        }
        "bulk" => {
            let most = (BULK_BYTES / size()).clamp(1, BULK);
            for first in (0..count).step_by(most) {
                peer.bulk((first..count.min(first + most)).map(|_| payload()).collect())
                    .await?;
            }
        }
        "cycle" => {
            callers(&peer, move |peer| async move {
                for _ in 0..count / CALLERS {
                    peer.cycle(payload()).await?;
                }
                Ok(())
            })
            .await?;
        }
        "feed" => feed(&peer, count, word(2).parse()?).await?,
        "work" => {
            TALLY
                .set(Tally {
                    wanted: count,
                    seen: Mutex::default(),
                })
                .ok();
            say(&serde_json::json!({"ready": true}));
            peer.work(word(2) == "keep").await?;
            bail!("the worker has ended early");
        }
        other => bail!("no mode {other:?}"),
    }
    say(&serde_json::json!({"count": count, "seconds": begun.elapsed().as_secs_f64()}));
    Ok(())
}

/// One task after the other at a rate, on a schedule that does not wait for the queue.
async fn feed<P: Peer>(peer: &P, count: usize, rate: f64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..count {
        let due = Duration::from_secs_f64(n as f64 / rate);
        if let Some(early) = due
            .checked_sub(begun.elapsed())
            .filter(|early| *early > Duration::from_millis(1))
        {
            tokio::time::sleep(early).await;
        }
        let peer = peer.clone();
        sends.spawn(async move { peer.one(payload()).await });
        while let Some(done) = sends.try_join_next() {
            done??;
        }
    }
    while let Some(done) = sends.join_next().await {
        done??;
    }
    Ok(())
}
