//! The command line: text -> [`args::Cli`] -> a command's `run` -> output and an exit code.
//!
//! Invariant: whatever happens ends in one of the documented exit codes and, if it is an error, in
//! one message on stderr; a closed pipe ends quietly. No command knows another.

mod exit;
mod value;
mod args;
mod time;
mod output;
mod table;
mod logging;
mod away;
mod managed;
mod typist;
mod session;
mod side_by_side;
mod payload;
mod trace;
mod lines;
mod progress;
mod near;
mod why;
mod task;
mod enqueue;
mod from_file;
mod results;
mod list;
mod operate;
mod queue;
mod explain;
mod doctor;
mod warning;
mod interrupt;
mod watch;
mod consumers;
mod top;
mod overview;
mod metrics;
mod job_notes;
mod job_progress;
mod job_result;
mod ranking;
mod job_view;
mod job;
mod job_chunk;
mod job_document;
mod map_reduce;
mod shell;
mod acl;
mod keys;
mod audit;

use std::process::ExitCode;
use std::time::Duration;

use workyard_producer::Client;
use workyard_shared::broker::Queue;
use workyard_shared::link::note_on_arguments;
use workyard_shared::name::SessionId;
use workyard_shared::overload::Overload;
use workyard_shared::{Error as CallError, Outage};

use args::{Cli, Command, Global};
use exit::{CliError, Exit};
use session::Session;

/// How long a command may take before it says that it waits for Redis.
const QUIET: Duration = Duration::from_millis(1500);

/// Parses, runs, reports.
pub(crate) fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let json = args.iter().any(|arg| arg == "--json");
    let result = match args::parse(args.clone()) {
        Ok(cli) => start(cli),
        Err(error) => shell::parse_error(&shell::without_environment(error, &args), json),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            error.report(json);
            error.exit().into()
        }
    }
}

fn start(cli: Cli) -> Result<Exit, CliError> {
    logging::start(&cli.global);
    if let Some(note) = note_on_arguments(std::env::args())
        && !cli.global.json
    {
        eprintln!("warning: {note}");
    }
    let runtime =
        tokio::runtime::Runtime::new().map_err(|e| CliError::usage(format!("the runtime cannot start: {e}"), None))?;
    let result = runtime.block_on(Box::pin(run(cli)));
    // A reader of stdin that is stuck must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn run(cli: Cli) -> Result<Exit, CliError> {
    let global = cli.global;
    match cli.command {
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Acl(args) => acl::run(&args, &global),
        Command::Install(args) if args.print => overview::print_library(),
        Command::Keys { action } => keys::run(&action, global.json),
        Command::Redis { action } => managed::run(action, global.json).await,
        command => {
            let block = command.block_timeout();
            let watches = command.watches();
            // Who watches waits as long as it takes, and says so by itself.
            let patience = if watches { watch::PATIENCE } else { global.patience };
            let mut session = Session::open(
                &Global {
                    patience,
                    ..global.clone()
                },
                block,
            )
            .await?;
            let (client, queue) = (session.client.clone(), session.client.broker().queue(&session.queue));
            let (notes, limit) = (session.notes.clone(), global.patience_given.then_some(patience));
            let notice = async move {
                if !watches {
                    let slow = say_why_it_takes_long(&client, queue, patience, block.unwrap_or_default());
                    tokio::join!(slow, away::tell(client.clone(), notes, limit));
                }
            };
            let notice = tokio::spawn(notice);
            // Lines of a file may go to other queues.
            let elsewhere = matches!(&command, Command::Enqueue(args) if args.from_file.is_some());
            let exit = connected(command, &mut session).await;
            notice.abort();
            let exit = exit.map_err(|error| match elsewhere {
                true => error,
                false => error.in_queue(&session.queue),
            })?;
            session.out.flush()?;
            Ok(exit)
        }
    }
}

/// An outage, or a full queue that makes producers wait, is waited out in silence by the calls; a person should know
/// what the wait is for.
async fn say_why_it_takes_long(client: &Client, queue: Queue, patience: Duration, block: Duration) {
    tokio::time::sleep(QUIET).await;
    if block > QUIET && is_waited_for(&queue).await.unwrap_or(false) {
        let limit = workyard_shared::duration::format(block);
        eprintln!(
            "note: queue {} is full; waiting up to {limit} for room (--block-timeout)",
            queue.name()
        );
        return;
    }
    if patience <= QUIET {
        return;
    }
    // A Redis that loads its data or cannot write still answers what only reads: a call that may
    // write, and here writes nothing, shows it.
    let why = match queue.wait(&SessionId::fresh(), &[]).await {
        Err(CallError::Unavailable { outage, .. }) if outage != Outage::Away => format!("cannot serve ({outage})"),
        Err(error) if error.is_temporary() => "cannot be reached".to_owned(),
        _ => return,
    };
    // The wait for an end has a patience of its own.
    if client.is_waiting() {
        return;
    }
    let limit = workyard_shared::duration::format(patience);
    eprintln!("note: Redis {why}; waiting up to {limit} (--patience)");
}

/// Whether the queue is full now and makes producers wait.
async fn is_waited_for(queue: &Queue) -> Result<bool, CallError> {
    let settings = queue.settings().await?;
    if settings.overload != Overload::Block {
        return Ok(false);
    }
    if settings.max_bytes > 0 && queue.held_bytes().await? >= settings.max_bytes {
        return Ok(true);
    }
    let seen = queue.overview().await?;
    Ok(settings.max_pending > 0 && seen.pending + seen.handed_back >= settings.max_pending)
}

async fn connected(command: Command, session: &mut Session) -> Result<Exit, CliError> {
    match command {
        Command::Enqueue(args) => Box::pin(enqueue::run(*args, session)).await,
        Command::Task(args) => task::show(&args, session).await,
        Command::Explain(args) => explain::run(&args, session).await,
        Command::Wait(args) => task::wait(&args, session).await,
        Command::Results(args) => Box::pin(results::run(&args, session)).await,
        Command::List(args) => list::run(&args, session).await,
        Command::Cancel(args) => operate::cancel(&args, session).await,
        Command::Retry(args) => operate::retry(&args, session).await,
        Command::Delete(args) => operate::delete(&args, session).await,
        Command::Pause(args) => operate::pause(args, session, true).await,
        Command::Resume(args) => operate::pause(args, session, false).await,
        Command::Purge(args) => operate::purge(&args, session).await,
        Command::MapReduce(args) => Box::pin(map_reduce::run(*args, session)).await,
        Command::Job(args) => Box::pin(job::run(args, session)).await,
        Command::Install(_) => overview::install(session).await,
        Command::Queue { action } => queue::run(action, session).await,
        Command::Queues => overview::queues(session).await,
        Command::Stats(args) => overview::stats(&args, session).await,
        Command::Metrics(args) => metrics::run(&args, session).await,
        Command::Consumers(args) => consumers::run(&args, session).await,
        Command::Audit(args) => audit::run(&args, session).await,
        Command::Top(args) => Box::pin(top::run(&args, session)).await,
        Command::Doctor(args) => Box::pin(doctor::run(&args, session)).await,
        Command::Rejected(args) => overview::rejected(&args, session).await,
        Command::Completions(_) | Command::Man(_) | Command::Acl(_) | Command::Keys { .. } | Command::Redis { .. } => {
            Ok(Exit::Done)
        }
    }
}
