//! Help, completions and man pages: what needs no Redis.
//!
//! Invariant: help asked for is output (stdout, code 0); help given because of an error is an error
//! (stderr, code 2).

use std::ffi::OsString;
use std::io::{self, Write};

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::exit::{CliError, Exit};

/// What clap answered instead of arguments.
pub(crate) fn parse_error(error: &clap::Error, json: bool) -> Result<Exit, CliError> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match error.print() {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err(CliError::output(&error)),
        };
    }
    if json {
        let text = error.render().to_string();
        let first: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            .collect();
        let message = first.join(" ");
        let message = message
            .trim()
            .trim_start_matches("error: ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        return Err(CliError::usage(message, None));
    }
    // Clap's own form: message, usage, where to find help. If nobody reads it, the code still tells.
    error.print().ok();
    Ok(Exit::BadUse)
}

/// The usage in an error without options that only the environment gave: clap shows them as if they had to be typed.
pub(crate) fn without_environment(mut error: clap::Error, typed: &[OsString]) -> clap::Error {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else {
        return error;
    };
    let mut usage = usage.to_string();
    for option in Cli::command()
        .get_arguments()
        .filter(|option| option.get_env().is_some())
    {
        let Some(long) = option.get_long() else { continue };
        let flag = format!("--{long}");
        let is_typed = |word: &OsString| word.to_str().is_some_and(|word| word.split('=').next() == Some(&flag));
        if typed.iter().any(is_typed) {
            continue;
        }
        let value = option
            .get_value_names()
            .and_then(<[_]>::first)
            .map(|name| format!(" <{name}>"));
        usage = usage.replace(&format!(" {flag}{}", value.unwrap_or_default()), "");
    }
    error.insert(ContextKind::Usage, ContextValue::StyledStr(usage.into()));
    error
}

/// Runs `completions`.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, CliError> {
    // Into memory first: the generator panics when a pipe closes.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "workyard", &mut text);
    write_out(&text)
}

/// Runs `man`.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, CliError> {
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(Cli::command());
        page.render(&mut text).map_err(|e| CliError::output(&e))?;
        return write_out(&text);
    };
    let cannot = |e: io::Error| CliError::usage(format!("cannot write man pages into {}: {e}", dir.display()), None);
    std::fs::create_dir_all(dir).map_err(cannot)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(cannot)?;
    Ok(Exit::Done)
}

/// The whole of a text, to stdout.
pub(crate) fn write_out(text: &[u8]) -> Result<Exit, CliError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text)
        .and_then(|()| stdout.flush())
        .map_err(|e| CliError::output(&e))?;
    Ok(Exit::Done)
}
