//! Opens a connection to an origin: checks its addresses, verifies its certificate and negotiates the protocol.
//!
//! Addresses are checked after resolution, and the checked address is the one that is connected to: DNS cannot change between the
//! check and the use (DNS rebinding). A name that resolves to a loopback or private address is refused unless its origin is trusted,
//! and one that resolves to a metadata service always.

use super::public_address::{is_metadata_address, is_public_address};
use super::{UpstreamError, UpstreamSetupError};
use durward_core::Origin;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
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
        let allowed: Vec<SocketAddr> = addresses
            .into_iter()
            .filter(|address| is_allowed_address(&origin.host, address.ip(), is_trusted))
            .collect();
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

/// Returns true if a host may have this address. A trusted origin may be in a private network; no name, whoever owns it today, leads
/// to a metadata service, which gives credentials to whoever asks. Only an address that is written out does.
fn is_allowed_address(host: &str, address: IpAddr, is_trusted: bool) -> bool {
    is_public_address(address)
        || (is_trusted && (!is_metadata_address(address) || host.parse::<IpAddr>().is_ok()))
}

fn tls_connector(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_written_address_leads_to_a_metadata_service() {
        for (host, address, is_trusted, expected) in [
            ("mcp.example.com", "52.94.236.248", false, true),
            ("mcp.internal", "10.0.0.1", false, false),
            ("mcp.internal", "10.0.0.1", true, true),
            ("mcp.internal", "127.0.0.1", true, true),
            ("mcp.internal", "fd12::1", true, true),
            ("mcp.internal", "169.254.169.254", true, false),
            ("mcp.internal", "::ffff:169.254.169.254", true, false),
            ("mcp.internal", "fd00:ec2::254", true, false),
            ("mcp.internal", "fe80::1", true, false),
            ("mcp.internal", "100.100.100.200", true, false),
            ("169.254.170.2", "169.254.170.2", true, true),
            ("fd00:ec2::254", "fd00:ec2::254", true, true),
            ("169.254.169.254", "169.254.169.254", false, false),
        ] {
            let allowed = is_allowed_address(host, address.parse().unwrap(), is_trusted);
            assert_eq!(allowed, expected, "{host} {address} {is_trusted}");
        }
    }
}
