//! The transport in the shapes that the identity and credential rooms ask for.

use crate::transport::{Origin, Transport};
use bytes::Bytes;
use durward_identity::{Fetch, Fetched};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Largest answer of an identity provider or of STS, in bytes.
const ANSWER: usize = 1 << 20;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way out for small calls of the gateway itself.
pub struct Outward(pub Arc<Transport>);

impl Outward {
    async fn call(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let url: Uri = request.uri().clone();
        let origin = Origin::of(&url).ok_or_else(|| format!("`{url}` is not an http or https URL"))?;
        let target = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        *request.uri_mut() = target.parse().map_err(|_error| format!("`{url}` has no usable path"))?;
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::from_str(&origin.authority()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(header::HOST, host);
        }
        tokio::time::timeout(PATIENCE, self.0.call(&origin, request, ANSWER))
            .await
            .map_err(|_elapsed| format!("`{}` did not answer within 10 seconds", origin.authority()))?
            .map_err(|error| error.to_string())
    }
}

impl Fetch for Outward {
    fn get<'a>(&'a self, url: &'a str) -> Pending<'a, Fetched> {
        Box::pin(async move {
            let mut request = Request::new(Bytes::new());
            *request.method_mut() = Method::GET;
            *request.uri_mut() = url.parse().map_err(|_error| format!("`{url}` is not a URL"))?;
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            let response = self.call(request).await?;
            let cache_control = response
                .headers()
                .get(header::CACHE_CONTROL)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            Ok(Fetched { status: response.status().as_u16(), cache_control, body: response.into_body() })
        })
    }
}

impl durward_credential::Transport for Outward {
    fn send(&self, request: Request<Bytes>) -> Pending<'_, Response<Bytes>> {
        Box::pin(self.call(request))
    }
}
