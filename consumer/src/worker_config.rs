//! What a worker does and how much of it: settings of the library, checked before anything starts.

use std::time::Duration;

use workyard_shared::Error;
use workyard_shared::http::Address;
use workyard_shared::link::LinkConfig;
use workyard_shared::name::{Prefix, QueueName};

use crate::config::JobsConfig;
use crate::protection::Protection;
use crate::slots::QueueOrder;

/// Most tasks claimed ahead of free slots.
pub(crate) const DEFAULT_PREFETCH: usize = 1900;

/// What a worker does and how much of it.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How to reach Redis.
    pub link: LinkConfig,
    /// What the installation's keys begin with.
    pub prefix: Prefix,
    /// Queues in order, each with its weight (used by [`QueueOrder::Weighted`]).
    pub queues: Vec<(QueueName, usize)>,
    /// How the queues share the slots.
    pub order: QueueOrder,
    /// Tasks at once; twice the cores, at least 4, by default.
    pub concurrency: usize,
    /// How long a silent consumer keeps its tasks; 3 s by default.
    pub lease: Duration,
    /// Pause between looks for work that nobody announced; 5 s by default, with jitter.
    pub poll: Duration,
    /// How long running tasks may take to finish after a stop; 30 s by default.
    pub drain_timeout: Duration,
    /// Most tasks claimed ahead of free slots, when tasks are short; 1,900 by default.
    pub prefetch: usize,
    /// What map-reduce jobs may read, and where they may spill; nothing by default.
    pub jobs: JobsConfig,
    /// Keys, and which tasks must be sealed or signed; nothing by default.
    pub protection: Protection,
    /// Whether CPU and memory of the host count for its health and its adaptive limits; true by default. They are those of
    /// the cgroup if its CPU is limited, else of the whole machine: say false where others use most of that.
    pub watch_host: bool,
    /// Stop when all queues are empty and nothing runs or waits for its time or a retry, here or with another consumer. A paused
    /// queue with tasks is not empty. The log says what it waits for, once and then every ten minutes.
    pub until_empty: bool,
    /// Start also on a Redis that may evict tasks.
    pub allow_eviction: bool,
    /// Where health and metrics are served by HTTP; nowhere by default.
    pub http: Option<Address>,
    /// Tell systemd how it goes, if `NOTIFY_SOCKET` says where; off by default, the daemon does.
    pub notify: bool,
    /// What the consumer's id begins with; the host's name by default.
    pub name: String,
}

impl WorkerConfig {
    /// A worker of one queue with every default.
    #[must_use]
    pub fn new(link: LinkConfig, queue: QueueName) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            link,
            prefix: Prefix::default(),
            queues: vec![(queue, 1)],
            order: QueueOrder::default(),
            concurrency: (2 * cores).max(4),
            lease: Duration::from_secs(3),
            poll: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            prefetch: DEFAULT_PREFETCH,
            jobs: JobsConfig::default(),
            protection: Protection::default(),
            watch_host: true,
            until_empty: false,
            allow_eviction: false,
            http: None,
            notify: false,
            name: host_name(),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let invalid = |text: &str| Err(Error::Invalid(text.to_owned()));
        if self.queues.is_empty() {
            return invalid("a worker needs at least one queue");
        }
        if self
            .queues
            .iter()
            .enumerate()
            .any(|(i, (name, _))| self.queues[..i].iter().any(|(other, _)| other == name))
        {
            return invalid("a queue stands twice in the list of queues");
        }
        if self.queues.iter().any(|(_, weight)| *weight == 0) {
            return invalid("the weight of a queue must be at least 1");
        }
        if self.concurrency == 0 || self.concurrency > 100_000 {
            return invalid("concurrency must be 1 to 100000");
        }
        if self.lease < Duration::from_millis(300) || self.lease > Duration::from_secs(3600) {
            return invalid("lease must be 300ms to 1h");
        }
        self.protection.validate()
    }
}

/// The name of this host, as far as it fits into a consumer's id.
fn host_name() -> String {
    let name = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    name.unwrap_or_default().trim().to_owned()
}
