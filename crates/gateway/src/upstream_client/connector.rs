//! A connection to an origin: its addresses checked, its certificate verified, its protocol agreed upon.
//!
//! Addresses are checked after resolution and the checked address is the one dialled, so a name that resolves to a
//! metadata service, loopback or link-local address is refused whatever the name says.

use super::UpstreamError;
use super::public_address::is_public_address;
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

/// How long a name, a connection and its TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection that nothing was sent on.
pub(super) enum ConnectedStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The origin chose HTTP/2.
    TlsHttp2(Box<TlsStream<TcpStream>>),
}

pub(super) struct Connector {
    platform_tls: TlsConnector,
    /// Origins whose certificates come from authorities of their own.
    private_tls: HashMap<Origin, TlsConnector>,
    /// Configured by the operator: may be loopback or private.
    trusted_origins: Vec<Origin>,
    /// [`DIAL_TIME`], but in tests.
    pub connect_timeout: Duration,
}

impl Connector {
    pub fn new(trusted: Vec<Origin>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| error.to_string())?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self {
            platform_tls: tls_connector(config),
            private_tls: HashMap::new(),
            trusted_origins: trusted,
            connect_timeout: CONNECT_TIMEOUT,
        })
    }

    /// The certificate of `origin` must come from one of these authorities, and not from one that the platform knows.
    pub fn trust_only_authorities(
        &mut self,
        origin: Origin,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.private_tls.insert(origin, tls_connector(config));
        Ok(())
    }

    pub async fn connect(&self, origin: &Origin) -> Result<ConnectedStream, UpstreamError> {
        timeout(self.connect_timeout, self.connect_untimed(origin)).await.unwrap_or_else(|_elapsed| {
            let why = format!("no connection within {} seconds", self.connect_timeout.as_secs());
            Err(UpstreamError::Connect(origin.authority(), why))
        })
    }

    async fn connect_untimed(&self, origin: &Origin) -> Result<ConnectedStream, UpstreamError> {
        let named = || origin.authority();
        let refused =
            |error: &dyn std::fmt::Display| UpstreamError::Connect(origin.authority(), error.to_string());
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((origin.host.as_str(), origin.port))
            .await
            .map_err(|_error| UpstreamError::Resolve(named()))?
            .collect();
        let trusted = self.trusted_origins.contains(origin);
        let allowed: Vec<SocketAddr> =
            addresses.into_iter().filter(|address| trusted || is_public_address(address.ip())).collect();
        if allowed.is_empty() {
            return Err(UpstreamError::ForbiddenAddress(named()));
        }
        let stream = TcpStream::connect(allowed.as_slice()).await.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        if !origin.uses_tls {
            return Ok(ConnectedStream::Plain(stream));
        }
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| refused(&error))?;
        let tls = self.private_tls.get(origin).unwrap_or(&self.platform_tls);
        let stream = tls.connect(name, stream).await.map_err(|error| refused(&error))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Box::new(stream);
        Ok(if http2 { ConnectedStream::TlsHttp2(stream) } else { ConnectedStream::Tls(stream) })
    }
}

fn tls_connector(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}
