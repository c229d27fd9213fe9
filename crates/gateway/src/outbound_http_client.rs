//! The gateway's own HTTP calls, to identity providers, STS, metadata services, token endpoints and webhooks, sent with the
//! upstream client: its address checks and its TLS verification apply to them too.

use crate::upstream_client::UpstreamClient;
use bytes::Bytes;
use durward_core::{HttpClient, HttpClientError, HttpFuture, HttpLimits, Origin};
use http::{HeaderValue, Request, Response, header};
use std::sync::Arc;

/// The one implementation of [`HttpClient`] in the gateway.
pub struct OutboundHttpClient(pub Arc<UpstreamClient>);

impl OutboundHttpClient {
    async fn send_buffered(
        &self,
        mut request: Request<Bytes>,
        limits: HttpLimits,
    ) -> Result<Response<Bytes>, HttpClientError> {
        let url = request.uri().clone();
        // The error names the host alone: the path of a webhook's URL is a secret.
        let invalid = |reason: &str| {
            HttpClientError::InvalidRequest(url.host().unwrap_or_default().to_owned(), reason.to_owned())
        };
        let origin = Origin::from_uri(&url).ok_or_else(|| invalid("its URL is neither http nor https"))?;
        let host = origin.authority();
        let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        *request.uri_mut() = target.parse().map_err(|_error| invalid("its URL has no usable path"))?;
        if !request.headers().contains_key(header::HOST) {
            let value =
                HeaderValue::from_str(&host).map_err(|_error| invalid("it is not a plain host name"))?;
            request.headers_mut().insert(header::HOST, value);
        }
        let response = self.0.send_buffered(&origin, request, limits.max_response_bytes);
        match tokio::time::timeout(limits.timeout, response).await {
            Ok(result) => result.map_err(|error| HttpClientError::Failed(error.to_string())),
            Err(_elapsed) => Err(HttpClientError::TimedOut { host, timeout: limits.timeout }),
        }
    }
}

impl HttpClient for OutboundHttpClient {
    fn send(&self, request: Request<Bytes>, limits: HttpLimits) -> HttpFuture<'_> {
        Box::pin(self.send_buffered(request, limits))
    }
}
