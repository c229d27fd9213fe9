//! Certificates and keys from PEM files: those of the listeners, and the authorities of an upstream.

use crate::input_files::{FileError, read_file};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a PEM file cannot be used. No text holds a part of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a PEM private key: {error}", path.display())]
    InvalidKey { path: PathBuf, error: pem::Error },
    #[error("{}: not a PEM certificate: {error}", path.display())]
    InvalidCertificate { path: PathBuf, error: pem::Error },
    #[error("{}: the file has no PEM certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: the key does not belong to the certificate: {error}", path.display())]
    KeyMismatch { path: PathBuf, error: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// An acceptor that offers HTTP/1.1 only. SigV4 signs the `Host` header, which HTTP/2 replaces with `:authority` (RFC 9113,
/// section 8.3.1).
pub fn load_tls_acceptor(
    chain: Vec<CertificateDer<'static>>,
    key_file: &Path,
) -> Result<tokio_rustls::TlsAcceptor, TlsFileError> {
    let path = key_file.to_owned();
    let key = PrivateKeyDer::from_pem_slice(&read_file(key_file)?)
        .map_err(|error| TlsFileError::InvalidKey { path: path.clone(), error })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        // TLS 1.2 and 1.3: rustls implements nothing older (RFC 8996 deprecates TLS 1.0 and 1.1).
        .with_safe_default_protocol_versions()
        .map_err(TlsFileError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| TlsFileError::KeyMismatch { path, error })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// Every certificate of a PEM file. There is at least one.
pub fn load_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = read_file(file)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsFileError::InvalidCertificate { path: file.to_owned(), error })?;
    if certificates.is_empty() {
        return Err(TlsFileError::NoCertificate { path: file.to_owned() });
    }
    Ok(certificates)
}
