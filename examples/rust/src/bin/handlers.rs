//! A worker with three handlers in Rust: async, blocking, and one that says how it is to be retried.
//!
//! `cargo run --bin example-handlers` works until SIGTERM; it finds Redis by `WORKYARD_REDIS_URL`. Then, elsewhere,
//! `workyard enqueue thumbnail '{"image":"cat.png","width":64}' -q examples --wait`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use workyard_consumer::{Context, Failure, LinkConfig, QueueName, Registry, Worker, WorkerConfig};

/// The payload of a `thumbnail`: what does not fit this type fails for good, with the reason.
#[derive(Deserialize)]
struct Thumbnail {
    image: String,
    width: u32,
}

/// Its result, kept for an hour unless the task says otherwise.
#[derive(Serialize)]
struct Made {
    file: String,
    attempt: u32,
}

async fn thumbnail(ctx: Context, payload: Thumbnail) -> Result<Made, Failure> {
    if payload.width == 0 {
        // No further attempt can help.
        return Err(Failure::fatal("a thumbnail needs a width"));
    }
    ctx.progress("scaling").await?;
    Ok(Made {
        file: format!("{}-{}.png", payload.image.trim_end_matches(".png"), payload.width),
        attempt: ctx.attempt(),
    })
}

/// Blocks a thread of its own, not the others' runtime, and looks now and then whether it is still wanted.
fn sum(ctx: &Context, numbers: &[i64]) -> Result<i64, Failure> {
    let mut total = 0_i64;
    for number in numbers {
        if ctx.is_cancelled() {
            return Err(Failure::retry("cancelled"));
        }
        total = total
            .checked_add(*number)
            .ok_or_else(|| Failure::fatal("the sum is too large"))?;
    }
    Ok(total)
}

/// Fails once, and says itself when to come again; the slot is free meanwhile.
async fn moody(ctx: Context, (): ()) -> Result<&'static str, Failure> {
    match ctx.attempt() {
        1 => Err(Failure::retry_after("not now", Duration::from_millis(200))),
        _ => Ok("fine"),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.register("thumbnail", thumbnail)?;
    registry.register_blocking("sum", |ctx, numbers: Vec<i64>| sum(&ctx, &numbers))?;
    registry.register("moody", moody)?;

    let url = std::env::var("WORKYARD_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379/".to_owned());
    let config = WorkerConfig::new(LinkConfig::from_url(&url)?, QueueName::new("examples")?);
    // SIGTERM: claim no more, finish what runs, hand back the rest.
    Worker::new(config, registry)?.serve().await?;
    Ok(())
}
