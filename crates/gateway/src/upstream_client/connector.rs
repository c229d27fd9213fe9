//! Opens a connection to an origin: checks its addresses, verifies its certificate and negotiates the protocol.
//!
//! Addresses are checked after resolution, and the checked address is the one that is connected to: DNS cannot change between the
//! check and the use (DNS rebinding). A name that resolves to a metadata service, loopback or link-local address is refused.

use super::public_address::is_public_address;
use super::{UpstreamError, UpstreamSetupError};
use durward_core::Origin;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The time that resolution, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection on which nothing was sent yet.
pub(super) enum ConnectedStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The origin selected HTTP/2 (ALPN).
    TlsHttp2(Box<TlsStream<TcpStream>>),
}

pub(super) struct Connector {
    platform_tls: TlsConnector,
    /// Origins with certificate authorities of their own.
    private_tls: HashMap<Origin, TlsConnector>,
    /// Configured by the operator: they may resolve to loopback or private addresses.
    trusted_origins: Vec<Origin>,
    /// [`CONNECT_TIMEOUT`], except in tests.
    pub connect_timeout: Duration,
}

impl Connector {
    pub fn new(trusted_origins: Vec<Origin>) -> Result<Self, UpstreamSetupError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls_platform_verifier::Verifier::new(provider.clone())?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self {
            platform_tls: tls_connector(config),
            private_tls: HashMap::new(),
            trusted_origins,
            connect_timeout: CONNECT_TIMEOUT,
        })
    }

    /// Accepts a certificate of `origin` only from one of `authorities`, and not from those that the platform trusts.
    pub fn trust_only_authorities(
        &mut self,
        origin: Origin,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<(), UpstreamSetupError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.private_tls.insert(origin, tls_connector(config));
        Ok(())
    }

    pub async fn connect(&self, origin: &Origin) -> Result<ConnectedStream, UpstreamError> {
        timeout(self.connect_timeout, self.connect_untimed(origin)).await.unwrap_or_else(|_elapsed| {
            let reason = format!("no connection within {} seconds", self.connect_timeout.as_secs());
            Err(UpstreamError::Connect(origin.authority(), reason))
        })
    }

    async fn connect_untimed(&self, origin: &Origin) -> Result<ConnectedStream, UpstreamError> {
        let authority = || origin.authority();
        let connect_error =
            |error: &dyn std::fmt::Display| UpstreamError::Connect(origin.authority(), error.to_string());
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((origin.host.as_str(), origin.port))
            .await
            .map_err(|_error| UpstreamError::Resolve(authority()))?
            .collect();
        let is_trusted = self.trusted_origins.contains(origin);
        let allowed: Vec<SocketAddr> =
            addresses.into_iter().filter(|address| is_trusted || is_public_address(address.ip())).collect();
        if allowed.is_empty() {
            return Err(UpstreamError::ForbiddenAddress(authority()));
        }
        let stream = TcpStream::connect(allowed.as_slice()).await.map_err(|error| connect_error(&error))?;
        // Heads and small bodies are written whole. Nagle's algorithm would hold the body back until the head is acknowledged.
        stream.set_nodelay(true).map_err(|error| connect_error(&error))?;
        if !origin.uses_tls {
            return Ok(ConnectedStream::Plain(stream));
        }
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| connect_error(&error))?;
        let tls = self.private_tls.get(origin).unwrap_or(&self.platform_tls);
        let stream = tls.connect(name, stream).await.map_err(|error| connect_error(&error))?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Box::new(stream);
        Ok(if is_http2 { ConnectedStream::TlsHttp2(stream) } else { ConnectedStream::Tls(stream) })
    }
}

fn tls_connector(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}
