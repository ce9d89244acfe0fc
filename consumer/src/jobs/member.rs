//! Runs one map or reduce task of a job.
//!
//! Invariant: what it returns is the whole output, stored or spilled by then; whether it counts is decided by
//! the function that settles it. What a run spilled that does not count is removed by the book.

use std::sync::Arc;

use bytes::Bytes;
use workyard_shared::job::{Chunk, Member, Part};
use workyard_shared::name::JobId;

use super::book::{JobBook, JobView};
use super::patient::patiently;
use super::sealing::Sealing;
use super::{inputs, output};
use crate::context::Context;
use crate::handler::Failure;
use crate::stage;

/// How a task of a job ended.
pub(crate) enum MemberEnd {
    /// With this output.
    Parts(Vec<(u32, Part)>),
    /// With a failure.
    Failed(Failure),
    /// The job is over or gone: there is nothing to do.
    Unwanted,
}

/// A task of a job, ready to run.
#[derive(Clone)]
pub(crate) struct MemberTask {
    pub(crate) book: Arc<JobBook>,
    pub(crate) job: JobId,
    pub(crate) epoch: u64,
    pub(crate) member: Member,
    pub(crate) sealing: Sealing,
}

impl MemberTask {
    /// Runs it.
    pub(crate) async fn run(self, ctx: Context, payload: Bytes) -> MemberEnd {
        let (view, _running) = self.book.begin(&self.job, self.epoch, self.member, ctx.cancellation());
        match self.try_run(&view, ctx, &payload).await {
            Ok(end) => end,
            Err(failure) => MemberEnd::Failed(failure),
        }
    }

    async fn try_run(&self, view: &Arc<JobView>, ctx: Context, payload: &Bytes) -> Result<MemberEnd, Failure> {
        let (queue, stages, stop) = (&self.book.queue, &self.book.stages, ctx.cancellation().clone());
        // Of another start of the job, this task is a stranger.
        let record = patiently(&stop, || view.record(queue)).await?;
        let Some(record) = record.filter(|record| record.epoch == self.epoch) else {
            return Ok(MemberEnd::Unwanted);
        };
        let sealed = self.sealing.of_job(queue.name(), &self.job, &record.spec, &ctx);
        let spec = sealed.arguments()?;
        let spec = spec.as_ref();
        let combiner_missing = spec.combine.as_ref().is_some_and(|f| !stages.knows(f.kind.as_str()));
        if combiner_missing && self.member.is_map() {
            let kind = spec.combine.as_ref().map_or("", |function| function.kind.as_str());
            return Err(Failure::elsewhere(format!(
                "this consumer has no function {kind}, the job's combiner"
            )));
        }
        let token = ctx.fencing_token().to_owned();
        let is_result = inputs::is_result(&record, self.member);
        let lines = if let Member::Map { chunk, .. } = self.member {
            let chunk: Chunk = serde_json::from_slice(&sealed.chunk(chunk, payload)?)
                .map_err(|e| Failure::fatal(format!("the description of the chunk cannot be read: {e}")))?;
            stage::run_map(stages, spec, ctx.clone(), chunk).await?
        } else {
            let inputs = inputs::fetch(&self.book, &self.job, &record, self.member, &sealed, &stop).await?;
            let Some(inputs) = inputs else {
                return Ok(MemberEnd::Unwanted);
            };
            patiently(&stop, || queue.job_reducing(&self.job)).await?;
            vec![(
                0,
                stage::run_reduce(stages, spec, ctx.clone(), inputs, is_result).await?,
            )]
        };
        let place = output::Place {
            view,
            spec,
            allowed: &self.book.spill,
            member: self.member,
            keys: queue.keys(),
            is_result,
            token: &token,
            stop: &stop,
            sealed: &sealed,
        };
        Ok(MemberEnd::Parts(place.put(lines).await?))
    }
}
