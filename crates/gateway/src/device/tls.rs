//! TLS for devices, with a certificate that can be renewed while they are connected.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key, from two PEM files.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// What is wrong, and with which file.
    pub fn open(certificate: &Path, key: &Path) -> io::Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = RwLock::new(Arc::new(read(certificate, key, &provider)?));
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Arc::new(Self { certificate, key, provider, current }))
    }

    /// What listeners take: connections that begin from now on get the certificate that is there by then.
    ///
    /// # Errors
    /// If the cryptography in use has no version of TLS that is safe.
    pub fn server_config(self: &Arc<Self>) -> io::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        Ok(Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver)))
    }

    /// Reads both files anew, and says whether the certificate is another one.
    ///
    /// # Errors
    /// As with [`Tls::open`]; the one that was there stays.
    pub fn read_again(&self) -> io::Result<bool> {
        let newer = read(&self.certificate, &self.key, &self.provider)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = newer.cert != current.cert;
        *current = Arc::new(newer);
        Ok(is_other)
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Refuses a key that is another certificate's, too.
fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
    let invalid = |path: &Path, error: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let open = |path: &Path| {
        File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    };
    let chain = CertificateDer::pem_reader_iter(BufReader::new(open(certificate)?))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| invalid(certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(invalid(certificate, "there is no certificate in it".to_owned()));
    }
    let key_der = PrivateKeyDer::from_pem_reader(BufReader::new(open(key)?))
        .map_err(|e| invalid(key, e.to_string()))?;
    CertifiedKey::from_der(chain, key_der, provider).map_err(|e| invalid(certificate, e.to_string()))
}
