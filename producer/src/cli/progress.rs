//! Progress of a long command: a bar at a terminal, a line now and then otherwise.
//!
//! Invariant: it writes to stderr only, and nothing at all with JSON. The bar is gone when the
//! command ends, so that the last line is the outcome.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;

/// Plain lines come each time this many more parts of a hundred are done.
const PLAIN_STEP: u64 = 25;

/// A running progress.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    plain: bool,
    total: u64,
    told: u64,
}

impl Progress {
    /// Of `total` steps; `quiet` shows nothing.
    pub(crate) fn new(what: &'static str, total: u64, quiet: bool) -> Self {
        let terminal = output::draws();
        let bar = if quiet || !terminal {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(total)
        };
        // A template that indicatif does not like leaves its own default.
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self {
            bar,
            what,
            plain: !quiet && !terminal,
            total,
            told: 0,
        }
    }

    /// So many steps are done.
    pub(crate) fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        let percent = (done * 100).checked_div(self.total).unwrap_or(100);
        if self.plain && percent >= self.told + PLAIN_STEP {
            self.told = percent - percent % PLAIN_STEP;
            // Progress that nobody can read is no reason to stop.
            writeln!(std::io::stderr(), "{} {done} of {}", self.what, self.total).ok();
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
