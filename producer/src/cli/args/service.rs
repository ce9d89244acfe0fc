//! Arguments of the commands on queues, servers and the program itself.
//!
//! Nothing here acts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use workyard_producer::{QueueName, Setting};

use workyard_shared::acl::Role;
use workyard_shared::http::Address;
use workyard_shared::name::UserName;

use crate::cli::value;

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Show what happened in each minute of the last 24 hours
    #[arg(long)]
    pub(crate) minutes: bool,
}

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Serve them at http://ADDR/metrics until a signal, instead of printing them once
    #[arg(long, value_parser = value::named::<Address>, value_name = "ADDR")]
    pub(crate) listen: Option<Address>,
    /// Print OpenMetrics instead of the older text format; a server gives what is asked for
    #[arg(long)]
    pub(crate) open_metrics: bool,
}

/// Arguments of `consumers`.
#[derive(Debug, Args)]
pub(crate) struct ConsumersArgs {
    /// Show them again and again, every second or as often as said, until Ctrl-C
    #[arg(long, num_args = 0..=1, default_missing_value = "1s", value_parser = value::pause, value_name = "EVERY")]
    pub(crate) watch: Option<Duration>,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// How often it looks
    #[arg(long, default_value = "1s", value_parser = value::pause, value_name = "EVERY")]
    pub(crate) every: Duration,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Mend what can be mended, and say what was
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Arguments of `rejected`.
#[derive(Debug, Args)]
pub(crate) struct RejectedArgs {
    /// Most items to show, newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000), value_name = "N")]
    pub(crate) limit: u64,
}

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Most acts to show of each queue, the newest of them
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000), value_name = "N")]
    pub(crate) limit: u64,
    /// Go on showing acts as they happen, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Arguments of `install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Print the library, as FUNCTION LOAD REPLACE takes it, and load nothing; no Redis is asked
    #[arg(long)]
    pub(crate) print: bool,
}

/// Arguments of `acl`.
#[derive(Debug, Args)]
pub(crate) struct AclArgs {
    /// What the user is there for: producer, consumer or operator
    #[arg(long, value_parser = value::named::<Role>, value_name = "ROLE")]
    pub(crate) role: Role,
    /// The user's name [default: workyard-ROLE]
    #[arg(long, value_parser = value::named::<UserName>, value_name = "NAME")]
    pub(crate) user: Option<UserName>,
    /// Only these queues; can be repeated [default: all]
    // Takes the place of the global option, which is for one queue.
    #[arg(id = "queue", long, short, value_parser = value::named::<QueueName>, value_name = "QUEUE")]
    pub(crate) queues: Vec<QueueName>,
    /// Let a producer ask for the disk (WAITAOF): only for Redis 7.2 and newer, older ones refuse the rule
    #[arg(long)]
    pub(crate) waitaof: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write workyard.1 and one page per command into this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// A queue that may stand without its flag.
#[derive(Debug, Args)]
pub(crate) struct QueueArg {
    /// The queue [default: that of --queue]
    #[arg(value_name = "QUEUE", value_parser = value::named::<QueueName>)]
    pub(crate) name: Option<QueueName>,
}

/// What to do with the settings of a queue.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueAction {
    /// Change settings: all of them, or none if one is wrong
    #[command(after_help = "Example:\n  workyard queue set emails max_pending=10000 overload=block")]
    Set {
        /// The queue
        #[arg(value_name = "QUEUE", value_parser = value::named::<QueueName>)]
        name: QueueName,
        /// paused, balance, max_pending, max_bytes, overload
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = value::named::<Setting>)]
        settings: Vec<Setting>,
    },
    /// Remove a queue in which nothing is left, such as one whose name was mistyped
    ///
    /// Refused while it has tasks (dead letters included), items in its inbox, jobs, or consumers that serve it.
    /// Settings, counters and results go with it; what operators did stays in `workyard audit` for 90 days.
    #[command(after_help = "Example:\n  workyard queue delete emials --yes")]
    Delete {
        /// The queue
        #[arg(value_name = "QUEUE", value_parser = value::named::<QueueName>)]
        name: QueueName,
        /// Do it: there is no way back
        #[arg(long)]
        yes: bool,
    },
    /// Show all settings
    #[command(after_help = "Example:\n  workyard queue show emails")]
    Show(QueueArg),
}

/// What to do with the managed Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum RedisAction {
    /// Start it, or join the one that runs
    Start,
    /// Stop it in an orderly way; its data stay
    Stop,
    /// Say whether it runs
    Status,
}
