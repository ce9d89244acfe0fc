//! Protocols that are broken on purpose.
//!
//! The functions are loaded with one text changed, on a server with roles: clients may not load them themselves. One mutant is of the producers.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use workyard_shared::functions;
use workyard_tests::TestServer;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mutant {
    /// Whoever holds a task may complete it under any token.
    NoFence,
    /// A claim after a reclaim gets the token of the first.
    SameToken,
    /// A completion is acknowledged and not done.
    AckDropped,
    /// An enqueue that is sent again adds its tasks again.
    EnqueueTwice,
    /// The tasks of a claim whose reply was lost are not handed out again.
    ClaimLost,
    /// A receipt says that a replica confirmed what none was asked for; with several servers only.
    Unconfirmed,
}

impl Mutant {
    /// Texts of the library that stand there once, and what takes the place of each.
    fn changes(self) -> Vec<(&'static str, &'static str)> {
        match self {
            // Two fences: one by the session, one by the token.
            Self::NoFence => vec![
                (
                    "  if not call('ZSCORE', keys[CONSUMERS], consumer) then return nil, true end\n",
                    "",
                ),
                (
                    "which is written first.\n  local values = call('HMGET', running, unpack(ids))",
                    "which is written first.\n  local values = call('HMGET', keys[TASKS], unpack(ids))\n  \
                     for i = 1, n do values[i] = values[i] and argv[FIRST + EACH * (i - 1) + 1] .. ' ' end",
                ),
            ],
            Self::SameToken => vec![("int(math.max(last + 1, us))", "int(math.max(last, 1))")],
            Self::AckDropped => vec![(
                "  if mine[1] then\n    call('HDEL', keys[TASKS], unpack(mine))\n    call('HDEL', running, unpack(mine))\n    if has_meta",
                "  if false then\n    if has_meta",
            )],
            Self::EnqueueTwice => vec![(
                "local before = session and answered(session, batch)",
                "local before = nil",
            )],
            Self::Unconfirmed => Vec::new(),
            Self::ClaimLost => vec![(
                "  if claimed and claimed ~= argv[3] and tonumber(claimed) > above then",
                "  if false then",
            )],
        }
    }

    /// Loads the broken functions.
    pub(crate) async fn load(self, server: &TestServer) -> anyhow::Result<()> {
        let mut broken = functions::library();
        for (from, to) in self.changes() {
            if broken.matches(from).count() != 1 {
                bail!("{from:?} does not stand in the functions once");
            }
            broken = broken.replace(from, to);
        }
        let mut redis = server.connection().await;
        let mut cmd = redis::cmd("FUNCTION");
        cmd.arg("LOAD").arg("REPLACE").arg(broken);
        cmd.exec_async(&mut redis)
            .await
            .context("the broken functions cannot be loaded")
    }
}
