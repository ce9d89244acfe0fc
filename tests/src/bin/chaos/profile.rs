//! How Redis keeps its data, and so what may be lost.

use std::time::Duration;

use clap::ValueEnum;

/// A way to run Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// One Redis that syncs before it answers: nothing that was accepted may be lost.
    Always,
    /// One Redis that syncs once a second: what was not yet synced may be lost with its power, and nothing else.
    Everysec,
}

impl Profile {
    /// Its name, as an argument and in documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        }
    }

    /// Arguments of the server.
    pub(crate) fn server_args(self) -> [&'static str; 4] {
        ["--appendonly", "yes", "--appendfsync", self.name()]
    }

    /// For how long Redis may answer without having written: while a sync is slow it puts off writing, for two seconds
    /// at most by a clock that it reads ten times a second. A kill takes that, too. `None`: it answers only for what is synced.
    pub(crate) fn unwritten(self) -> Option<Duration> {
        match self {
            Self::Always => None,
            Self::Everysec => Some(Duration::from_millis(2_200)),
        }
    }
}
