//! How one gets into a server of a test: as one of its users or as anybody, over TLS or in the open.
//!
//! It starts no server: it says with which arguments one is, and which addresses it then has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::roles::{self, PASSWORD, roles_are_on};
use super::tls;

/// What a server asks of its clients.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// Nobody gets in without a password, and each role has its user.
    is_guarded: bool,
    /// It speaks only TLS, with the certificates of this directory.
    tls: Option<PathBuf>,
}

impl Entry {
    /// As the environment says.
    pub(crate) fn from_env() -> Self {
        Self {
            is_guarded: roles_are_on(),
            tls: tls::tls_dir(),
        }
    }

    /// With a password, in any run.
    pub(crate) fn guarded(self) -> Self {
        Self {
            is_guarded: true,
            ..self
        }
    }

    /// Without a password, in any run.
    pub(crate) fn unguarded(self) -> Self {
        Self {
            is_guarded: false,
            ..self
        }
    }

    /// Without TLS, in any run.
    pub(crate) fn plain(self) -> Self {
        Self { tls: None, ..self }
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What addresses begin with.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_tls() { "rediss" } else { "redis" }
    }

    /// User and password as they stand in an address.
    pub(crate) fn login(&self, user: &str) -> String {
        if self.is_guarded {
            format!("{user}:{PASSWORD}@")
        } else {
            String::new()
        }
    }

    /// The address for this user at a port of this machine, database 0.
    pub(crate) fn url(&self, user: &str, port: u16) -> String {
        self.url_with(&self.login(user), port)
    }

    /// As [`Self::url`], for who is `user:password@`, or nobody.
    pub(crate) fn url_with(&self, login: &str, port: u16) -> String {
        format!("{}://{login}127.0.0.1:{port}/", self.scheme())
    }

    /// Writes what a server needs into its directory, and returns the arguments that make it use that.
    pub(crate) fn server_args(&self, dir: &Path) -> Vec<String> {
        let users = self.is_guarded.then(|| roles::server_args(dir));
        users.unwrap_or_default()
    }

    /// The arguments that make a server listen on this port.
    pub(crate) fn port_args(&self, port: u16) -> Vec<String> {
        match &self.tls {
            Some(certificates) => tls::port_args(port, certificates),
            None => ["--port", &port.to_string()].map(str::to_owned).into(),
        }
    }

    /// Makes `redis-cli` get in as this user.
    pub(crate) fn admit(&self, cli: &mut Command, user: &str) {
        if self.is_guarded {
            cli.args(["--user", user]).env("REDISCLI_AUTH", PASSWORD);
        }
        if let Some(certificates) = &self.tls {
            cli.arg("--tls").arg("--cacert").arg(certificates.join("ca.pem"));
        }
    }
}
