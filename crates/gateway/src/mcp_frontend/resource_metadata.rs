//! Protected resource metadata (RFC 9728): where a client without a token learns who issues one.

use super::{McpFrontEnd, SERVER_PATH_PREFIX, plain_response};
use crate::body::{BoxBody, full_body};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

/// The well-known path is put between host and path of the resource (RFC 9728 section 3.1).
const METADATA_PATH_PREFIX: &str = "/.well-known/oauth-protected-resource/mcp/";

/// The server whose metadata a path is.
pub(super) fn server_from_path(path: &str) -> Option<&str> {
    path.strip_prefix(METADATA_PATH_PREFIX)
}

/// Where the metadata of a server is.
pub(super) fn metadata_url(door: &str, server: &str) -> String {
    format!("{door}{METADATA_PATH_PREFIX}{server}")
}

/// The metadata of any well-formed name: whether a server exists is told to those who may use it.
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
    // It says the host that was asked for, which is the asker's word.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
