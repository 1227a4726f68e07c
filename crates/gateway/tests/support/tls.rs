//! A certificate of our own, and both ends of TLS with it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsConnector;

pub struct Certificate {
    pub file: PathBuf,
    pub key_file: PathBuf,
    pub der: CertificateDer<'static>,
}

impl Certificate {
    /// For `localhost` and 127.0.0.1; `name` tells tests apart that run at once.
    pub fn new(name: &str) -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued = rcgen::generate_simple_self_signed(names).unwrap();
        let folder = std::env::temp_dir().join(format!("evenkeel-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&file, issued.cert.pem()).unwrap();
        std::fs::write(&key_file, issued.signing_key.serialize_pem()).unwrap();
        Self { file, key_file, der: issued.cert.der().clone() }
    }

    /// A client that trusts it, and nothing else.
    pub fn connector(&self) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.file.parent().unwrap());
    }
}
