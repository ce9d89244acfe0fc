//! A password that may change: read from its file whenever a connection is made.
//!
//! Invariant: a connection that stands keeps what it logged in with; the next one takes what the file says then. No
//! error shows what was read.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use redis::RedisResult;
use redis::auth::{BasicAuth, StreamingCredentialsProvider};

use super::config::LinkConfig;
use crate::error::Error;
use crate::secret::Secret;

/// Where a password comes from.
#[derive(Debug, Clone)]
pub(super) enum Password {
    /// It was said.
    Text(Secret),
    /// It stands in a file.
    File(PathBuf),
}

/// What redis-rs asks for a login at each connection.
#[derive(Debug, Clone)]
pub(super) struct PasswordFile {
    user: String,
    path: PathBuf,
}

impl PasswordFile {
    fn read(&self) -> io::Result<Secret> {
        let told = |error: io::Error| {
            let text = format!("cannot read the password from {}: {error}", self.path.display());
            io::Error::new(error.kind(), text)
        };
        Secret::read(&self.path).map_err(told)
    }
}

impl StreamingCredentialsProvider for PasswordFile {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        let read = self.read().map_err(Into::into);
        let login = read.map(|password| BasicAuth::new(self.user.clone(), password.expose().to_owned()));
        // A stream that ended would be reported as a failure: there is just no news while the connection stands.
        Box::pin(stream::iter([login]).chain(stream::pending()))
    }
}

impl LinkConfig {
    /// Remembers where the password comes from and answers what it is now.
    pub(super) fn set_password(&mut self, user: Option<String>, password: Password) -> Result<Secret, Error> {
        match password {
            Password::Text(secret) => Ok(secret),
            Password::File(path) => {
                let user = user.unwrap_or_else(|| "default".to_owned());
                let file = PasswordFile { user, path };
                let secret = file.read().map_err(|error| Error::Invalid(error.to_string()))?;
                *self.password_file_mut() = Some(file);
                Ok(secret)
            }
        }
    }
}
