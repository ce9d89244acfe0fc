//! An address as a map, combine or reduce function of a job: its items in one array, what it emits
//! in another.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::interrupt::Interrupt;
use super::{DEFAULT_TIMEOUT, HttpHandler};
use crate::stage::blocking::by_length;
use crate::stage::{MAX_BYTES, lines_of_array};
use crate::{BoxFuture, Failure, Stage, StageContext, StageInput};

#[derive(Serialize)]
struct Request<'a> {
    stage: &'static str,
    form: &'static str,
    args: &'a RawValue,
    payload: &'a RawValue,
}

impl Stage for HttpHandler {
    fn run(&self, ctx: StageContext, input: StageInput) -> BoxFuture<Result<Vec<u8>, Failure>> {
        let this = self.clone();
        Box::pin(async move {
            let task = ctx.task.clone();
            let body = by_length(input.bytes(), move || request(&ctx, input)).await?;
            let unlimited = task.deadline().is_none().then_some(DEFAULT_TIMEOUT);
            let interrupt = Interrupt::start(&task, this.timeout.or(unlimited));
            let limit = usize::try_from(MAX_BYTES)?;
            let answer = tokio::select! {
                answer = this.exchange(&task, &interrupt, body.into(), limit) => answer?,
                failure = interrupt.fired() => return Err(failure),
            };
            by_length(answer.len(), move || lines_of_array("the answer", &answer)).await
        })
    }
}

fn request(ctx: &StageContext, input: StageInput) -> Result<Vec<u8>, Failure> {
    let payload = input.into_json_array(ctx)?;
    let raw = |json| serde_json::from_slice::<&RawValue>(json).map_err(|e| Failure::fatal(format!("not JSON: {e}")));
    let request = Request {
        stage: ctx.role.as_str(),
        form: ctx.form.as_str(),
        args: raw(ctx.args.as_bytes())?,
        payload: raw(&payload)?,
    };
    Ok(serde_json::to_vec(&request)?)
}
