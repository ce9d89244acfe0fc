//! Certificates made for one test: an authority, what it signed for a server on 127.0.0.1, and for a client.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// An authority and what it signed, as PEM files in a directory of their own.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

impl Authority {
    /// Makes one that nobody knows yet.
    ///
    /// # Panics
    /// When the files cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("no temporary directory: {e}"));
        write_certificates(dir.path()).unwrap_or_else(|e| panic!("no certificates: {e}"));
        Self { dir }
    }

    /// Its own certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Certificate and key of `server` or `client`.
    #[must_use]
    pub fn pair(&self, name: &str) -> [PathBuf; 2] {
        [self.file(&format!("{name}.pem")), self.file(&format!("{name}.key"))]
    }

    /// What a server speaks TLS with, by its certificate.
    ///
    /// # Panics
    /// When the files cannot be read.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let [certificate, key] = self.pair("server");
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain: Vec<_> = chain.unwrap_or_else(|e| panic!("no certificate: {e}"));
        let key = PrivateKeyDer::from_pem_file(key).unwrap_or_else(|e| panic!("no key: {e}"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        TlsAcceptor::from(Arc::new(config.unwrap_or_else(|e| panic!("no TLS: {e}"))))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes `ca.pem`, and `server.pem`, `server.key`, `client.pem` and `client.key` that it signed.
///
/// # Errors
/// If the files cannot be made.
pub fn write_certificates(dir: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Two of the same name would be taken for one: OpenSSL looks an issuer up by its name.
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority of tests");
    let key = KeyPair::generate()?;
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        std::fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}
