//! The three pipes of a child, served at the same time.
//!
//! Invariant: no pipe waits for another (a child that writes before it has read its input must
//! not hang), and what was read or written so far survives when [`Streams::pump`] is dropped and
//! called again.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::super::group::Group;
use super::super::tail::{TAIL_BYTES, Tail};

const READ_BYTES: usize = 8 << 10;

/// The child wrote more to standard output than it may.
#[derive(Debug)]
pub(super) struct Overflow;

/// Pipes of one child, and what went through them.
#[derive(Debug)]
pub(super) struct Streams {
    stdin: Option<(ChildStdin, VecDeque<Bytes>)>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// Most bytes of standard output.
    pub(super) limit: usize,
    /// Standard output so far.
    pub(super) out: Vec<u8>,
    /// The end of standard error so far.
    pub(super) tail: Tail,
}

impl Streams {
    /// Takes the pipes of `group`; `input` goes to its standard input, piece by piece.
    pub(super) fn of(group: &mut Group, input: VecDeque<Bytes>, limit: usize) -> Self {
        Self {
            stdin: group.take_stdin().map(|pipe| (pipe, input)),
            stdout: group.take_stdout(),
            stderr: group.take_stderr(),
            limit,
            out: Vec::new(),
            tail: Tail::default(),
        }
    }

    /// Serves all three pipes until each is closed.
    pub(super) async fn pump(&mut self) -> Result<(), Overflow> {
        let Self {
            stdin,
            stdout,
            stderr,
            limit,
            out,
            tail,
        } = self;
        // `try_join`: an overflow must not wait until the child closes the other pipes.
        tokio::try_join!(
            async {
                feed(stdin).await;
                Ok(())
            },
            collect(stdout, out, *limit),
            async {
                follow(stderr, tail).await;
                Ok(())
            },
        )?;
        Ok(())
    }

    /// Serves the pipes of a child that is being ended: it gets no more input, and may write what
    /// it likes (a closed pipe would kill it in the middle of its cleaning up).
    pub(super) async fn drain(&mut self) {
        self.stdin = None;
        let mut discarded = Vec::new();
        let out = async { while collect(&mut self.stdout, &mut discarded, READ_BYTES).await.is_err() {} };
        tokio::join!(out, follow(&mut self.stderr, &mut self.tail));
    }
}

async fn feed(stdin: &mut Option<(ChildStdin, VecDeque<Bytes>)>) {
    while let Some((pipe, input)) = stdin {
        let open = match input.front_mut() {
            Some(piece) if piece.has_remaining() => pipe.write_buf(piece).await.is_ok(),
            Some(_) => input.pop_front().is_some(),
            None => false,
        };
        if !open {
            // A child may exit, or close its input, without reading it all. That is its own
            // affair: the exit code says whether it succeeded.
            *stdin = None;
        }
    }
}

async fn collect(stdout: &mut Option<ChildStdout>, out: &mut Vec<u8>, limit: usize) -> Result<(), Overflow> {
    while let Some(pipe) = stdout {
        if out.len() > limit {
            out.clear();
            return Err(Overflow);
        }
        out.reserve(READ_BYTES);
        let read = pipe.read_buf(out).await;
        close_at_end(&read, stdout);
    }
    Ok(())
}

async fn follow(stderr: &mut Option<ChildStderr>, tail: &mut Tail) {
    let mut chunk = Vec::with_capacity(TAIL_BYTES);
    while let Some(pipe) = stderr {
        chunk.clear();
        // Safe to drop: `read_buf` fills `chunk` only when it completes.
        let read = pipe.read_buf(&mut chunk).await;
        tail.push(&chunk);
        close_at_end(&read, stderr);
    }
}

fn close_at_end<P>(read: &io::Result<usize>, pipe: &mut Option<P>) {
    // An error of a pipe is as much its end as an end is.
    if matches!(read, Ok(0) | Err(_)) {
        *pipe = None;
    }
}
