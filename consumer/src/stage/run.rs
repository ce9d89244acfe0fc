//! One map or reduce task, from its input to what is stored.
//!
//! Invariant: pairs leave here in the order of their keys, the values of one key in the order in
//! which they were emitted.

use std::sync::Arc;

use bytes::Bytes;
use workyard_shared::job::{Chunk, Form, Function, JobSpec};

use super::blocking::by_length;
use super::emitted;
use super::pairs::{self, Groups};
use super::{Role, Stage, StageContext, StageInput, Stages, lines, read};
use crate::context::Context;
use crate::handler::Failure;

/// Maps a chunk: partitions and their lines, without those that are empty; one part 0 in a fold.
///
/// # Errors
/// A [`Failure`] of the chunk, of the functions, or of what they emit.
pub(crate) async fn run_map(
    stages: &Stages,
    spec: &JobSpec,
    ctx: Context,
    chunk: Chunk,
) -> Result<Vec<(u32, Vec<u8>)>, Failure> {
    let mut map = Call::new(stages, spec, &spec.map, Role::Map, &ctx)?;
    let combine = spec
        .combine
        .as_ref()
        .map(|function| Call::new(stages, spec, function, Role::Combine, &ctx))
        .transpose()?;
    let (records, origin) = read::read(&stages.places, &map.ctx, chunk).await?;
    map.ctx.origin = Arc::new(origin);
    let emitted = map.run(StageInput::Chunk(records)).await?;
    let Form::Keyed { partitions } = spec.form else {
        return Ok(vec![(0, fold_parts(stages, spec, &ctx, emitted).await?)]);
    };
    let mut groups = map.group(vec![emitted.into()]).await?;
    if let Some(combine) = combine.filter(|_| !groups.is_empty()) {
        let combined = combine.run_for_map(StageInput::Groups(groups)).await?;
        groups = combine.group(vec![combined.into()]).await?;
    }
    by_length(groups.bytes(), move || Ok(groups.into_partitions(partitions))).await
}

/// Reduces the outputs of children, given in the order of chunks: a sequence, or pairs in order.
///
/// Over nothing only the top of a tree is run, whose output is the result of the job: whatever a function makes of
/// nothing (`null`, a 0) would enter the tree elsewhere beside real values, and the result would depend on the size of
/// chunks. Associative is all that a reduce must be; nobody asks it for a neutral element. A keyed one has no key to be
/// called with.
///
/// # Errors
/// A [`Failure`] of the function, or of what it emits.
pub(crate) async fn run_reduce(
    stages: &Stages,
    spec: &JobSpec,
    ctx: Context,
    inputs: Vec<Bytes>,
    is_top: bool,
) -> Result<Vec<u8>, Failure> {
    let reduce = Call::new(stages, spec, &spec.reduce, Role::Reduce, &ctx)?;
    match spec.form {
        Form::Fold { .. } if !is_top && inputs.iter().all(Bytes::is_empty) => Ok(Vec::new()),
        Form::Fold { .. } => reduce.run(StageInput::Values(inputs)).await,
        Form::Keyed { .. } => {
            let groups = read_groups(inputs, "the maps' output".to_owned()).await?;
            if groups.is_empty() {
                return Ok(Vec::new());
            }
            let emitted = reduce.run(StageInput::Groups(groups)).await?;
            let by = reduce.source();
            by_length(emitted.len(), move || pairs::sorted(emitted, &by)).await
        }
    }
}

/// Folds what a map emitted before it is stored, if this consumer has the reduce function and it
/// allows that: the less is stored, the less every other reduce has to read.
async fn fold_parts(stages: &Stages, spec: &JobSpec, ctx: &Context, emitted: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match Call::new(stages, spec, &spec.reduce, Role::Reduce, ctx) {
        Ok(reduce) if reduce.stage.folds_parts() && lines::of(&emitted).nth(1).is_some() => {
            reduce.run_for_map(StageInput::Values(vec![emitted.into()])).await
        }
        _ => Ok(emitted),
    }
}

/// A function of the job, ready to run.
struct Call {
    stage: Arc<dyn Stage>,
    ctx: StageContext,
}

impl Call {
    fn new(stages: &Stages, spec: &JobSpec, function: &Function, role: Role, ctx: &Context) -> Result<Self, Failure> {
        let kind = function.kind.as_str();
        let stage = stages
            .find(kind)
            .ok_or_else(|| Failure::retry(format!("this consumer has no function {kind}")))?;
        let task = ctx.for_kind(kind);
        Ok(Self {
            stage,
            ctx: StageContext {
                task,
                role,
                form: spec.form,
                args: function.args.clone(),
                origin: Arc::default(),
            },
        })
    }

    async fn run(&self, input: StageInput) -> Result<Vec<u8>, Failure> {
        let mut out = self.stage.run(self.ctx.clone(), input).await?;
        emitted::check(&out)?;
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        Ok(out)
    }

    /// Runs it over what a map emitted; the task is the map's, so a failure says that it is not.
    async fn run_for_map(&self, input: StageInput) -> Result<Vec<u8>, Failure> {
        let ran = self.run(input).await;
        ran.map_err(|failure| Failure {
            message: format!(
                "{} of the map's output by {}: {}",
                self.ctx.role.as_str(),
                self.ctx.task.kind(),
                failure.message
            ),
            ..failure
        })
    }

    /// Who wrote an output, for messages.
    fn source(&self) -> String {
        format!("the output of {}", self.ctx.task.kind())
    }

    async fn group(&self, texts: Vec<Bytes>) -> Result<Groups, Failure> {
        read_groups(texts, self.source()).await
    }
}

async fn read_groups(texts: Vec<Bytes>, by: String) -> Result<Groups, Failure> {
    let bytes = texts.iter().map(Bytes::len).sum();
    by_length(bytes, move || Groups::read(texts, &by)).await
}
