//! Waiting for a job in sight: a bar per phase at a terminal, a line now and then otherwise.
//!
//! Invariant: it writes to stderr only and nothing with JSON; a plain line comes at most once a second and only when
//! something has changed. Ctrl-C ends the looking, not the job.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use workyard_producer::{JobHandle, JobRecord, Phase};
use workyard_shared::duration;

use super::exit::{CliError, Exit};

/// How often the record is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Least time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Waits until the job has ended, and shows how far it is.
pub(crate) async fn wait(job: &JobHandle, timeout: Duration, quiet: bool) -> Result<JobRecord, CliError> {
    let mut shown = Shown::new(quiet);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = job.wait(timeout);
    tokio::pin!(ended);
    let record = loop {
        tokio::select! {
            record = &mut ended => break record,
            _ = tokio::signal::ctrl_c() => {
                shown.end();
                return Err(interrupted(job));
            }
            // Dropped when one of the others is ready: a look that waits out an outage holds up nothing.
            looked = async { look.tick().await; job.status().await }, if !quiet => {
                // One that fails is told by the wait itself.
                if let Ok(record) = looked {
                    shown.show(&record, Instant::now());
                }
            }
        }
    };
    if let Ok(record) = &record {
        shown.show(record, Instant::now());
    }
    shown.end();
    // From here on Ctrl-C means what it always means.
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    Ok(record?)
}

fn interrupted(job: &JobHandle) -> CliError {
    let id = job.id();
    CliError::Told {
        exit: Exit::Timeout,
        message: format!("not waiting any more; job {id} goes on"),
        hint: Some(format!(
            "`workyard job wait {id}` waits again, `workyard job cancel {id}` stops it"
        )),
    }
}

/// What is on the screen.
struct Shown {
    bars: Option<[ProgressBar; 2]>,
    quiet: bool,
    last: String,
    told: Option<Instant>,
    speed: Speed,
}

impl Shown {
    fn new(quiet: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let all = MultiProgress::new();
            ["map", "reduce"].map(|name| {
                let bar = all.add(ProgressBar::new(1));
                let form = "{prefix:<7}{wide_bar} {human_pos}/{human_len} {per_sec} {eta} {msg}";
                // A template that indicatif does not like leaves its own default.
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style);
                }
                bar.set_prefix(name);
                bar
            })
        });
        Self {
            bars,
            quiet,
            last: String::new(),
            told: None,
            speed: Speed::default(),
        }
    }

    fn show(&mut self, record: &JobRecord, now: Instant) {
        if let Some(bars) = &self.bars {
            // Before all chunks are there, the maps have no total.
            let maps = record.maps.total.max(record.submitted);
            let phases = [(record.maps, maps), (record.reduces, record.reduces.total)];
            for (bar, (phase, total)) in bars.iter().zip(phases) {
                bar.set_length(total);
                bar.set_position(phase.done);
                bar.set_message(troubles(&phase));
            }
            return;
        }
        let early = self.told.is_some_and(|told| now - told < PLAIN_EVERY) && !record.state.is_terminal();
        let line = words(record);
        if self.quiet || early || line == self.last {
            return;
        }
        let speed = self.speed.words(record, now);
        // Progress that nobody can read is no reason to stop.
        writeln!(std::io::stderr(), "{line}{speed}").ok();
        (self.last, self.told) = (line, Some(now));
    }

    fn end(&self) {
        for bar in self.bars.iter().flatten() {
            bar.finish_and_clear();
        }
    }
}

/// How fast the present phase goes.
#[derive(Default)]
struct Speed {
    since: Option<(bool, Instant, u64)>,
}

impl Speed {
    fn words(&mut self, record: &JobRecord, now: Instant) -> String {
        let mapping = record.maps.done + record.maps.failed < record.maps.total;
        let phase = if mapping { record.maps } else { record.reduces };
        let (at, done) = match self.since {
            Some((of_maps, at, done)) if of_maps == mapping => (at, done),
            _ => {
                self.since = Some((mapping, now, phase.done));
                return String::new();
            }
        };
        let spent = (now - at).as_secs_f64();
        let rate = phase.done.saturating_sub(done) as f64 / spent;
        if spent <= 0.0 || rate <= 0.0 || record.state.is_terminal() {
            return String::new();
        }
        let left = phase.total.saturating_sub(phase.done + phase.failed) as f64 / rate;
        let left = Duration::from_secs(left.min(1e9).ceil() as u64);
        format!(", {rate:.1}/s, about {} left", duration::format(left))
    }
}

fn words(record: &JobRecord) -> String {
    let phase = |phase: &Phase| format!("{} of {}{}", phase.done, phase.total, troubles(phase));
    let (maps, reduces) = (phase(&record.maps), phase(&record.reduces));
    format!("{}: maps {maps}, reduces {reduces}", record.state)
}

/// What did not go well, if anything.
fn troubles(phase: &Phase) -> String {
    let mut text = String::new();
    for (number, name) in [
        (phase.failed, "failed"),
        (phase.retried, "retried"),
        (phase.backup, "doubled"),
    ] {
        if number > 0 {
            text.push_str(&format!(" {number} {name}"));
        }
    }
    text
}
