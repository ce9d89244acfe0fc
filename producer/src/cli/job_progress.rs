//! Waiting for a job in sight: a bar per phase at a terminal, a line now and then otherwise.
//!
//! Invariant: it writes to stderr only and nothing with JSON; a plain line comes at most once a second and only when
//! something has changed. Ctrl-C ends the looking, not the job, also while a terminal takes nothing more.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use workyard_producer::{Error, JobHandle, JobRecord, Phase};
use workyard_shared::duration;

use super::away::{self, Notes};
use super::exit::{CliError, Exit};
use super::interrupt;
use super::job_notes::{self, News};
use super::job_view::half_submitted;
use super::output;
use super::session::Session;
use super::why;

/// How often the record is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Least time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Waits until the job has ended, and shows how far it is.
pub(crate) async fn wait(job: &JobHandle, timeout: Duration, session: &Session) -> Result<JobRecord, CliError> {
    let quiet = session.out.json;
    let mut shown = Shown::new(quiet, session.notes.clone());
    let mut notes = News::new(session.client.outage(), Instant::now());
    let mut interrupt = interrupt::listen(Exit::Timeout);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = job.wait(timeout);
    tokio::pin!(ended);
    let record = loop {
        tokio::select! {
            record = &mut ended => break record,
            Ok(()) = &mut interrupt => {
                shown.end();
                return Err(interrupted(job));
            }
            // Dropped when one of the others is ready: a look that waits out an outage holds up nothing.
            looked = async {
                look.tick().await;
                let record = job.status().await.ok()?;
                let news = notes.news(job, &record, session).await;
                Some((record, news))
            }, if !quiet => {
                // One that fails is told by the wait itself.
                if let Some((record, news)) = looked {
                    shown.show(&record, Instant::now());
                    news.iter().for_each(|note| shown.note(note));
                }
            }
        }
    };
    if let Ok(record) = &record {
        shown.show(record, Instant::now());
    }
    shown.end();
    match record {
        Err(error @ Error::JobTimeout { .. }) => Err(job_notes::explained(error, job, session).await),
        other => other.map_err(|error| away::given_up(error, &session.client)),
    }
}

fn interrupted(job: &JobHandle) -> CliError {
    let (id, queue) = (job.id(), why::on(job.queue()));
    CliError::Told {
        exit: Exit::Timeout,
        message: format!("not waiting any more; job {id} goes on"),
        hint: Some(format!(
            "`workyard job wait {id}{queue}` waits again, `workyard job cancel {id}{queue}` stops it"
        )),
    }
}

/// What is on the screen.
struct Shown {
    bars: Option<(MultiProgress, [ProgressBar; 2])>,
    notes: Notes,
    quiet: bool,
    last: String,
    told: Option<Instant>,
    speed: Speed,
}

impl Shown {
    fn new(quiet: bool, notes: Notes) -> Self {
        let bars = (!quiet && output::draws()).then(|| {
            let all = MultiProgress::new();
            let bars = ["map", "reduce"].map(|name| {
                let bar = all.add(ProgressBar::new(1));
                // Rate and rest are ours: indicatif's have four decimals, and 0s for what is not known.
                let form = "{prefix:<7}{wide_bar} {human_pos}/{human_len}{msg}";
                // A template that indicatif does not like leaves its own default.
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style);
                }
                bar.set_prefix(name);
                bar
            });
            (all, bars)
        });
        notes.draw(bars.as_ref().map(|(all, _)| all.clone()));
        Self {
            bars,
            notes,
            quiet,
            last: String::new(),
            told: None,
            speed: Speed::default(),
        }
    }

    fn show(&mut self, record: &JobRecord, now: Instant) {
        let (mapping, speed) = (is_mapping(record), self.speed.words(record, now));
        if let Some((_, bars)) = &self.bars {
            // Before all chunks are there, the maps have no total.
            let maps = record.maps.total.max(record.submitted);
            let phases = [(record.maps, maps), (record.reduces, record.reduces.total)];
            for ((bar, (phase, total)), maps) in bars.iter().zip(phases).zip([true, false]) {
                bar.set_length(total);
                bar.set_position(phase.done);
                let speed = if maps == mapping { speed.as_str() } else { "" };
                bar.set_message(format!("{}{speed}", troubles(&phase)));
            }
            return;
        }
        let early = self.told.is_some_and(|told| now - told < PLAIN_EVERY) && !record.state.is_terminal();
        let line = words(record);
        if self.quiet || early || line == self.last {
            return;
        }
        // Progress that nobody can read is no reason to stop.
        writeln!(std::io::stderr(), "{line}{speed}").ok();
        (self.last, self.told) = (line, Some(now));
    }

    fn note(&self, text: &str) {
        self.notes.write(&format!("note: {text}"));
    }

    fn end(&self) {
        for bar in self.bars.iter().flat_map(|(_, bars)| bars) {
            bar.finish_and_clear();
        }
        self.notes.draw(None);
    }
}

