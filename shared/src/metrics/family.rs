//! The table of families: the only place that names one.
//!
//! Invariant: names follow Prometheus' conventions: base units, `_total` for counters.

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
    /// Its labels are the message.
    Info,
}

impl Form {
    /// The name that Prometheus gives it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// Who shows a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Read from Redis: `workyard metrics` for all queues, a daemon for those that it serves.
    Queue,
    /// Read from Redis by `workyard metrics` only.
    Installation,
    /// Counted by a daemon of itself.
    Daemon,
}

/// A metric family.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name as Prometheus stores it; a histogram's without `_bucket`, `_sum`, `_count`.
    pub name: &'static str,
    /// What it is.
    pub form: Form,
    /// Who shows it.
    pub source: Source,
    /// Its labels, in the order in which samples give them.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Family {
    /// The name without what the form adds.
    #[must_use]
    pub fn base(&self) -> &'static str {
        let name = self.name;
        match self.form {
            Form::Counter => name.strip_suffix("_total").unwrap_or(name),
            Form::Info => name.strip_suffix("_info").unwrap_or(name),
            Form::Gauge | Form::Histogram => name,
        }
    }
}

const fn family(
    name: &'static str,
    form: Form,
    source: Source,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        form,
        source,
        labels,
        help,
    }
}

