//! Lines of bounded length out of a pipe.
//!
//! Invariant: at most `limit` bytes and one read more are held, and [`Lines::next`] can be dropped
//! and called again without losing a byte.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

const READ_BYTES: usize = 8 << 10;

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    pipe: R,
    buffer: Vec<u8>,
    /// How much of `buffer` is known to hold no newline, so that a long line is searched once.
    searched: usize,
    limit: usize,
}

/// What comes next out of a pipe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole line, without its newline.
    Line(Vec<u8>),
    /// More than the limit, and no newline yet.
    TooLong,
    /// The end. An unfinished last line is lost: it may be half a message.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: R, limit: usize) -> Self {
        Self {
            pipe,
            buffer: Vec::new(),
            searched: 0,
            limit,
        }
    }

    /// How long lines may be from now on.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Waits for the next line.
    pub(super) async fn next(&mut self) -> io::Result<Next> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(at) = found.map(|at| at + self.searched) {
                let rest = self.buffer.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                line.truncate(at);
                return Ok(if line.len() > self.limit {
                    Next::TooLong
                } else {
                    Next::Line(line)
                });
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Ok(Next::TooLong);
            }
            self.buffer.reserve(READ_BYTES);
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                return Ok(Next::End);
            }
        }
    }

    /// Reads and forgets until the end.
    pub(super) async fn drain(&mut self) {
        loop {
            self.buffer.clear();
            self.buffer.reserve(READ_BYTES);
            // An error of the pipe is its end.
            if matches!(self.pipe.read_buf(&mut self.buffer).await, Ok(0) | Err(_)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_a_half_one_at_the_end_does_not() {
        let mut lines = Lines::new(&b"one\n\ntwo\r\nhal"[..], 10);
        for expected in [&b"one"[..], b"", b"two\r"] {
            assert_eq!(lines.next().await.unwrap(), Next::Line(expected.to_vec()));
        }
        assert_eq!(lines.next().await.unwrap(), Next::End);
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_is_noticed_before_it_ends() {
        let mut fits = Lines::new(&b"0123456789\n"[..], 10);
        assert_eq!(fits.next().await.unwrap(), Next::Line(b"0123456789".to_vec()));
        let mut long = Lines::new(&b"0123456789x\n"[..], 10);
        assert_eq!(long.next().await.unwrap(), Next::TooLong);
        let mut endless = Lines::new(tokio::io::repeat(b'x'), 100_000);
        assert_eq!(endless.next().await.unwrap(), Next::TooLong);
    }
}
