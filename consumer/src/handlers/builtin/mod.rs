//! `type = "builtin"`: small functions inside the daemon, for trials, tests and text jobs.
//!
//! | function | payload | result |
//! |---|---|---|
//! | `echo` | anything | the payload |
//! | `noop` | anything | `null` |
//! | `sleep` | `{"ms": N}` | `null`, after N milliseconds |
//! | `fail` | `{"times": N}` | fails while the attempt is at most N, then `null` |
//! | `word-count` | `{"path": P}` or `{"text": T}` | the number of words, as `wc -w` |
//! | `line-count` | the same | the number of newlines, as `wc -l` |
//! | `sha256` | the same | the digest, a string of hex digits |
//!
//! Paths are below the handler's `root`; links may not lead out of it.
//!
//! Invariant: reading happens on threads for blocking work, and stops soon after its attempt did.

mod fold;
mod source;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use workyard_shared::limits::MAX_DURATION_MS;

use self::fold::Fold;
use self::source::Source;
use super::interrupt::Interrupt;
use super::result::NULL;
use crate::config::{BuiltinConfig, Function};
use crate::{BoxFuture, Context, Failure, Handler, Outcome};

/// How much is read between two looks at whether the attempt still counts.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs a function inside the daemon; see the module's page.
#[derive(Debug, Clone)]
pub struct BuiltinHandler {
    config: BuiltinConfig,
    timeout: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    times: u32,
}

impl BuiltinHandler {
    /// A handler by `config`; `timeout` bounds each attempt on top of the task's own.
    #[must_use]
    pub fn new(config: BuiltinConfig, timeout: Option<Duration>) -> Self {
        Self { config, timeout }
    }
}

impl Handler for BuiltinHandler {
    fn run(&self, ctx: Context, payload: Bytes) -> BoxFuture<Outcome> {
        let Self { config, timeout } = self.clone();
        Box::pin(async move {
            let interrupt = Interrupt::start(&ctx, timeout);
            tokio::select! {
                outcome = perform(config, &ctx, payload) => outcome,
                failure = interrupt.fired() => Err(failure),
            }
        })
    }
}

async fn perform(config: BuiltinConfig, ctx: &Context, payload: Bytes) -> Outcome {
    match config.function {
        Function::Echo => Ok(payload),
        Function::Noop => Ok(NULL),
        Function::Sleep => {
            let Sleep { ms } = parse(&payload, r#"{"ms": N}"#)?;
            tokio::time::sleep(Duration::from_millis(ms.min(MAX_DURATION_MS))).await;
            Ok(NULL)
        }
        Function::Fail => {
            let Fail { times } = parse(&payload, r#"{"times": N}"#)?;
            if ctx.attempt() > times {
                return Ok(NULL);
            }
            Err(Failure::retry(format!(
                "fails {times} times, as asked; this was attempt {}",
                ctx.attempt()
            )))
        }
        Function::WordCount | Function::LineCount | Function::Sha256 => {
            read_text(config.function, config.root, payload).await
        }
    }
}

fn parse<T: DeserializeOwned>(payload: &[u8], form: &str) -> Result<T, Failure> {
    serde_json::from_slice(payload)
        .map_err(|error| Failure::fatal(format!("the payload must be {form}: {error}")))
}

async fn read_text(function: Function, root: Option<PathBuf>, payload: Bytes) -> Outcome {
    let Some(fold) = Fold::new(function) else {
        return Ok(NULL);
    };
    // A blocking thread cannot be cancelled from outside. The guard goes with this future, be it
    // dropped or done, and the thread looks at the token.
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let blocking = move || match source::open(&payload, root.as_deref())? {
        Source::Text(text) => read(text.as_bytes(), fold, &stop),
        Source::File(file) => read(file, fold, &stop),
    };
    tokio::task::spawn_blocking(blocking).await?
}

fn read(mut source: impl Read, mut fold: Fold, stop: &CancellationToken) -> Outcome {
    let mut chunk = vec![0; CHUNK_BYTES];
    while !stop.is_cancelled() {
        match source.read(&mut chunk) {
            Ok(0) => return Ok(fold.finish()),
            Ok(count) => fold.eat(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::retry("cancelled"))
}
