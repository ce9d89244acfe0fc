//! Flags and file together: what a [`Worker`](crate::Worker) is made of.

use std::sync::Arc;

use tracing::info;
use workyard_shared::Error;
use workyard_shared::crypto::KeyRing;
use workyard_shared::link::{DEFAULT_URL, LinkConfig};
use workyard_shared::managed::ManagedRedis;
use workyard_shared::name::{Kind, Prefix, QueueName};

use super::{Cli, Failure};
use crate::config::{DaemonConfig, JobsConfig, Place};
use crate::{Protection, Registry, WorkerConfig, handlers};

/// The file's handlers; one that stands in `before` just so is taken over from there.
pub(super) fn registry(file: &DaemonConfig, before: Option<(&DaemonConfig, &Registry)>) -> Result<Registry, Failure> {
    let mut registry = Registry::new();
    for (kind, handler) in &file.handlers {
        if let Some((old, built)) = before
            && old.handlers.get(kind) == Some(handler)
        {
            registry.keep(kind, built);
            continue;
        }
        let built = handlers::build(handler)?;
        registry.add(kind, built.handler, handler.concurrency)?;
        if let Some(stage) = built.stage {
            registry.stage(kind, stage)?;
        }
    }
    Ok(registry)
}

/// Flags go before the environment, the environment before the file, the file before defaults.
pub(super) fn worker_config(cli: &Cli, file: &DaemonConfig) -> Result<(WorkerConfig, Option<ManagedRedis>), Failure> {
    let queues = queues(cli, file)?;
    let prefix = match &cli.prefix {
        Some(prefix) => Prefix::new(prefix)?,
        None => file.prefix.clone(),
    };
    let first = queues
        .first()
        .map_or_else(|| QueueName::new("default"), |(name, _)| Ok(name.clone()))?;
    let jobs = jobs(cli, file)?;
    let protection = protection(cli, file)?;
    // Last: what is wrong with the rest must not leave a server behind that this start has begun.
    let in_file = file.redis_url.as_ref().map(|url| url.expose().to_owned());
    let url = cli
        .redis_url
        .clone()
        .or(in_file)
        .unwrap_or_else(|| DEFAULT_URL.to_owned());
    let (link, managed) = if url == "managed" {
        let redis = ManagedRedis::from_env()?;
        let joined = redis.start_or_join()?;
        info!("using the managed Redis in {}", redis.dir().display());
        (LinkConfig::from_url(&joined.server.url)?, Some(redis))
    } else {
        let access = cli.access.clone().with_variable().or(file.access.clone());
        (LinkConfig::from_url(&url)?.with_access(&access)?, None)
    };
    let config = WorkerConfig {
        prefix,
        queues,
        order: file.queue_order,
        concurrency: cli.concurrency.unwrap_or(file.concurrency),
        prefetch: file.prefetch,
        lease: file.lease,
        drain_timeout: file.drain_timeout,
        watch_host: file.watch_host,
        jobs,
        protection,
        until_empty: cli.until_empty,
        allow_eviction: cli.allow_eviction,
        http: cli.http.or(file.http),
        notify: true,
        ..WorkerConfig::new(link, first)
    };
    Ok((config, managed))
}

/// Refuses an address of the flag or the variable that is none; that of the file was looked at with it. Connects to nothing.
pub(super) fn check_url(cli: &Cli) -> Result<(), Error> {
    match cli.redis_url.as_deref() {
        None | Some("managed") => Ok(()),
        Some(url) => LinkConfig::from_url(url).map(|_| ()),
    }
}

/// The keys, read now, and what must be sealed or signed. A queue that a flag names is as the file has it.
pub(super) fn protection(cli: &Cli, file: &DaemonConfig) -> Result<Protection, Error> {
    let ring = cli.keys.as_ref().or(file.keys.file.as_ref());
    let signed_queues = file.queues.iter().filter(|queue| queue.signed);
    let signed_kinds = file.handlers.values().filter(|handler| handler.signed);
    let protection = Protection {
        keys: ring.map(|path| KeyRing::read(path)).transpose()?.map(Arc::new),
        require_sealed: file.keys.require_sealed,
        signed_queues: signed_queues.map(|queue| queue.name.clone()).collect(),
        signed_kinds: signed_kinds
            .map(|handler| Kind::new(&handler.kind))
            .collect::<Result<_, _>>()?,
    };
    protection.validate()?;
    Ok(protection)
}

/// The file's places and those of the flags; relative ones are below the folder of whoever wrote them.
fn jobs(cli: &Cli, file: &DaemonConfig) -> Result<JobsConfig, Error> {
    let here = std::path::absolute(".").map_err(|e| Error::Invalid(format!("there is no current folder: {e}")))?;
    let mut jobs = file.jobs.clone();
    for (flag, texts, places) in [
        ("--jobs-read", &cli.jobs_read, &mut jobs.read),
        ("--jobs-spill", &cli.jobs_spill, &mut jobs.spill),
    ] {
        for text in texts {
            places.push(Place::parse(text, &here).map_err(|reason| Error::Invalid(format!("{flag}: {reason}")))?);
        }
    }
    Ok(jobs)
}

/// The queues of the flags, else those of the file, with their weights.
pub(super) fn queues(cli: &Cli, file: &DaemonConfig) -> Result<Vec<(QueueName, usize)>, Error> {
    if cli.queues.is_empty() {
        return Ok(file
            .queues
            .iter()
            .map(|queue| (queue.name.clone(), queue.weight))
            .collect());
    }
    cli.queues.iter().map(|name| Ok((QueueName::new(name)?, 1))).collect()
}
