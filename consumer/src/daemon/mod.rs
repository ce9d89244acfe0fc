//! The daemon: command line and file become a [`Worker`], signals become a drain or a reload.
//!
//! Invariant: everything is checked before anything is claimed. The first SIGTERM or SIGINT
//! drains; a second one hands back what runs and exits now.

mod cli;
mod logging;
mod reloading;
mod settings;
mod telemetry;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use tracing::{error, info, warn};
use workyard_shared::Error;
use workyard_shared::link::note_on_arguments;
use workyard_shared::managed::ManagedRedis;

use crate::Worker;
use crate::config::{self, ConfigError, DaemonConfig};
use crate::ops::healthcheck;
use crate::telemetry::Pipeline;
use cli::Action;
use logging::Logging;
use reloading::Reloading;

pub use cli::Cli;

/// Exit code for bad use: flags, configuration, names.
const EXIT_BAD_USE: u8 = 2;
/// Exit code when Redis refuses this user or cannot be used.
const EXIT_REDIS: u8 = 4;
/// What a daemon does that has no file.
const ONLY_JOBS: &str = "[[queues]]\nname = \"default\"\n[jobs]\n";
/// How often a managed server is looked after.
const MANAGED_CHECK: Duration = Duration::from_secs(2);

/// Why the daemon did not start or ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Workyard(#[from] Error),
    #[error("{0}")]
    Managed(#[from] workyard_shared::managed::Error),
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// What helps, where that is known.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Workyard(error) => error.remedy(),
            _ => None,
        }
    }

    fn code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Workyard(Error::Invalid(_)) | Self::Io(_) => ExitCode::from(EXIT_BAD_USE),
            Self::Workyard(_) | Self::Managed(_) => ExitCode::from(EXIT_REDIS),
        }
    }
}

/// Runs the daemon to its end.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    match &cli.action {
        Some(Action::Healthcheck(args)) => return healthcheck(args),
        Some(Action::Man) => return printed(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())),
        Some(Action::Schema) => {
            let schema = crate::config::schema();
            return printed(writeln!(std::io::stdout(), "{:#}", schema.as_value()));
        }
        Some(Action::Completions { shell }) => {
            clap_complete::generate(*shell, &mut Cli::command(), "workyard-consumer", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        None => {}
    }
    let logging = Logging::start(cli);
    match run(cli, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match failure.remedy() {
                Some(remedy) => error!("{failure}; {remedy}"),
                None => error!("{failure}"),
            }
            failure.code()
        }
    }
}

fn printed(written: std::io::Result<()>) -> ExitCode {
    match written {
        // A reader that has seen enough (`| head`) is no error.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn load(cli: &Cli) -> Result<DaemonConfig, ConfigError> {
    match &cli.config {
        Some(path) => config::load(path),
        None => config::parse(ONLY_JOBS, "the defaults".as_ref()),
    }
}

fn run(cli: &Cli, logging: Logging) -> Result<(), Failure> {
    let file = load(cli)?;
    logging.apply(file.log.as_ref());
    let registry = settings::registry(&file, None)?;
    let spans = telemetry::settings(cli, &file, telemetry::variable)?;
    if cli.check {
        settings::protection(cli, &file)?;
        settings::check_url(cli)?;
        let (queues, kinds) = (settings::queues(cli, &file)?.len(), registry.kinds().join(", "));
        info!("the configuration is sound: {queues} queues, kinds {kinds}");
        return Ok(());
    }
    if let Some(note) = note_on_arguments(std::env::args()) {
        warn!("{note}");
    }
    let (worker, managed) = settings::worker_config(cli, &file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let pipeline = spans
        .map(|spans| Pipeline::start(spans, runtime.handle()))
        .transpose()?;
    let tracing = pipeline.as_ref().map(Pipeline::tracing);
    let outcome = runtime.block_on(async {
        let keeper = managed.map(|redis| tokio::spawn(keep_up(redis)));
        let reloading = Reloading::new(cli.clone(), file, registry.clone(), logging);
        let ended = Worker::new(worker, registry)?
            .with_reloads(reloading.hook())
            .with_tracing(tracing)
            .serve()
            .await;
        if let Some(keeper) = keeper {
            keeper.abort();
        }
        Ok(ended?)
    });
    if let Some(pipeline) = &pipeline {
        pipeline.end();
    }
    // A blocking handler that ignores its cancel must not hold the exit.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

/// Starts the managed server again when it has died.
async fn keep_up(redis: ManagedRedis) {
    loop {
        tokio::time::sleep(MANAGED_CHECK).await;
        let redis = redis.clone();
        match tokio::task::spawn_blocking(move || redis.ensure().map(|_| ())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the managed Redis is down and cannot be started"),
            Err(error) => warn!(%error, "the managed Redis could not be looked after"),
        }
    }
}
