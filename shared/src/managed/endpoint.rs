//! Where a managed server listens: a unix socket in its directory, or a loopback port when that path is too long.
//!
//! Invariant: other users of the machine cannot get in either way. The socket lies in a directory that is closed to
//! them; the port, open to everybody on the machine, asks for a random password that is new at each start.
//!
//! It does not listen on any outside address.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dir::DataDir;
use super::error::Error;

/// The address structure holds 108 bytes on Linux and 104 on macOS, the final zero included.
const LONGEST_SOCKET_PATH: usize = 100;

/// How a server is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(super) enum Endpoint {
    /// The socket in the data directory. Its path is not kept, so the directory may be moved.
    Socket,
    /// A port of 127.0.0.1.
    Loopback {
        /// The port.
        port: u16,
        /// What the server's `requirepass` says.
        password: String,
    },
}

impl Endpoint {
    /// Chooses one for a server that is about to start.
    pub(super) fn choose(dir: &DataDir) -> Result<Self, Error> {
        if dir.socket().as_os_str().len() <= LONGEST_SOCKET_PATH {
            return Ok(Self::Socket);
        }
        // Free now; somebody may still take it before the server does, so the caller tries again then.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(Error::at(dir.path()))?.port();
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Ok(Self::Loopback { port, password })
    }

    /// The URL for a Redis client; it contains the password if there is one.
    pub(super) fn url(&self, dir: &DataDir) -> String {
        match self {
            Self::Socket => format!("unix://{}", percent_encoded(&dir.socket())),
            Self::Loopback { port, password } => format!("redis://:{password}@127.0.0.1:{port}/"),
        }
    }

    /// How such a server names itself in a process list ("redis-server unixsocket:/path").
    pub(super) fn title(&self, dir: &DataDir) -> String {
        match self {
            Self::Socket => format!("unixsocket:{}", dir.socket().display()),
            Self::Loopback { port, .. } => format!("127.0.0.1:{port}"),
        }
    }
}

/// By hand, so that a password never gets into a log through `{:?}`.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket => f.write_str("Socket"),
            Self::Loopback { port, .. } => f.debug_struct("Loopback").field("port", port).finish_non_exhaustive(),
        }
    }
}

/// A path as the path of a URL: `?`, `#`, `%`, blanks and what is not ASCII are escaped.
fn percent_encoded(path: &Path) -> String {
    path.as_os_str()
        .as_bytes()
        .iter()
        .fold(String::new(), |mut text, &byte| {
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                write!(text, "%{byte:02X}").unwrap_or_default();
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_with_odd_characters_in_its_path_makes_a_url_that_the_client_reads_back() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("my data?#%ä")).unwrap();
        let url = Endpoint::choose(&dir).unwrap().url(&dir);
        let client = redis::Client::open(url).unwrap();
        let redis::ConnectionAddr::Unix(path) = client.get_connection_info().addr() else {
            panic!("{client:?} is no socket");
        };
        assert_eq!(*path, dir.socket());
    }

    #[test]
    fn a_path_too_long_for_a_socket_gets_a_port_and_a_password_that_no_log_shows() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::create(&temp.path().join("x".repeat(100))).unwrap();
        let endpoint = Endpoint::choose(&dir).unwrap();
        let Endpoint::Loopback { password, .. } = &endpoint else {
            panic!("{endpoint:?}")
        };
        assert_eq!(password.len(), 64);
        assert!(!format!("{endpoint:?}").contains(password));
        assert!(redis::Client::open(endpoint.url(&dir)).is_ok());
    }
}
