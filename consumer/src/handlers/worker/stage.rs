//! A worker as a map, combine or reduce function of a job: its items in one array, what it emits
//! in another.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::WorkerHandler;
use super::protocol::Call;
use crate::stage::blocking::by_length;
use crate::stage::{MAX_BYTES, lines_of_array};
use crate::{BoxFuture, Failure, Stage, StageContext, StageInput};

impl Stage for WorkerHandler {
    fn run(&self, ctx: StageContext, input: StageInput) -> BoxFuture<Result<Vec<u8>, Failure>> {
        let pool = Arc::clone(&self.pool);
        Box::pin(async move {
            let call = Call {
                stage: ctx.role.as_str(),
                form: ctx.form.as_str(),
                args: RawValue::from_string(ctx.args.clone())
                    .map_err(|error| Failure::fatal(format!("the arguments are not JSON: {error}")))?,
                limit: usize::try_from(MAX_BYTES)?,
            };
            let task = ctx.task.clone();
            let payload = by_length(input.bytes(), move || input.into_json_array(&ctx)).await?;
            let result = pool.run(task, Some(Arc::new(call)), payload.into()).await?;
            by_length(result.len(), move || lines_of_array("the worker's result", &result)).await
        })
    }
}
