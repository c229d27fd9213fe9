//! What stands in front of every page: the headers that keep a browser from running or framing anything, the name the
//! console answers to, and the proof that a form was sent from one of our own pages.

use crate::ConsoleState;
use aws_lc_rs::constant_time;
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use std::sync::Arc;

/// Nothing is loaded, sent or framed but by ourselves, and no script or style stands in a page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Scheme, host and port, in lower case and without the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleOrigin {
    pub is_tls: bool,
    pub authority: String,
}

impl ConsoleOrigin {
    /// From a URL that is nothing more than an origin.
    pub fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !url.contains(['#', '@']);
        let authority = uri.authority()?.as_str();
        bare.then(|| Self { is_tls: tls, authority: normalize_authority(authority, tls) })
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.authority)
    }
}

fn normalize_authority(authority: &str, tls: bool) -> String {
    let lower = authority.to_ascii_lowercase();
    lower.strip_suffix(if tls { ":443" } else { ":80" }).map_or(lower.clone(), str::to_owned)
}

/// A page is served only under the console's own name: a foreign name that was made to resolve to us gets nothing, and
/// cookies are always set for the name that the identity provider sends people back to.
pub async fn require_console_host(
    State(inner): State<Arc<ConsoleState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    if host.is_some_and(|host| normalize_authority(host, inner.origin.is_tls) == inner.origin.authority) {
        return next.run(request).await;
    }
    let mut response = Response::new(Body::empty());
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let there = HeaderValue::from_str(&format!("{}{target}", inner.origin.url()));
    match there {
        // `//host` as a path cannot lead away: what stands before it is our own origin.
        Ok(there) if request.method() == Method::GET || request.method() == Method::HEAD => {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(header::LOCATION, there);
        }
        _ => {
            *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
            *response.body_mut() = Body::from(format!("the console is at {}\n", inner.origin.url()));
        }
    }
    response
}

/// Sets the headers of every answer.
pub async fn set_security_headers(
    State(inner): State<Arc<ConsoleState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    set(header::REFERRER_POLICY, "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    );
    if inner.origin.is_tls {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether a form was sent by one of our own pages in the session it claims: the browser's word on where it comes from, and
/// the token that only our pages of this session hold.
pub fn verify_form(
    inner: &ConsoleState,
    headers: &HeaderMap,
    expected: &str,
    given: &str,
) -> Result<(), &'static str> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_error| "a header is not text"),
            _ => Err("a header is there twice"),
        }
    };
    let origin = one(&header::ORIGIN)?;
    let site = one(&HeaderName::from_static("sec-fetch-site"))?;
    if origin.is_none() && site.is_none() {
        return Err("the browser did not say which page sent the form (Origin)");
    }
    if origin.is_some_and(|origin| ConsoleOrigin::parse(origin).as_ref() != Some(&inner.origin)) {
        return Err("the form was sent from a page that is not the console's");
    }
    if site.is_some_and(|site| site != "same-origin") {
        return Err("the form was sent from another site");
    }
    if constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_err() {
        return Err("the form is not from this session");
    }
    Ok(())
}
