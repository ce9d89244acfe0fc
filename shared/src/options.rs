//! What a task may choose: priority, attempts, backoff, times. Defaults are never stored.
//!
//! Invariant: [`TaskOptions::encode`] and `lua/record.lua` agree on names, ranges and defaults; a
//! task with nothing chosen encodes to the empty text.

use std::time::Duration;

use crate::error::Error;
use crate::limits::{MAX_ATTEMPTS, MAX_DURATION_MS};

/// Priority of a task that chooses none; lower is more urgent.
pub const DEFAULT_PRIORITY: u8 = 5;
/// Attempts of a task that chooses none.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
/// What each retry adds to the priority.
pub const DEFAULT_RETRY_PRIORITY_STEP: u8 = 10;
/// Instants below are taken for seconds: 1973 in milliseconds, the year 5138 in seconds.
const LEAST_INSTANT_MS: u64 = 100_000_000_000;
/// Instants above are taken for microseconds: the end of the year 9999 in milliseconds, 1978 in microseconds.
const MOST_INSTANT_MS: u64 = 253_402_300_799_999;
/// How long a result stays.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(3600);

/// What a task is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskType {
    /// A task of its own.
    #[default]
    Single,
    /// A map step of a job.
    Map,
    /// A reduce step of a job.
    Reduce,
}

impl TaskType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Map => "map",
            Self::Reduce => "reduce",
        }
    }

    /// The type of that name on the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Single, Self::Map, Self::Reduce]
            .into_iter()
            .find(|t| t.as_str() == name)
    }
}

/// How long to wait before attempt n + 1: `min(base * factor^n, cap)`, plus up to `jitter` of it.
/// The default is 2, 4, 8 ... seconds, at most an hour, plus up to a tenth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Multiplied with `factor^failures`; 1 s by default.
    pub base: Duration,
    /// 1 to 100; 2 by default.
    pub factor: f64,
    /// The longest wait before jitter; an hour by default.
    pub cap: Duration,
    /// 0 to 1: the share of the wait that chance may add; 0.1 by default.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(3600),
            jitter: 0.1,
        }
    }
}

