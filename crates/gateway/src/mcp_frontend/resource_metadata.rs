//! Protected resource metadata (RFC 9728): tells a client without a token which issuers it can get one from.

use super::{McpFrontEnd, SERVER_PATH_PREFIX, plain_response};
use crate::body::{BoxBody, full_body};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

/// The well-known path comes between host and path of the resource (RFC 9728 section 3.1).
const METADATA_PATH_PREFIX: &str = "/.well-known/oauth-protected-resource/mcp/";

/// The server whose metadata is at this path.
pub(super) fn server_from_path(path: &str) -> Option<&str> {
    path.strip_prefix(METADATA_PATH_PREFIX)
}

/// The URL of the metadata of a server.
pub(super) fn metadata_url(base_url: &str, server: &str) -> String {
    format!("{base_url}{METADATA_PATH_PREFIX}{server}")
}

/// The metadata for any well-formed server name: only callers who may use a server learn whether it exists.
pub(super) fn metadata_response(
    front_end: &McpFrontEnd,
    request: &Request<Incoming>,
    server: &str,
) -> Response<BoxBody> {
    if request.method() != Method::GET {
        let mut response = plain_response(StatusCode::METHOD_NOT_ALLOWED, "metadata is fetched with GET");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let metadata = serde_json::json!({
        "resource": format!("{}{SERVER_PATH_PREFIX}{server}", front_end.client_facing_url.for_host(host)),
        "authorization_servers": front_end.token_issuers,
        "bearer_methods_supported": ["header"],
    });
    let mut response = Response::new(full_body(metadata.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The document repeats the Host header, which a client chooses: a shared cache would serve it to others (cache poisoning).
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
