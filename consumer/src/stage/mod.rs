//! Functions of map-reduce jobs: from a chunk or the outputs of others to JSON lines.
//!
//! docs/jobs.md says what map, combine and reduce are. A [`Stage`] is one such function, whoever
//! wrote it; [`Stages`] knows all of a consumer; [`run_map`] and [`run_reduce`] run one task.
//!
//! Invariant: nothing here knows Redis, and every output is whole lines, one JSON value each.

pub(crate) mod blocking;
pub(crate) mod builtin;
mod emitted;
mod input;
mod item;
pub(crate) mod lines;
mod objects;
mod origin;
mod pairs;
mod places;
mod read;
mod records;
mod run;
mod stages;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod values;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use workyard_shared::job::Form;
pub use workyard_shared::job::Role;

pub(crate) use emitted::Emitted;
pub use input::StageInput;
pub(crate) use input::lines_of_array;
pub use item::Item;
pub(crate) use objects::{Objects, failed};
pub(crate) use origin::Origin;
pub(crate) use pairs::Group;
pub use pairs::Groups;
pub(crate) use places::Places;
pub use records::{CsvText, FileText, Records};
pub(crate) use run::{run_map, run_reduce};
pub(crate) use stages::Stages;

use crate::context::Context;
use crate::handler::{BoxFuture, Failure};

/// Most bytes that one chunk, or one output, may have in memory.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// One run of a function, as it sees it.
#[derive(Debug, Clone)]
pub struct StageContext {
    /// The task; its kind is that of the function.
    pub task: Context,
    /// What is asked of the function.
    pub role: Role,
    /// The form of the job.
    pub form: Form,
    /// The function's arguments, a JSON object.
    pub args: String,
    /// Where the items of a map's chunk come from.
    pub(crate) origin: Arc<Origin>,
}

impl StageContext {
    /// The arguments as a type.
    ///
    /// # Errors
    /// A [`Failure`] for good: they will not fit next time either.
    pub fn parse_args<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        workyard_shared::job::builtin::parse(self.task.kind(), self.role, &self.args).map_err(Failure::fatal)
    }

    /// Whether the job is of the keyed form.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        matches!(self.form, Form::Keyed { .. })
    }

    /// A failure for good of a function that is used for what it cannot do.
    pub(crate) fn misuse(&self, reason: &str) -> Failure {
        Failure::fatal(format!(
            "{} cannot {} in the {} form: {reason}",
            self.task.kind(),
            self.role.as_str(),
            self.form.as_str()
        ))
    }

    /// An error when the task was cancelled; functions ask between two items.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.task.is_cancelled() {
            return Err(Failure::retry("cancelled"));
        }
        Ok(())
    }
}

/// One function of jobs.
///
/// Most are registered as typed functions, see [`crate::Registry::map`] and those beside it.
pub trait Stage: Send + Sync + 'static {
    /// Runs it over a whole input. The output is JSON lines: each value on one line, with a line
    /// feed behind it. In the keyed form each value is a pair, `["key",value]`. Dropping the future cancels.
    ///
    /// # Errors
    /// A [`Failure`] says why the attempt failed and whether another may help.
    fn run(&self, ctx: StageContext, input: StageInput) -> BoxFuture<Result<Vec<u8>, Failure>>;

    /// Whether reducing a part of a sequence first, in place, gives the same as reducing the whole:
    /// then a map's output is folded before it is stored.
    fn folds_parts(&self) -> bool {
        false
    }
}
