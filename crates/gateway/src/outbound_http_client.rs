//! The transport in the shapes that the identity and credential rooms ask for.

use crate::upstream_client::UpstreamClient;
use bytes::Bytes;
use durward_core::Origin;
use durward_identity::{FetchedDocument, ProviderHttpClient};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type HttpFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Largest answer of an identity provider or of STS, in bytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// Longest wait for one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The way out for small calls of the gateway itself.
pub struct OutboundHttpClient(pub Arc<UpstreamClient>);

impl OutboundHttpClient {
    async fn send_with_timeout(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let url: Uri = request.uri().clone();
        let origin = Origin::from_uri(&url).ok_or_else(|| format!("`{url}` is not an http or https URL"))?;
        let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        *request.uri_mut() = target.parse().map_err(|_error| format!("`{url}` has no usable path"))?;
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::from_str(&origin.authority()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(header::HOST, host);
        }
        tokio::time::timeout(REQUEST_TIMEOUT, self.0.send_buffered(&origin, request, MAX_RESPONSE_BYTES))
            .await
            .map_err(|_elapsed| format!("`{}` did not answer within 10 seconds", origin.authority()))?
            .map_err(|error| error.to_string())
    }
}

impl ProviderHttpClient for OutboundHttpClient {
    fn get<'a>(&'a self, url: &'a str) -> HttpFuture<'a, FetchedDocument> {
        Box::pin(async move {
            let mut request = Request::new(Bytes::new());
            *request.method_mut() = Method::GET;
            *request.uri_mut() = url.parse().map_err(|_error| format!("`{url}` is not a URL"))?;
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            let response = self.send_with_timeout(request).await?;
            let cache_control = response
                .headers()
                .get(header::CACHE_CONTROL)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            Ok(FetchedDocument {
                status: response.status().as_u16(),
                cache_control,
                body: response.into_body(),
            })
        })
    }
}

impl durward_credential::HttpClient for OutboundHttpClient {
    fn send(&self, request: Request<Bytes>) -> HttpFuture<'_, Response<Bytes>> {
        Box::pin(self.send_with_timeout(request))
    }
}
