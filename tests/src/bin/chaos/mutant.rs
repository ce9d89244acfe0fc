//! Protocols that are broken on purpose.
//!
//! The functions are loaded with one text changed, on a server with roles: clients may not load them themselves. Others are of the consumers, of
//! the network or of the producers.

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
    /// Promote takes what is due out in one step and puts it back in another, which a death may come before: one in eight does not come.
    TwoStepPromote,
    /// One claim in sixteen leaves the first of its tasks where it was, too, so that it is handed out again.
    Twice,
    /// A renewal registers a session that has ended: nobody hears that its work was taken.
    RenewRevives,
    /// A consumer never finds its way back to Redis behind the first fault.
    StaysAway,
    /// A consumer that is told to end does, and hands nothing back.
    SkipRelease,
    /// A consumer that is told to end acknowledges what it has not finished.
    AckUnfinished,
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
            Self::TwoStepPromote => vec![(
                "    call('ZADD', keys[PENDING], unpack(pending))\n    if not paused then wake(keys, n) end\n",
                "    if sequence % 8 > 0 then call('ZADD', keys[PENDING], unpack(pending)) end\n    if not paused then wake(keys, n) end\n",
            )],
            Self::Twice => vec![(
                "  call('ZREMRANGEBYRANK', keys[PENDING], '0', small(taken.count - 1))\n",
                "  local again = tonumber(token) % 16 == 0 and taken.records[1] and call('ZSCORE', keys[PENDING], taken.ids[1])\n  \
                 call('ZREMRANGEBYRANK', keys[PENDING], '0', small(taken.count - 1))\n  \
                 if again then call('ZADD', keys[PENDING], again, taken.ids[1]) end\n",
            )],
            Self::RenewRevives => vec![(
                "  if not held and argv[3] ~= '1' then return { 'lost', 0, due, '' } end\n",
                "",
            )],
            Self::Unconfirmed | Self::StaysAway | Self::SkipRelease | Self::AckUnfinished => Vec::new(),
            Self::ClaimLost => vec![(
                "  if claimed and claimed ~= argv[3] and tonumber(claimed) > above then",
                "  if false then",
            )],
        }
    }

    /// The word for `chaos-consumer`, if it is the consumers that are broken.
    pub(crate) fn of_consumers(self) -> Option<&'static str> {
        match self {
            Self::SkipRelease => Some("skip-release"),
            Self::AckUnfinished => Some("ack-unfinished"),
            _ => None,
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
