//! TLS to Redis: which authority to trust, and what to show if asked for a certificate.
//!
//! Invariant: files are read once for the process, not for each connection. The redis crate by itself reads all the system's
//! certificates each time it connects, some hundred files while everything else on that thread waits (33 ms were measured
//! in a debug build), and connects to nothing if one of them is broken. Built with `tls-rustls-webpki-roots` it reads none.

use std::path::Path;
use std::sync::{Once, OnceLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};
use rustls::RootCertStore;

use super::access::Access;
use crate::error::Error;

/// Chooses what TLS computes with, once for the process: nobody does if no object store was built in.
pub(super) fn prepare() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // Refused only if somebody chose before, which is as good.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    });
}

/// Adds the files to an address; none of them is read again.
pub(super) fn add_files(info: &mut ConnectionInfo, access: &Access) -> Result<(), Error> {
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    if is_tls {
        prepare();
    }
    let client_tls = match (&access.redis_cert, &access.redis_key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(cert)?,
            client_key: read(key)?,
        }),
        _ => {
            return Err(Error::Invalid(
                "--redis-cert and --redis-key are needed both, or none".to_owned(),
            ));
        }
    };
    if client_tls.is_none() && access.redis_ca.is_none() {
        return Ok(());
    }
    if !is_tls {
        return Err(Error::Invalid(
            "--redis-ca, --redis-cert and --redis-key are for TLS: the URL must begin with rediss://".to_owned(),
        ));
    }
    let root_cert = match access.redis_ca.as_deref().map(read).transpose()? {
        None => system().clone(),
        own => own,
    };
    let certificates = TlsCertificates { client_tls, root_cert };
    *info = with(info, certificates)
        .map_err(|error| Error::Invalid(format!("the files for TLS cannot be used: {error}")))?;
    Ok(())
}

/// The address with what TLS needs to know there: as it is if it knows, or is without TLS, else the system's authorities.
pub(super) fn trusting(info: &ConnectionInfo) -> ConnectionInfo {
    /// Any address: of interest is what it trusts.
    static TRUSTING: OnceLock<Option<ConnectionAddr>> = OnceLock::new();
    let ConnectionAddr::TcpTls { tls_params: None, .. } = info.addr() else {
        return info.clone();
    };
    let trusting = TRUSTING.get_or_init(|| {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(system().clone()?),
        };
        Some(with(info, certificates).ok()?.addr().clone())
    });
    let mut addr = info.addr().clone();
    if let ConnectionAddr::TcpTls { tls_params, .. } = &mut addr
        && let Some(ConnectionAddr::TcpTls { tls_params: found, .. }) = trusting
    {
        tls_params.clone_from(found);
    }
    info.clone().set_addr(addr)
}

/// The crate has no other way to the parsed form.
fn with(info: &ConnectionInfo, certificates: TlsCertificates) -> redis::RedisResult<ConnectionInfo> {
    let parsed = Client::build_with_tls(info.clone(), certificates)?;
    Ok(info.clone().set_addr(parsed.get_connection_info().addr().clone()))
}

/// The certificates of the authorities that the system trusts, as the crate wants them; `None` if it has none that can be
/// used, as in an empty container: then those that Mozilla trusted when this was built are taken.
fn system() -> &'static Option<Vec<u8>> {
    static CERTIFICATES: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut pem = String::new();
        for certificate in found.certs {
            // One that cannot be used would spoil all.
            if RootCertStore::empty().add(certificate.clone()).is_ok() {
                let text = BASE64_STANDARD.encode(&certificate);
                pem.push_str(&format!(
                    "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
                ));
            }
        }
        if let Some(error) = found.errors.first() {
            tracing::debug!(%error, "a certificate of the system cannot be read");
        }
        (!pem.is_empty()).then(|| pem.into_bytes())
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Invalid(format!("cannot read {}: {error}", path.display())))
}
