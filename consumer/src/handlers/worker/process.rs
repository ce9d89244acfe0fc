//! One worker process and the conversation with it.
//!
//! Invariant: whatever is not a well-formed answer to the task at hand breaks the process: after
//! an error from here it must be ended, since nobody knows what it would answer next.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use workyard_shared::limits::MAX_RESULT_BYTES;

use super::super::command::verdict;
use super::super::group::Group;
use super::super::{launch, tail};
use super::lines::{Lines, Next};
use super::protocol::{self, Call, MAX_LINE_BYTES, Message};
use super::stderr::{self, MAX_LOGGED_BYTES, SharedTail};
use crate::config::WorkerConfig;
use crate::{Context, Outcome};

/// How long a process that closes a pipe may take until its other end is seen as well.
const SETTLE: Duration = Duration::from_secs(1);

/// A running worker.
#[derive(Debug)]
pub(super) struct Process {
    handler: Arc<str>,
    group: Group,
    /// Set once it has exited.
    status: Option<ExitStatus>,
    /// Set once it has said that its answer was the last.
    leaving: bool,
    stdin: Option<ChildStdin>,
    stdout: Lines<ChildStdout>,
    /// Longest result and line of the task at hand.
    max_result: usize,
    max_line: usize,
    stderr: AbortOnDropHandle<()>,
    tail: SharedTail,
    grace: Duration,
}

/// How a process broke.
#[derive(Debug)]
pub(super) enum Fault {
    /// It said something that it must not say.
    Said(String),
    /// It exited or closed its output.
    Ended,
}

