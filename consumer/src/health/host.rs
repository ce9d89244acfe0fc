//! The machine under a consumer: CPU and memory of its cgroup or host, and how late its own loop is.
//!
//! Invariant: cheap (a few small files a second) and never an obstacle: what cannot be read is 0, which blames nobody.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use workyard_shared::balance::{Vitals, pressure};

/// Pause between looks at the loop.
const LAG_EVERY: Duration = Duration::from_millis(100);
/// Shortest span over which CPU is measured, and between two looks at memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is known of the machine.
pub(crate) struct Host {
    /// False: whoever shares this machine is none of our business.
    watch_load: bool,
    lag_us: AtomicU64,
    rtt_us: AtomicU64,
    load: Mutex<Load>,
}

/// Shares in use, 0 to 1, as they were when last looked at.
#[derive(Clone, Copy)]
struct Load {
    at: Instant,
    used: Duration,
    cpu: f64,
    memory: f64,
}

impl Host {
    /// Starts looking at the loop that runs the lanes, until `stop`.
    pub(crate) fn start(watch_load: bool, stop: CancellationToken) -> Arc<Self> {
        let host = Arc::new(Self {
            watch_load,
            ..Self::new()
        });
        let looking = Arc::clone(&host);
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let due = Instant::now() + LAG_EVERY;
                tokio::time::sleep_until(due.into()).await;
                smooth(&looking.lag_us, due.elapsed());
            }
        });
        host
    }

    pub(crate) fn new() -> Self {
        Self {
            watch_load: true,
            lag_us: AtomicU64::new(0),
            rtt_us: AtomicU64::new(0),
            load: Mutex::new(Load {
                at: Instant::now(),
                used: cpu_used().unwrap_or_default(),
                cpu: 0.0,
                memory: memory_used(),
            }),
        }
    }

    /// A heartbeat took this long to be answered.
    pub(crate) fn answered(&self, took: Duration) {
        smooth(&self.rtt_us, took);
    }

    /// How late the loop is, in seconds.
    pub(crate) fn lag_seconds(&self) -> f64 {
        self.lag_ms() / 1000.0
    }

    pub(super) fn lag_ms(&self) -> f64 {
        millis(&self.lag_us)
    }

    pub(super) fn rtt_ms(&self) -> f64 {
        millis(&self.rtt_us)
    }

    /// How hard pressed it is, 0 to 1.
    pub(crate) fn pressure(&self) -> f64 {
        let (cpu, memory) = self.load();
        pressure(&Vitals {
            lag_ms: self.lag_ms(),
            rtt_ms: self.rtt_ms(),
            cpu,
            memory,
            ..Vitals::default()
        })
    }

    /// Shares of CPU and memory in use, 0 to 1. Every queue asks with every beat: the files are read once for all.
    pub(super) fn load(&self) -> (f64, f64) {
        if !self.watch_load {
            return (0.0, 0.0);
        }
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let span = load.at.elapsed();
        if span >= LOOK_EVERY
            && let Some(used) = cpu_used()
        {
            let busy = used.saturating_sub(load.used).as_secs_f64();
            *load = Load {
                at: Instant::now(),
                used,
                cpu: (busy / span.as_secs_f64() / cores()).clamp(0.0, 1.0),
                memory: memory_used(),
            };
        }
        (load.cpu, load.memory)
    }
}

fn memory_used() -> f64 {
    memory().unwrap_or(0.0).clamp(0.0, 1.0)
}

/// A mean in which the newest counts a quarter. Two writers may lose an update: it is a mean.
fn smooth(mean_us: &AtomicU64, span: Duration) {
    let newest = u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 8);
    let before = mean_us.load(Ordering::Relaxed);
    mean_us.store(before - before / 4 + newest / 4, Ordering::Relaxed);
}

