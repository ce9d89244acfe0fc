//! Keys between the functions of a job and what is stored of it.
//!
//! Invariant: of a step that reads something sealed, all that it makes goes sealed to Redis and to the spill place, its error
//! texts too. A step of a job without keys costs the comparison of a few bytes per input.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use workyard_shared::crypto::job::{JobBinding, has_sealed_arguments, open_arguments, open_chunk, open_output};
use workyard_shared::crypto::{KeyRing, Unopened, is_sealed};
use workyard_shared::job::{JobSpec, OutputName};
use workyard_shared::name::{JobId, QueueName};

use crate::context::Context;
use crate::handler::Failure;
use crate::protection::Protection;
use crate::stage::blocking::by_length;

/// What a step may open, and must find sealed.
#[derive(Debug, Clone)]
pub(crate) struct Sealing {
    keys: Option<Arc<KeyRing>>,
    required: bool,
    /// Known when the step has opened something.
    binding: Arc<OnceLock<JobBinding>>,
}

impl Sealing {
    pub(crate) fn of(protection: &Protection) -> Self {
        Self {
            keys: protection.keys.clone(),
            required: protection.require_sealed,
            binding: Arc::default(),
        }
    }

    /// For a step of this job.
    pub(super) fn of_job<'a>(
        &'a self,
        queue: &'a QueueName,
        job: &'a JobId,
        spec: &'a JobSpec,
        ctx: &'a Context,
    ) -> SealedJob<'a> {
        SealedJob {
            sealing: self,
            of: (queue, job, spec),
            ctx,
            plain: AtomicBool::new(false),
        }
    }

    /// What a failed step says, as it may be stored: a function's words may repeat what it has read.
    pub(crate) fn error(&self, ctx: &Context, error: String) -> String {
        if !ctx.is_sealed() {
            return error;
        }
        let (Some(keys), Some(binding)) = (&self.keys, self.binding.get()) else {
            return error;
        };
        let sealed = keys.seal_error(binding, &error);
        sealed.unwrap_or_else(|why| format!("it failed, and its words cannot be sealed: {why}"))
    }
}

/// One job whose step runs here.
pub(super) struct SealedJob<'a> {
    sealing: &'a Sealing,
    of: (&'a QueueName, &'a JobId, &'a JobSpec),
    /// Told when something was opened: what the step says before is our own words.
    ctx: &'a Context,
    /// An input was plain.
    plain: AtomicBool,
}

impl SealedJob<'_> {
    fn keys(&self) -> Option<&KeyRing> {
        self.sealing.keys.as_deref()
    }

    /// Made when it is needed first: most jobs are not sealed.
    fn binding(&self) -> &JobBinding {
        let (queue, job, spec) = self.of;
        self.sealing.binding.get_or_init(|| JobBinding::new(queue, job, spec))
    }

    /// The job's description, its arguments opened.
    pub(super) fn arguments(&self) -> Result<Cow<'_, JobSpec>, Failure> {
        let (_, _, spec) = self.of;
        if has_sealed_arguments(spec) {
            let mut opened = spec.clone();
            open_arguments(self.keys(), self.binding(), &mut opened)
                .map_err(|why| refused("its arguments are", &why))?;
            self.ctx.has_opened();
            return Ok(Cow::Owned(opened));
        }
        let mut functions = [Some(&spec.map), spec.combine.as_ref(), Some(&spec.reduce)]
            .into_iter()
            .flatten();
        match self.sealing.required && functions.any(|function| function.args != "{}") {
            true => Err(plain("arguments")),
            false => Ok(Cow::Borrowed(spec)),
        }
    }

    /// The description of a chunk.
    pub(super) fn chunk(&self, number: u64, payload: &Bytes) -> Result<Bytes, Failure> {
        if !is_sealed(payload) {
            if self.ctx.is_sealed() {
                return Err(mixed());
            }
            return self.plain_input("chunk", payload.clone());
        }
        let opened = open_chunk(self.keys(), self.binding(), number, payload);
        let opened = opened.map_err(|why| refused("its chunk is", &why))?;
        self.ctx.has_opened();
        Ok(opened)
    }

    /// An output of another step.
    pub(super) async fn input(&self, name: &str, stored: Bytes) -> Result<Bytes, Failure> {
        if !is_sealed(&stored) {
            if self.ctx.is_sealed() {
                return Err(mixed());
            }
            self.plain.store(true, Ordering::Relaxed);
            return self.plain_input("input", stored);
        }
        if self.plain.load(Ordering::Relaxed) {
            return Err(mixed());
        }
        let (keys, binding) = (self.sealing.keys.clone(), self.binding().clone());
        let name = OutputName::Data(name.to_owned());
        let opened = by_length(stored.len(), move || {
            open_output(keys.as_deref(), &binding, &name, &stored).map_err(|why| refused("its input is", &why))
        });
        let opened = opened.await?;
        self.ctx.has_opened();
        Ok(opened)
    }

    /// The outputs of this step as they may be stored.
    pub(super) async fn outputs(
        &self,
        outputs: Vec<(u32, Vec<u8>)>,
        name: impl Fn(u32) -> OutputName,
    ) -> Result<Vec<(u32, Vec<u8>)>, Failure> {
        if !self.ctx.is_sealed() {
            return Ok(outputs);
        }
        let no_keys = || Failure::fatal("there are no keys to seal the output");
        let keys = self.sealing.keys.clone().ok_or_else(no_keys)?;
        let binding = self.binding().clone();
        let names: Vec<OutputName> = outputs.iter().map(|(part, _)| name(*part)).collect();
        by_length(outputs.iter().map(|(_, lines)| lines.len()).sum(), move || {
            let seal = |((part, lines), name): ((u32, Vec<u8>), OutputName)| {
                let sealed = keys.seal_output(&binding, &name, &lines);
                Ok((part, sealed.map_err(|why| Failure::fatal(why.to_string()))?))
            };
            outputs.into_iter().zip(names).map(seal).collect()
        })
        .await
    }

    fn plain_input(&self, what: &str, input: Bytes) -> Result<Bytes, Failure> {
        match self.sealing.required {
            true => Err(plain(what)),
            false => Ok(input),
        }
    }
}

fn refused(what: &str, why: &Unopened) -> Failure {
    Failure::fatal(format!("refused: {what} {why}"))
}

fn plain(what: &str) -> Failure {
    Failure::fatal(format!(
        "refused: this consumer takes sealed payloads only, and the job's {what} is not sealed"
    ))
}

/// All of a job is sealed, or nothing: somebody has put something else there.
fn mixed() -> Failure {
    Failure::fatal("refused: some of what it reads is sealed, and some is not")
}