/// What a task chose; `None` means the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskOptions {
    /// 0 (most urgent) to 255; 5 by default.
    pub priority: Option<u8>,
    /// Failures after which the task is dead-lettered, 1 to 1000; 3 by default.
    pub max_attempts: Option<u32>,
    /// Waits between attempts.
    pub backoff: Option<Backoff>,
    /// Added to the priority at each retry, saturating at 255; 10 by default.
    pub retry_priority_step: Option<u8>,
    /// Not claimed earlier than this, in ms since the epoch of Redis' clock.
    pub not_before: Option<u64>,
    /// Not claimed earlier than this long after the enqueue.
    pub delay: Option<Duration>,
    /// Longest run of one attempt.
    pub timeout: Option<Duration>,
    /// Expired if not started by then, in ms since the epoch of Redis' clock.
    pub expires_at: Option<u64>,
    /// Expired if not started within this long of the enqueue.
    pub expires_in: Option<Duration>,
    /// How long the result stays; an hour by default, zero keeps none.
    pub retention: Option<Duration>,
    /// Single by default.
    pub task_type: TaskType,
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl TaskOptions {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the option and its range.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Invalid(text));
        if let Some(n) = self.max_attempts
            && !(1..=MAX_ATTEMPTS).contains(&n)
        {
            return wrong(format!("max_attempts must be 1 to {MAX_ATTEMPTS}, not {n}"));
        }
        if let Some(b) = &self.backoff {
            if !(1.0..=100.0).contains(&b.factor) {
                return wrong(format!("backoff factor must be 1 to 100, not {}", b.factor));
            }
            if !(0.0..=1.0).contains(&b.jitter) {
                return wrong(format!("backoff jitter must be 0 to 1, not {}", b.jitter));
            }
        }
        let (base, cap) = self.backoff.map_or((None, None), |b| (Some(b.base), Some(b.cap)));
        let spans = [
            ("delay", self.delay),
            ("timeout", self.timeout),
            ("expires_in", self.expires_in),
            ("retention", self.retention),
            ("backoff base", base),
            ("backoff cap", cap),
        ];
        for (name, span) in spans {
            if span.is_some_and(|d| millis(d) > MAX_DURATION_MS) {
                return wrong(format!("{name} must be at most ten years"));
            }
        }
        for (name, span) in [("timeout", self.timeout), ("expires_in", self.expires_in)] {
            if span.is_some_and(|d| millis(d) == 0) {
                return wrong(format!("{name} must be at least 1 ms"));
            }
        }
        for (name, at) in [("not_before", self.not_before), ("expires_at", self.expires_at)] {
            let range = if name == "expires_at" { 1 } else { 0 }..=1 << 52;
            if at.is_some_and(|ms| !range.contains(&ms)) {
                return wrong(format!("{name} must be milliseconds since 1970, up to the year 9999"));
            }
            // What came so would be run, or expire, at once; or never.
            let meant = match at {
                Some(seconds @ 1..LEAST_INSTANT_MS) => Some(("seconds", seconds, seconds * 1000)),
                Some(micros) if micros > MOST_INSTANT_MS => Some(("microseconds", micros, micros / 1000)),
                _ => None,
            };
            if let Some((unit, given, ms)) = meant {
                return wrong(format!(
                    "{name} must be milliseconds since 1970: {given} looks like {unit} (give {ms})"
                ));
            }
        }
        Ok(())
    }

    /// The text that the functions take and store: `priority=1 timeout=30000`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let mut whole = |name: &str, value: Option<u64>| {
            if let Some(n) = value {
                let gap = if text.is_empty() { "" } else { " " };
                text.push_str(&format!("{gap}{name}={n}"));
            }
        };
        whole("priority", self.priority.map(u64::from));
        whole("max_attempts", self.max_attempts.map(u64::from));
        whole("retry_priority_step", self.retry_priority_step.map(u64::from));
        whole("backoff_base", self.backoff.map(|b| millis(b.base)));
        whole("backoff_cap", self.backoff.map(|b| millis(b.cap)));
        whole("not_before", self.not_before);
        whole("delay", self.delay.map(millis));
        whole("timeout", self.timeout.map(millis));
        whole("expires_at", self.expires_at);
        whole("expires_in", self.expires_in.map(millis));
        whole("retention", self.retention.map(millis));
        if let Some(b) = self.backoff {
            text.push_str(&format!(
                " backoff_factor={:.3} backoff_jitter={:.3}",
                b.factor, b.jitter
            ));
        }
        if self.task_type != TaskType::Single {
            let gap = if text.is_empty() { "" } else { " " };
            text.push_str(&format!("{gap}type={}", self.task_type.as_str()));
        }
        text
    }

    /// Reads what [`Self::encode`] or a function wrote. Unknown names are passed over: a newer
    /// producer may know more.
    #[must_use]
    pub fn decode(text: &str) -> Self {
        let mut options = Self::default();
        let mut backoff = Backoff::default();
        let mut has_backoff = false;
        for (name, value) in text.split(' ').filter_map(|token| token.split_once('=')) {
            let whole = value.parse::<u64>().ok();
            let span = whole.map(Duration::from_millis);
            has_backoff |= name.starts_with("backoff_");
            match name {
                "priority" => options.priority = value.parse().ok(),
                "max_attempts" => options.max_attempts = value.parse().ok(),
                "retry_priority_step" => options.retry_priority_step = value.parse().ok(),
                "backoff_base" => backoff.base = span.unwrap_or(backoff.base),
                "backoff_cap" => backoff.cap = span.unwrap_or(backoff.cap),
                "backoff_factor" => backoff.factor = value.parse().unwrap_or(backoff.factor),
                "backoff_jitter" => backoff.jitter = value.parse().unwrap_or(backoff.jitter),
                "not_before" => options.not_before = whole,
                "delay" => options.delay = span,
                "timeout" => options.timeout = span,
                "expires_at" => options.expires_at = whole,
                "expires_in" => options.expires_in = span,
                "retention" => options.retention = span,
                "type" => options.task_type = TaskType::parse(value).unwrap_or_default(),
                _ => {}
            }
        }
        options.backoff = has_backoff.then_some(backoff);
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_chosen_encodes_to_nothing() {
        assert_eq!(TaskOptions::default().encode(), "");
    }

    #[test]
    fn seconds_are_not_taken_for_milliseconds() {
        let at = |ms| TaskOptions {
            not_before: Some(ms),
            ..TaskOptions::default()
        };
        let error = at(1_795_955_940).validate().unwrap_err().to_string();
        assert!(
            error.contains("1795955940 looks like seconds (give 1795955940000)"),
            "{error}"
        );
        for ms in [0, 1_795_955_940_000] {
            assert!(at(ms).validate().is_ok(), "{ms}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let options = TaskOptions {
            priority: Some(0),
            max_attempts: Some(7),
            backoff: Some(Backoff {
                jitter: 0.5,
                ..Backoff::default()
            }),
            timeout: Some(Duration::from_millis(1500)),
            retention: Some(Duration::ZERO),
            task_type: TaskType::Map,
            ..TaskOptions::default()
        };
        assert_eq!(TaskOptions::decode(&options.encode()), options);
    }
}