impl Process {
    /// Starts a process; the error says why it cannot.
    pub(super) fn start(handler: &Arc<str>, config: &WorkerConfig) -> Result<Self, String> {
        let mut command = launch::command(&config.program, &config.process);
        command
            .args(&config.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let grace = config.process.kill_after;
        let mut group = Group::spawn(&mut command, grace)
            .map_err(|error| format!("cannot start {}: {error}", config.program.display()))?;
        let stdin = group.take_stdin();
        let pipes = group.take_stdout().zip(group.take_stderr());
        let (stdout, pipe) = pipes.ok_or("the new process has no pipes")?;
        let tail = SharedTail::default();
        let stderr = tokio::spawn(stderr::follow(pipe, Arc::clone(handler), tail.clone()));
        Ok(Self {
            handler: Arc::clone(handler),
            group,
            status: None,
            leaving: false,
            stdin,
            stdout: Lines::new(stdout, MAX_LINE_BYTES),
            max_result: MAX_RESULT_BYTES,
            max_line: MAX_LINE_BYTES,
            stderr: AbortOnDropHandle::new(stderr),
            tail,
            grace,
        })
    }

    /// Hands over a task and waits for its answer; the error says how the process broke.
    pub(super) async fn perform(
        &mut self,
        ctx: &Context,
        call: Option<&Call>,
        mut line: Bytes,
    ) -> Result<Outcome, String> {
        self.tail.clear();
        self.max_result = call.map_or(MAX_RESULT_BYTES, |call| call.limit);
        self.max_line = call.map_or(MAX_LINE_BYTES, Call::line_limit);
        self.stdout.set_limit(self.max_line);
        let Some(mut stdin) = self.stdin.take() else {
            return Err("has no input left".to_owned());
        };
        let message = loop {
            // Reading goes on while writing, or two full pipes would wait for each other.
            tokio::select! {
                written = stdin.write_buf(&mut line), if line.has_remaining() => {
                    if written.is_err() {
                        return Err(self.deaf().await);
                    }
                }
                message = self.answer() => break message,
            }
        };
        let message = match message {
            Ok(message) => message,
            Err(fault) => return Err(self.explain(fault).await),
        };
        if line.has_remaining() {
            return Err("answered before it had read its task".to_owned());
        }
        self.stdin = Some(stdin);
        let Message::Answer {
            id,
            token,
            outcome,
            last,
        } = message
        else {
            return Err("answered with something else".to_owned());
        };
        if id != ctx.id() || token != ctx.fencing_token() {
            return Err(format!(
                "answered for task {id} with token {token}, but its task was {} with token {}",
                ctx.id(),
                ctx.fencing_token()
            ));
        }
        self.leaving = last;
        Ok(outcome)
    }

    /// Waits until an idle process breaks. May be dropped and called again.
    pub(super) async fn idle(&mut self) -> Fault {
        match self.answer().await {
            Ok(_) => Fault::Said("answered without a task".to_owned()),
            Err(fault) => fault,
        }
    }

    /// Whether it has exited, as far as was seen.
    pub(super) fn has_exited(&self) -> bool {
        self.status.is_some()
    }

    /// Whether it has said that it takes no other task.
    pub(super) fn leaving(&self) -> bool {
        self.leaving
    }

    /// Whether it has exited with code 0.
    pub(super) fn left_in_peace(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Waits for an answer, logging what is to be logged. May be dropped and called again.
    async fn answer(&mut self) -> Result<Message, Fault> {
        loop {
            match self.next().await {
                Next::Line(line) => match protocol::parse(&line, self.max_result).map_err(Fault::Said)? {
                    Message::Ready => {}
                    Message::Log(text) => self.log(&text),
                    answer @ Message::Answer { .. } => return Ok(answer),
                },
                Next::TooLong => {
                    return Err(Fault::Said(format!("wrote a line longer than {} bytes", self.max_line)));
                }
                Next::End => return Err(Fault::Ended),
            }
        }
    }

    async fn next(&mut self) -> Next {
        if self.status.is_none() {
            tokio::select! {
                // In this order: an answer counts even if the process exits right after it.
                biased;
                next = self.stdout.next() => return next.unwrap_or(Next::End),
                exited = self.group.exited() => self.status = exited.ok(),
            }
        }
        // What it wrote is in the pipe. Only a process that left the group can hold it open.
        match timeout(SETTLE, self.stdout.next()).await {
            Ok(Ok(next)) => next,
            Ok(Err(_)) | Err(_) => Next::End,
        }
    }

    /// Why it reads no more: most likely it is exiting.
    async fn deaf(&mut self) -> String {
        match timeout(SETTLE, self.answer()).await {
            Ok(Err(fault)) => self.explain(fault).await,
            Ok(Ok(_)) | Err(_) => "closed its standard input".to_owned(),
        }
    }

    /// The fault in words, with what the process said last if it is gone.
    pub(super) async fn explain(&mut self, fault: Fault) -> String {
        if let Fault::Said(text) = fault {
            return text;
        }
        if self.status.is_none()
            && let Ok(Ok(status)) = timeout(SETTLE, self.group.exited()).await
        {
            self.status = Some(status);
        }
        let Some(status) = self.status else {
            return "closed its standard output".to_owned();
        };
        // The pipe is closed, so its reader is about to finish; a timeout only costs some text.
        let _read_all = timeout(SETTLE, &mut self.stderr).await;
        tail::message(&format!("exited ({})", verdict::describe(status)), &self.tail.text())
    }

    fn log(&self, text: &str) {
        let cut: String = text.chars().take(MAX_LOGGED_BYTES).collect();
        tracing::info!(handler = &*self.handler, "{cut}");
    }

    /// Lets it finish by itself: its input ends, and only after the grace it is ended.
    pub(super) async fn close(mut self) {
        self.stdin = None;
        let grace = self.grace;
        let leaves = async {
            // Whatever it still says. One that closes its output may yet be cleaning up.
            let _last_words = self.idle().await;
            if self.status.is_none() {
                self.status = self.group.exited().await.ok();
            }
        };
        // If it does not leave in time: what follows is the same.
        let _left = timeout(grace, leaves).await;
        self.end().await;
    }

    /// Ends it: SIGTERM, the grace, SIGKILL. Returns once it is reaped.
    pub(super) async fn end(self) {
        let Self {
            group,
            stdin,
            mut stdout,
            stderr,
            ..
        } = self;
        let drained = async {
            // A closed pipe would kill it in the middle of its cleaning up.
            stdout.drain().await;
            std::future::pending().await
        };
        tokio::select! {
            _ = group.end() => {}
            () = drained => {}
        }
        drop((stdin, stderr));
    }
}