#[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^53")]
fn millis(us: &AtomicU64) -> f64 {
    us.load(Ordering::Relaxed) as f64 / 1000.0
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// This process's cgroup of version 2, if it has one of its own.
fn cgroup() -> Option<PathBuf> {
    let text = read("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(path);
    folder.join("cpu.stat").is_file().then_some(folder)
}

/// CPU time used by the cgroup or, without a limited one, by the host.
fn cpu_used() -> Option<Duration> {
    match limited() {
        Some(folder) => used_by(&folder),
        None => used_since_boot(&read("/proc/stat")?),
    }
}

fn used_by(cgroup: &Path) -> Option<Duration> {
    let text = read(cgroup.join("cpu.stat"))?;
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    used.parse().ok().map(Duration::from_micros)
}

/// What `/proc/stat` says of all cores.
fn used_since_boot(stat: &str) -> Option<Duration> {
    let numbers: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal: all but idle and iowait, in ticks of 10 ms.
    let busy: u64 = numbers
        .iter()
        .take(8)
        .enumerate()
        .filter(|(i, _)| !matches!(i, 3 | 4))
        .map(|(_, n)| n)
        .sum();
    Some(Duration::from_millis(busy * 10))
}

/// The cgroup, if its CPU is limited.
fn limited() -> Option<PathBuf> {
    cgroup().filter(|folder| quota(folder).is_some())
}

fn quota(folder: &Path) -> Option<f64> {
    let text = read(folder.join("cpu.max"))?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// How many cores there are to use.
fn cores() -> f64 {
    let of_host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let of_host = f64::from(u32::try_from(of_host).unwrap_or(1));
    cgroup().and_then(|folder| quota(&folder)).unwrap_or(of_host).max(0.01)
}

fn memory() -> Option<f64> {
    if let Some(share) = cgroup().and_then(|folder| memory_of(&folder)) {
        return Some(share);
    }
    share_in_use(&read("/proc/meminfo")?)
}

/// What `/proc/meminfo` says.
fn share_in_use(meminfo: &str) -> Option<f64> {
    let field = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    Some(1.0 - field("MemAvailable:")? / field("MemTotal:")?.max(1.0))
}

/// The share of its memory that a cgroup needs, if that is limited: pages of files that nobody has used lately go when others want
/// the room, so they are no pressure.
fn memory_of(cgroup: &Path) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let limit = number(&read(cgroup.join("memory.max"))?)?;
    let used = number(&read(cgroup.join("memory.current"))?)?;
    let stat = read(cgroup.join("memory.stat")).unwrap_or_default();
    let idle = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(number);
    Some((used - idle.unwrap_or(0.0)).max(0.0) / limit.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_container_has_read_are_no_pressure_on_its_memory() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("memory.current", "1000\n");
        put("memory.max", "max\n");
        assert_eq!(memory_of(folder.path()), None, "no limit");
        put("memory.max", "1000\n");
        assert_eq!(memory_of(folder.path()), Some(1.0));
        put("memory.stat", "anon 150\ninactive_file 800\nactive_file 50\n");
        assert_eq!(memory_of(folder.path()), Some(0.2));
    }

    #[test]
    fn cpu_and_memory_are_read_as_the_kernel_writes_them() {
        let stat = "cpu  100 20 30 5000 700 4 5 6 0 0\ncpu0 50 10 15 2500 350 2 2 3 0 0\n";
        // All but idle and iowait, and no guest time, which is in the user's.
        assert_eq!(used_since_boot(stat), Some(Duration::from_millis(1650)));
        let meminfo = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(share_in_use(meminfo), Some(0.75));
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put(
            "cpu.stat",
            "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
        );
        assert_eq!(used_by(folder.path()), Some(Duration::from_millis(2500)));
        put("cpu.max", "max 100000\n");
        assert_eq!(quota(folder.path()), None, "no limit");
        put("cpu.max", "150000 100000\n");
        assert_eq!(quota(folder.path()), Some(1.5));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is measured is the machine under load")]
    fn a_machine_that_works_is_seen_to_work() {
        let host = Host::new();
        // One core is busy for a second, so at least its share of all is; others may add to it.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            std::hint::spin_loop();
        }
        let (cpu, memory) = host.load();
        assert!(cpu > 0.4 / cores(), "{cpu} of {} cores", cores());
        assert!(memory > 0.0, "{memory}");
        let spared = Host {
            watch_load: false,
            ..Host::new()
        };
        std::thread::sleep(LOOK_EVERY);
        assert_eq!(
            spared.load(),
            (0.0, 0.0),
            "the machine of others is none of our business"
        );
    }

    #[tokio::test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a handler that blocks the loop is what is shown"
    )]
    async fn a_handler_that_blocks_the_loop_makes_it_late() {
        let stop = CancellationToken::new();
        let host = Host::start(false, stop.clone());
        tokio::time::sleep(LAG_EVERY * 3).await;
        let before = host.lag_ms();
        std::thread::sleep(Duration::from_millis(500));
        tokio::time::sleep(Duration::from_millis(1)).await;
        // By 400 ms at least, of which a quarter counts at once.
        assert!(
            host.lag_ms() > before * 0.75 + 90.0,
            "{before} ms, {} ms",
            host.lag_ms()
        );
        assert!((host.lag_seconds() - host.lag_ms() / 1000.0).abs() < 1e-9);
        assert!(host.pressure() > 0.0, "{}", host.pressure());
        stop.cancel();
    }

    #[test]
    fn shares_are_between_nothing_and_all() {
        let host = Host::new();
        let (cpu, memory) = host.load();
        assert!((0.0..=1.0).contains(&cpu));
        assert!((0.0..=1.0).contains(&memory));
        host.answered(Duration::from_millis(8));
        assert!((host.rtt_ms() - 2.0).abs() < 0.01, "the newest counts a quarter");
        assert!(cores() > 0.0);
    }
}
