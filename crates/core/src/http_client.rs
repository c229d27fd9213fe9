//! The trait for the gateway's own outbound HTTP requests: to identity providers, STS, webhooks and token endpoints.
//!
//! There is one trait for all of them, so that one implementation holds the rules for all: checked addresses, verified TLS, no
//! redirects. It is in this crate, without I/O, so that the crates that call it do not depend on the one that connects.

use bytes::Bytes;
use http::{Request, Response};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A response that is awaited.
pub type HttpFuture<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpClientError>> + Send + 'a>>;

/// Sends one request to the absolute URI that it names and reads the whole response, within the limits.
///
/// An implementation follows no redirect (it would carry a credential elsewhere), verifies TLS certificates, speaks plain
/// `http` to loopback addresses only, refuses every address that its configuration does not allow, and puts neither headers
/// nor bodies into the text of an error.
pub trait HttpClient: Send + Sync {
    fn send(&self, request: Request<Bytes>, limits: HttpLimits) -> HttpFuture<'_>;
}

/// The longest wait for a response, and the largest response that is read.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    pub timeout: Duration,
    pub max_response_bytes: usize,
}

/// Why there is no response. The text names the host and contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpClientError {
    #[error("`{0}` cannot be requested: {1}")]
    InvalidRequest(String, String),
    #[error("no response from `{host}` within {} s", timeout.as_secs())]
    TimedOut { host: String, timeout: Duration },
    #[error("{0}")]
    Failed(String),
}
