//! Where a server of a cluster or behind Sentinel is.

use redis::{ConnectionAddr, ConnectionInfo};

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// Reads `host:port`. A server that names only the port means its own host.
    pub(super) fn read(text: &str, own_host: &str) -> Option<Self> {
        // From the right: an IPv6 address has colons, too.
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::named(host, port.parse().ok()?, own_host))
    }

    /// `host` as a server names it: nothing, or `?`, is its own.
    pub(super) fn named(host: &str, port: u16, own_host: &str) -> Self {
        let host = if host.is_empty() || host == "?" { own_host } else { host };
        Self {
            host: host.to_owned(),
            port,
        }
    }

    /// That of a connection; `None` for a socket.
    pub(super) fn of(addr: &ConnectionAddr) -> Option<Self> {
        match addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some(Self {
                host: host.clone(),
                port: *port,
            }),
            _ => None,
        }
    }

    /// A connection to here that is like `model` in everything else, TLS included.
    pub(super) fn like(&self, model: &ConnectionInfo) -> ConnectionInfo {
        let mut addr = model.addr().clone();
        match &mut addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                self.host.clone_into(host);
                *port = self.port;
            }
            _ => {}
        }
        model.clone().set_addr(addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::IntoConnectionInfo;

    #[test]
    fn a_server_that_names_no_host_means_its_own() {
        let read = |text| Address::read(text, "db1").map(|found| found.to_string());
        assert_eq!(read("10.0.0.1:7000").as_deref(), Some("10.0.0.1:7000"));
        assert_eq!(read(":7000").as_deref(), Some("db1:7000"));
        assert_eq!(read("?:7000").as_deref(), Some("db1:7000"));
        assert_eq!(read("::1:7000").as_deref(), Some("::1:7000"));
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn user_and_database_go_along_to_another_address() {
        let model = "redis://u:p@a:1/3".into_connection_info().unwrap();
        let other = Address::read("b:2", "").unwrap().like(&model);
        assert_eq!(other.addr().to_string(), "b:2");
        assert_eq!(
            (other.redis_settings().username(), other.redis_settings().db()),
            (Some("u"), 3)
        );
    }
}
