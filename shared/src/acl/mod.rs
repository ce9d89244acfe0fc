//! The least that each role needs of Redis, as `ACL SETUSER` rules.
//!
//! A user of Redis has one set of permissions at its root and any number of selectors (Redis 7.0); a command runs if
//! one of them allows it *and* all its keys. Redis asks this for `FCALL` and again for each command that the function
//! runs, always of the caller. So a role has selectors of two sorts: one names the functions it may call, for keys of
//! its queues; the others say what those functions may then do to which key. A consumer that calls a function which is
//! not its own is refused by the first sort, and by the second it would be: nothing lets it write `cfg`.
//!
//! Invariant: rules only add. They begin with nothing, and no `-command` or category takes away what another gave.
//! It talks to no Redis, and knows no passwords.

mod grant;
mod consumer;
mod operator;
mod producer;

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::name::{Prefix, QueueName};

use grant::{Grant, Scope};

/// What a user of Redis is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Adds tasks and jobs, waits for them, looks at them.
    Producer,
    /// Claims tasks and settles them; every consumer can become the maintainer.
    Consumer,
    /// Looks at everything, changes settings, cancels, retries, deletes; loads the functions.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Producer, Self::Consumer, Self::Operator];

    /// Its name in commands and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Operator => "operator",
        }
    }

    fn grants(self) -> &'static [Grant] {
        match self {
            Self::Producer => producer::GRANTS,
            Self::Consumer => consumer::GRANTS,
            Self::Operator => operator::GRANTS,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| Error::Invalid(format!("role \"{text}\" must be producer, consumer or operator")))
    }
}

/// What a role is given: of one installation, all its queues or some.
#[derive(Debug, Clone)]
pub struct Access {
    /// The role.
    pub role: Role,
    /// What the keys of the installation begin with.
    pub prefix: Prefix,
    /// Only these queues, with all their partitions; every queue if there is none.
    pub queues: Vec<QueueName>,
    /// The number of the database; another than 0 has to be selected.
    pub database: i64,
    /// The server has `WAITAOF` (Redis 7.2 and newer), which an older one refuses to hear of even in a rule.
    pub waitaof: bool,
}

impl Access {
    /// A role on all queues of an installation in database 0.
    #[must_use]
    pub fn new(role: Role, prefix: Prefix) -> Self {
        Self {
            role,
            prefix,
            queues: Vec::new(),
            database: 0,
            waitaof: false,
        }
    }

    /// The rules, each an argument of `ACL SETUSER <user>`. Applied to a user that is there they replace what it may
    /// and leave its passwords; a new one has no password, and nobody can log in as it until it gets one.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        let mut rules: Vec<String> = ["on", "clearselectors", "resetkeys", "resetchannels", "-@all"]
            .map(str::to_owned)
            .into();
        rules.extend(["+ping", "+time", "+info"].map(str::to_owned));
        // Who has which slots of a cluster, a call for a slot on its way, and who is the master behind Sentinel.
        rules.extend(["+cluster|slots", "+asking", "+role"].map(str::to_owned));
        if self.database != 0 {
            rules.push(format!("+select|{}", self.database));
        }
        if self.waitaof && self.role == Role::Producer {
            rules.push("+waitaof".to_owned());
        }
        let scope = Scope::new(&self.prefix, &self.queues);
        rules.extend(self.role.grants().iter().map(|grant| grant.selector(&scope)));
        rules
    }

    /// The whole command as `redis-cli` reads it from its standard input.
    #[must_use]
    pub fn command(&self, user: &str) -> String {
        format!("ACL SETUSER {user} {}", self.rules().join(" "))
    }
}

#[cfg(test)]
mod tests;