/// How fast the present phase goes.
#[derive(Default)]
struct Speed {
    since: Option<(bool, Instant, u64)>,
}

impl Speed {
    fn words(&mut self, record: &JobRecord, now: Instant) -> String {
        let mapping = is_mapping(record);
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
    if let Some(words) = half_submitted(record) {
        return format!("{}: {words}", record.state);
    }
    let phase = |phase: &Phase| format!("{} of {}{}", phase.done, phase.total, troubles(phase));
    let (maps, reduces) = (phase(&record.maps), phase(&record.reduces));
    format!("{}: maps {maps}, reduces {reduces}", record.state)
}

fn is_mapping(record: &JobRecord) -> bool {
    record.maps.done + record.maps.failed < record.maps.total
}

/// What did not go well, if anything.
fn troubles(phase: &Phase) -> String {
    let mut parts = Vec::new();
    for (number, name) in [
        (phase.failed, "failed"),
        (phase.retried, "retried"),
        (phase.backup, "doubled"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {name}"));
        }
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!(" ({})", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_stand_in_brackets_behind_their_phase() {
        let phase = Phase {
            total: 11,
            failed: 1,
            retried: 22,
            ..Phase::default()
        };
        assert_eq!(troubles(&phase), " (1 failed, 22 retried)");
        assert_eq!(troubles(&Phase::default()), "");
    }

    /// A job of 1,000 maps and 10 reduces, so far done.
    fn record(state: &str, maps: u64, failed: u64, reduces: u64) -> JobRecord {
        let fields = [
            ("v", "1".to_owned()),
            ("state", state.to_owned()),
            ("form", "fold".to_owned()),
            ("map", "m".to_owned()),
            ("reduce", "r".to_owned()),
            ("fan_in", "32".to_owned()),
            ("allow", "1".to_owned()),
            ("budget", "1000".to_owned()),
            ("retention", "1000".to_owned()),
            ("maps", "1000".to_owned()),
            ("reduces", "10".to_owned()),
            ("maps_done", maps.to_string()),
            ("maps_failed", failed.to_string()),
            ("reduces_done", reduces.to_string()),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        JobRecord::from_fields(&fields.into_iter().collect()).unwrap()
    }

    #[test]
    fn speed_is_that_of_the_phase_since_it_was_first_seen_and_the_rest_is_what_is_left_at_it() {
        let (mut speed, begun) = (Speed::default(), Instant::now());
        let mut said = |state: &str, done: [u64; 3], seconds: f64| {
            let now = begun + Duration::from_secs_f64(seconds);
            speed.words(&record(state, done[0], done[1], done[2]), now)
        };
        assert_eq!(said("mapping", [50, 0, 0], 0.0), "", "no time has passed");
        assert_eq!(said("mapping", [50, 0, 0], 1.0), "", "nothing was done");
        assert_eq!(said("mapping", [150, 0, 0], 10.0), ", 10.0/s, about 1m 25s left");
        // What failed is not waited for.
        assert_eq!(said("mapping", [550, 10, 0], 20.0), ", 25.0/s, about 18s left");
        // Another phase begins anew.
        assert_eq!(said("reducing", [990, 10, 2], 40.0), "");
        assert_eq!(said("reducing", [990, 10, 3], 45.0), ", 0.2/s, about 35s left");
        assert_eq!(said("completed", [990, 10, 10], 50.0), "", "nothing is left");
    }
}
