//! Where an HTTP server of ours listens.
//!
//! Invariant: a bare port is one of loopback; whoever wants others to reach it has to write that down.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::error::Error;

/// An address to listen on, or to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(SocketAddr);

impl Address {
    /// The address.
    #[must_use]
    pub fn socket(self) -> SocketAddr {
        self.0
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        self.0.ip().is_loopback()
    }

    /// Where a client on this machine reaches a server that listens here: one on all interfaces by loopback.
    #[must_use]
    pub fn to_ask(self) -> SocketAddr {
        let ip = match self.0.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, self.0.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        let named = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse::<u16>().ok());
        if let Some(port) = named {
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self).map_err(|_| {
            Error::Invalid(format!(
                "{text:?} must be a port (of 127.0.0.1), or address and port: 9464, 0.0.0.0:9464, [::1]:9464"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn a_bare_port_is_loopback_and_everything_else_is_an_address() {
        let table = [
            ("9464", "127.0.0.1:9464", true, "127.0.0.1:9464"),
            ("localhost:80", "127.0.0.1:80", true, "127.0.0.1:80"),
            ("0.0.0.0:80", "0.0.0.0:80", false, "127.0.0.1:80"),
            ("[::]:80", "[::]:80", false, "[::1]:80"),
            ("[::1]:80", "[::1]:80", true, "[::1]:80"),
        ];
        for (text, address, loopback, ask) in table {
            let read: Address = text.parse().unwrap();
            assert_eq!(
                (read.to_string().as_str(), read.is_loopback()),
                (address, loopback),
                "{text}"
            );
            assert_eq!(read.to_ask().to_string(), ask, "{text}");
        }
        for bad in [
            "",
            "70000",
            ":9464",
            "example.org:80",
            "127.0.0.1",
            "http://127.0.0.1:80",
        ] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("0.0.0.0:9464"), "{error}");
        }
    }
}
