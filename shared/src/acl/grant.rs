//! One selector as data: commands, functions, keys, channels.
//!
//! Keys are written as they stand behind the prefix: `{tasks}`-like names would hide which queue they are of, so those
//! of a queue are plain (`tasks`, `running:*`, `*`) and those of the installation begin with a colon (`:queues`).

use crate::functions;
use crate::name::{Prefix, QueueName};

/// What a command may do to the keys it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only see them.
    Read,
    /// Change them, but not see what was there.
    Write,
    /// Both.
    Both,
}

/// One selector. Each list is of words.
#[derive(Debug)]
pub(super) struct Grant {
    /// Plain commands, in small letters.
    pub(super) commands: &'static str,
    /// Functions that may be called, without library and version.
    pub(super) functions: &'static str,
    pub(super) reach: Reach,
    pub(super) keys: &'static str,
    /// Shard channels, named as keys are.
    pub(super) channels: &'static str,
}

/// A grant without functions and channels.
pub(super) const fn on(reach: Reach, commands: &'static str, keys: &'static str) -> Grant {
    Grant {
        commands,
        functions: "",
        reach,
        keys,
        channels: "",
    }
}

/// The functions of a role. `FCALL` may do anything to its keys as far as Redis knows, so it has to be allowed to; what
/// runs inside is asked for again, one by one.
pub(super) const fn functions(functions: &'static str) -> Grant {
    Grant {
        commands: "",
        functions,
        reach: Reach::Both,
        keys: "*",
        channels: "",
    }
}

/// Commands on channels.
pub(super) const fn channels(commands: &'static str, channels: &'static str) -> Grant {
    Grant {
        commands,
        functions: "",
        reach: Reach::Both,
        keys: "",
        channels,
    }
}

/// Commands without keys.
pub(super) const fn plain(commands: &'static str) -> Grant {
    channels(commands, "")
}

impl Grant {
    /// As Redis reads it.
    pub(super) fn selector(&self, scope: &Scope) -> String {
        let sign = match self.reach {
            Reach::Read => "%R~",
            Reach::Write => "%W~",
            Reach::Both => "~",
        };
        let commands = self.commands.split_whitespace().map(|name| format!("+{name}"));
        // The form with a first argument is the only one that tells functions apart: Redis has no rule of its own for them.
        let calls = self
            .functions
            .split_whitespace()
            .map(|name| format!("+fcall|{}", functions::name(name)));
        let keys = patterns(self.keys, scope).map(|pattern| format!("{sign}{pattern}"));
        let channels = patterns(self.channels, scope).map(|pattern| format!("&{pattern}"));
        let rules: Vec<String> = commands.chain(calls).chain(keys).chain(channels).collect();
        format!("({})", rules.join(" "))
    }
}

fn patterns<'a>(names: &'a str, scope: &'a Scope) -> impl Iterator<Item = String> + 'a {
    names.split_whitespace().flat_map(|name| scope.patterns(name))
}

/// Which keys the names stand for.
#[derive(Debug)]
pub(super) struct Scope {
    prefix: String,
    tags: Vec<String>,
}

impl Scope {
    /// These queues of an installation with their partitions, or all if there is none.
    pub(super) fn new(prefix: &Prefix, queues: &[QueueName]) -> Self {
        let tags = if queues.is_empty() {
            vec!["*".to_owned()]
        } else {
            queues
                .iter()
                .flat_map(|queue| [queue.to_string(), format!("{queue}/*")])
                .collect()
        };
        Self {
            prefix: prefix.to_string(),
            tags,
        }
    }

    fn patterns(&self, name: &str) -> Vec<String> {
        let prefix = &self.prefix;
        if name.starts_with(':') {
            return vec![format!("{prefix}{name}")];
        }
        self.tags
            .iter()
            .map(|tag| format!("{prefix}:{{{tag}}}:{name}"))
            .collect()
    }
}
