//! Arguments of the commands on tasks that exist.
//!
//! Invariant: ids, states and cursors are valid after parsing. Nothing here acts.

use std::time::Duration;

use clap::{Args, ValueEnum};
use workyard_producer::{Cursor, Filter, Kind, PurgePlace, State, TaskId};

use crate::cli::value;

/// Arguments of `task`.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The task's id
    #[arg(value_parser = value::named::<TaskId>)]
    pub(crate) id: TaskId,
    /// Write only the payload, byte for byte
    #[arg(long, conflicts_with = "result")]
    pub(crate) payload: bool,
    /// Write only the result, byte for byte
    #[arg(long)]
    pub(crate) result: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The task's id
    #[arg(value_parser = value::named::<TaskId>)]
    pub(crate) id: TaskId,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The task's id
    #[arg(value_parser = value::named::<TaskId>)]
    pub(crate) id: TaskId,
    /// Give up after this long; the task goes on [default: never]
    #[arg(long, value_parser = value::span, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

/// Which tasks.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Only tasks in this state: scheduled, pending, running, retrying, completed, failed, cancelled, expired
    #[arg(long, value_parser = value::state, value_name = "STATE")]
    pub(crate) state: Option<State>,
    /// Only tasks of this kind
    #[arg(long, value_parser = value::named::<Kind>, value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Only tasks whose last error contains this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
}

impl FilterArgs {
    /// The library's filter.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            state: self.state,
            kind: self.kind.clone(),
            error: self.error.clone(),
        }
    }
}

/// Arguments of `results`.
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// Show ends as they happen
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Most tasks to show [default: 20; with --follow: no end]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "N")]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Most tasks to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000), value_name = "N")]
    pub(crate) limit: u64,
    /// Where the page before ended
    #[arg(long, value_parser = value::named::<Cursor>, value_name = "CURSOR", conflicts_with = "offset")]
    pub(crate) cursor: Option<Cursor>,
    /// Pass over this many tasks first
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) offset: u64,
}

/// Some tasks: by their ids, or all that the filters admit.
#[derive(Debug, Args)]
pub(crate) struct SomeArgs {
    /// Ids of tasks
    #[arg(required_unless_present = "all", conflicts_with_all = ["all", "state", "kind", "error", "yes"], value_parser = value::named::<TaskId>, value_name = "ID")]
    pub(crate) ids: Vec<TaskId>,
    /// Every task of the queue that the filters admit, but no step of a job
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Do it to all of them; without this, only say how many there are
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Ids of dead letters
    #[arg(required_unless_present = "all", conflicts_with_all = ["all", "state", "kind", "error"], value_parser = value::named::<TaskId>, value_name = "ID")]
    pub(crate) ids: Vec<TaskId>,
    /// Every dead letter of the queue that the filters admit
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// What `purge` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlaceArg {
    /// Tasks that wait for a consumer
    Pending,
    /// Delayed tasks and retries
    Scheduled,
    /// Dead letters
    Failed,
    /// Results
    Results,
    /// Raw items (RPUSH) that no consumer has taken in yet
    Inbox,
}

impl From<PlaceArg> for PurgePlace {
    fn from(place: PlaceArg) -> Self {
        match place {
            PlaceArg::Pending => Self::Pending,
            PlaceArg::Scheduled => Self::Scheduled,
            PlaceArg::Failed => Self::Failed,
            PlaceArg::Results => Self::Results,
            PlaceArg::Inbox => Self::Inbox,
        }
    }
}

/// Arguments of `purge`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// What to remove
    #[arg(value_enum)]
    pub(crate) place: PlaceArg,
    /// Do it; without this, only say how many would go
    #[arg(long)]
    pub(crate) yes: bool,
}
