//! The suite over TLS: `WORKYARD_TEST_TLS=DIR`, where `test-authority DIR` made the certificates.
//!
//! Invariant: then servers have no port without TLS, and every client checks their certificate: `SSL_CERT_FILE` makes the
//! authority of the tests that of the system, for Rust, OpenSSL and `redis-cli` alike. So no program under test needs an
//! option more; what the options for certificates do is in `tls`, which runs always.

use std::path::{Path, PathBuf};

use workyard_shared::link::LinkConfig;

/// Environment variable with the directory of the certificates; empty or not there: no TLS.
pub const TLS_VARIABLE: &str = "WORKYARD_TEST_TLS";

/// Where clients find the authorities of the system.
const SYSTEM_VARIABLE: &str = "SSL_CERT_FILE";

/// The directory of the certificates; `None` if TLS is off.
///
/// # Panics
/// When programs would not take its authority for one of the system's.
pub fn tls_dir() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os(TLS_VARIABLE).filter(|dir| !dir.is_empty())?);
    let ca = dir.join("ca.pem");
    let system = std::env::var_os(SYSTEM_VARIABLE).map(PathBuf::from);
    assert!(
        dir.is_absolute() && system.as_deref() == Some(&*ca),
        "{TLS_VARIABLE} is {}: it must be an absolute path, and {SYSTEM_VARIABLE} its ca.pem",
        dir.display()
    );
    Some(dir)
}

/// A client of the redis crate itself for this address. Over TLS it trusts the authority of the tests: as Workyard builds
/// the crate, it does not look at the system's by itself.
///
/// # Panics
/// If it is no address.
pub fn redis_client(url: &str) -> redis::Client {
    // Nobody else may have chosen yet what TLS computes with.
    LinkConfig::from_url(url).unwrap_or_else(|e| panic!("{url} is no address: {e}"));
    let client = match tls_dir().filter(|_| url.starts_with("rediss")) {
        None => redis::Client::open(url),
        Some(dir) => {
            let certificates = redis::TlsCertificates {
                client_tls: None,
                root_cert: std::fs::read(dir.join("ca.pem")).ok(),
            };
            redis::Client::build_with_tls(url, certificates)
        }
    };
    client.unwrap_or_else(|e| panic!("{url} is no address: {e}"))
}

/// The arguments that make a server listen on this port, with TLS alone.
pub(crate) fn port_args(port: u16, dir: &Path) -> Vec<String> {
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    [
        ["--port", "0"],
        ["--tls-port", &port.to_string()],
        ["--tls-cert-file", &file("server.pem")],
        ["--tls-key-file", &file("server.key")],
        ["--tls-ca-cert-file", &file("ca.pem")],
        ["--tls-auth-clients", "no"],
        // To its master, and to those whom a sentinel watches.
        ["--tls-replication", "yes"],
    ]
    .concat()
    .iter()
    .map(ToString::to_string)
    .collect()
}
