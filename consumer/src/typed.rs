//! Rust functions as handlers: payload parsed, result written, by serde.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::handler::{BoxFuture, Failure, Handler, Outcome};
use crate::telemetry::carried;

fn parse<P: DeserializeOwned>(ctx: &Context, payload: &[u8]) -> Result<P, Failure> {
    // The same bytes would not fit next time either.
    serde_json::from_slice(payload).map_err(|e| {
        let why = match ctx.is_sealed() {
            false => e.to_string(),
            // Its text repeats a value.
            true => format!("line {} column {} (it is sealed, and not shown)", e.line(), e.column()),
        };
        Failure::fatal(format!("the payload does not fit the handler: {why}"))
    })
}

fn write<R: Serialize>(result: &R) -> Outcome {
    match serde_json::to_vec(result) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(e) => Err(Failure::fatal(format!("the result cannot be written as JSON: {e}"))),
    }
}

/// An async function.
pub(crate) struct Typed<P, R, F> {
    function: Arc<F>,
    types: PhantomData<fn(P) -> R>,
}

impl<P, R, F> Typed<P, R, F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function: Arc::new(function),
            types: PhantomData,
        }
    }
}

impl<P, R, F, Fut> Handler for Typed<P, R, F>
where
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Context, P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
{
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let payload = parse(&ctx, &payload)?;
            write(&function(ctx, payload).await?)
        })
    }
}

/// A blocking function, run on a thread of tokio's blocking pool.
pub(crate) struct Blocking<P, R, F> {
    function: Arc<F>,
    types: PhantomData<fn(P) -> R>,
}

impl<P, R, F> Blocking<P, R, F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function: Arc::new(function),
            types: PhantomData,
        }
    }
}

impl<P, R, F> Handler for Blocking<P, R, F>
where
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Context, P) -> Result<R, Failure> + Send + Sync + 'static,
{
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            // The context moves onto the thread and holds the slot until the function returns,
            // even when this future was dropped long before.
            let thread = tokio::task::spawn_blocking(carried(move || {
                let payload = parse(&ctx, &payload)?;
                write(&function(ctx, payload)?)
            }));
            match thread.await {
                Ok(outcome) => outcome,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => Err(Failure::retry(format!("the blocking thread ended: {error}"))),
                },
            }
        })
    }
}
