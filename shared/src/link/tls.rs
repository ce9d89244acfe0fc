//! TLS to Redis: which authority to trust, and what to show if asked for a certificate.

use std::path::Path;
use std::sync::Once;

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};

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
    let root_cert = access.redis_ca.as_deref().map(read).transpose()?;
    let certificates = TlsCertificates { client_tls, root_cert };
    // The crate has no other way to the parsed form.
    let parsed = Client::build_with_tls(info.clone(), certificates)
        .map_err(|error| Error::Invalid(format!("the files for TLS cannot be used: {error}")))?;
    *info = info.clone().set_addr(parsed.get_connection_info().addr().clone());
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Invalid(format!("cannot read {}: {error}", path.display())))
}
