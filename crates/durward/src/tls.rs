//! Certificates and keys from PEM files: of the listener, and of those who vouch for an upstream.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// An acceptor that offers HTTP/1.1 only: SigV4 covers the Host header, which HTTP/2 does not have.
pub fn load_tls_acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: &Path,
) -> Result<tokio_rustls::TlsAcceptor, String> {
    let private = PrivateKeyDer::from_pem_slice(&crate::read_file(key)?)
        .map_err(|error| format!("{}: not a PEM private key: {error}", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| format!("{}: the key does not fit the certificate: {error}", key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// Every certificate of a PEM file; there is at least one.
pub fn load_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = crate::read_file(file)?;
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: not a PEM certificate: {error}", file.display()))?;
    if found.is_empty() {
        return Err(format!("{}: no PEM certificate in it", file.display()));
    }
    Ok(found)
}