/// Declares each family as a name of [`Family`] and lists all of them.
macro_rules! families {
    ($($ident:ident = $name:literal $form:ident $source:ident [$($label:literal),*] $help:literal;)*) => {
        impl Family {
            $(#[doc = $help]
            pub const $ident: &'static Self = &family($name, Form::$form, Source::$source, &[$($label),*], $help);)*
        }

        /// Every family.
        pub static FAMILIES: [&Family; [$($name),*].len()] = [$(Family::$ident),*];
    };
}

families! {
    QUEUE_EVENTS = "workyard_queue_events_total" Counter Queue ["queue", "event"]
        "What happened in a queue since its beginning, by event: how tasks came, ended and moved back, as the functions count it";
    KIND_EVENTS = "workyard_kind_events_total" Counter Queue ["queue", "kind", "event"]
        "The same by kind, where the functions count by kind; zeros are left out";
    QUEUE_TASKS = "workyard_queue_tasks" Gauge Queue ["queue", "state"]
        "Tasks in each state, of all kinds; inbox: raw items that wait to be ingested";
    QUEUE_RESULTS = "workyard_queue_results" Gauge Queue ["queue"]
        "Results that are still kept";
    QUEUE_OLDEST = "workyard_queue_oldest_pending_age_seconds" Gauge Queue ["queue"]
        "How long the oldest pending task of a queue has been so, of whatever kind; 0: none is pending";
    QUEUE_CONSUMERS = "workyard_queue_consumers" Gauge Queue ["queue"]
        "Consumers whose session lease lives";
    QUEUE_PARKED = "workyard_queue_parked_consumers" Gauge Queue ["queue"]
        "Of these, those that wait for work";
    QUEUE_PAUSED = "workyard_queue_paused" Gauge Queue ["queue"]
        "1: nothing is handed out";
    QUEUE_LIMIT = "workyard_queue_max_pending_tasks" Gauge Queue ["queue"]
        "The setting max_pending; 0: no limit";
    QUEUE_JOBS = "workyard_queue_jobs" Gauge Queue ["queue", "state"]
        "Map-reduce jobs in each state, of the newest hundred of a queue; the event jobs_failed counts all";
    QUEUE_CIRCUITS = "workyard_queue_consumers_by_circuit" Gauge Installation ["queue", "circuit"]
        "Consumers by the state of their circuit, as they report it themselves";
    QUEUE_HEALTH = "workyard_queue_lowest_health_score" Gauge Installation ["queue"]
        "The lowest health score among the consumers of a queue, 0 to 1";
    REDIS_UP = "workyard_redis_up" Gauge Queue []
        "1: Redis answered this scrape";
    REDIS_MEMORY = "workyard_redis_memory_used_bytes" Gauge Queue []
        "Memory that Redis uses";
    REDIS_MEMORY_MAX = "workyard_redis_memory_max_bytes" Gauge Queue []
        "The limit of that memory; 0: none";
    REDIS_PERSISTENCE = "workyard_redis_persistence_ok" Gauge Queue []
        "0: the last snapshot or the last write of the append-only file failed";
    REDIS_SCRIPT_CALLS = "workyard_redis_script_calls_total" Counter Queue []
        "Calls of functions since the start of Redis, of everybody who uses it";
    REDIS_SCRIPT_SECONDS = "workyard_redis_script_seconds_total" Counter Queue []
        "Time that Redis spent in them";
    BUILD = "workyard_build_info" Info Daemon ["version"]
        "The version of the daemon";
    UPTIME = "workyard_consumer_uptime_seconds" Gauge Daemon []
        "Time since the start of the daemon";
    SLOTS = "workyard_consumer_slots" Gauge Daemon []
        "Tasks that the daemon runs at once";
    RUNNING = "workyard_consumer_running_tasks" Gauge Daemon []
        "Slots in use";
    DRAINING = "workyard_consumer_draining" Gauge Daemon []
        "1: it claims no more and ends when its tasks have";
    LAG = "workyard_consumer_loop_lag_seconds" Gauge Daemon []
        "How late the runtime is that runs the tasks";
    RELOADS = "workyard_consumer_reloads_total" Counter Daemon ["outcome"]
        "Reloads of the configuration, by outcome";
    RUNS = "workyard_consumer_runs_total" Counter Daemon ["queue", "kind", "outcome"]
        "Runs that came to an end here, by outcome";
    RUN = "workyard_consumer_run_seconds" Histogram Daemon ["queue", "kind"]
        "Run times of tasks that completed or failed";
    WAIT = "workyard_consumer_wait_seconds" Histogram Daemon ["queue", "kind"]
        "From when a task could first run to its first claim, by the clock of Redis; first attempts only";
    CLAIMED = "workyard_consumer_claimed_tasks_total" Counter Daemon ["queue", "kind"]
        "Tasks that went from pending to this daemon: each claim that brought one counts, so a retry does again";
    KIND_RUNNING = "workyard_consumer_kind_running_tasks" Gauge Daemon ["queue", "kind"]
        "Tasks of a kind that this daemon runs; the sum over all daemons is what runs of it";
    PROMOTED = "workyard_consumer_promoted_tasks_total" Counter Daemon ["queue"]
        "Tasks that this daemon moved from scheduled to pending because they were due; those of all daemons are the event promoted";
    INGESTED = "workyard_consumer_ingested_tasks_total" Counter Daemon ["queue"]
        "Raw items of the inbox that this daemon made tasks of";
    CLAIM = "workyard_consumer_claim_tasks" Histogram Daemon ["queue"]
        "Tasks that a claim brought; claims that brought none are left out";
    SETTLE = "workyard_consumer_settle_tasks" Histogram Daemon ["queue"]
        "Outcomes settled with one call";
    CALL = "workyard_consumer_redis_call_seconds" Histogram Daemon ["call"]
        "Round trips to Redis: claim and settle wait also for what stands before them";
    ERRORS = "workyard_consumer_redis_errors_total" Counter Daemon ["error"]
        "Calls that Redis did not answer, or refused, by reason";
    LEASES_LOST = "workyard_consumer_leases_lost_total" Counter Daemon ["queue"]
        "Session leases that ended while the daemon lived: its tasks went to others";
    STALE = "workyard_consumer_stale_writes_total" Counter Daemon ["queue"]
        "Outcomes that were refused because the task was not this consumer's any more";
    REFUSED = "workyard_consumer_refused_tasks_total" Counter Daemon ["queue"]
        "Tasks, and steps of jobs, that were dead-lettered before anything of them ran: not sealed or signed as this consumer asks for";
    HEALTH = "workyard_consumer_health_score" Gauge Daemon ["queue"]
        "Health of this consumer, 0 to 1: see docs/balancing.md";
    LOAD = "workyard_consumer_load_score" Gauge Daemon ["queue"]
        "Load of this consumer: see docs/balancing.md";
    CIRCUIT = "workyard_consumer_circuit_state" Gauge Daemon ["queue", "state"]
        "1 for the state in which its circuit is";
    BREAKER = "workyard_consumer_breaker_open" Gauge Daemon ["queue", "kind"]
        "1: the kind fails everywhere and its tasks wait; closed breakers are left out";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        for (i, family) in FAMILIES.iter().enumerate() {
            let name = family.name;
            assert!(name.starts_with("workyard_"), "{name}");
            assert_eq!(name.ends_with("_total"), family.form == Form::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), family.form == Form::Info, "{name}");
            let is_base =
                |word: &str| !["ms", "us", "ns", "milliseconds", "minutes", "kb", "mb", "percent"].contains(&word);
            assert!(name.split('_').all(is_base), "{name} is not in base units");
            assert!(
                FAMILIES[..i].iter().all(|other| other.name != name),
                "{name} stands twice"
            );
        }
    }
}
