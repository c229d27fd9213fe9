//! Checks and headers that apply to every page: security headers for the browser, the host name that the console serves, and the
//! proof that a form was sent from one of the console's own pages.

use crate::state::ConsoleState;
use aws_lc_rs::constant_time;
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
};
use durward_core::Origin;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use std::sync::Arc;

/// Only the console's own origin may be loaded, sent to or framed, and no inline script or style runs: markup that slips
/// through escaping stays inert.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Serves pages under the console's own host name only.
///
/// A foreign name that resolves to the console (DNS rebinding) would make its pages same-origin with an attacker's. A GET is
/// redirected to the right name, so that cookies are set for the name to which the identity provider sends users back.
pub async fn require_console_host(
    State(state): State<Arc<ConsoleState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    if is_console_host(request.headers(), &state.origin) {
        return next.run(request).await;
    }
    let mut response = Response::new(Body::empty());
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let location = HeaderValue::from_str(&format!("{}{target}", state.origin));
    match location {
        // A path like `//evil.example` cannot lead elsewhere, because the console's own origin precedes it.
        Ok(location) if request.method() == Method::GET || request.method() == Method::HEAD => {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(header::LOCATION, location);
        }
        _ => {
            *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
            *response.body_mut() = Body::from(format!("the console is at {}\n", state.origin));
        }
    }
    response
}

fn is_console_host(headers: &HeaderMap, origin: &Origin) -> bool {
    // Exactly one: of two `Host` headers, a proxy and the console could read different ones (RFC 9112 section 3.2 requires a
    // refusal).
    let Ok(Some(host)) = single_header(headers, &header::HOST) else { return false };
    let scheme = if origin.uses_tls { "https" } else { "http" };
    // Parsed as an origin, so that case and an explicit default port make no difference.
    !host.contains('/') && format!("{scheme}://{host}").parse().as_ref() == Ok(origin)
}

/// Sets the security headers of every response.
pub async fn set_security_headers(
    State(state): State<Arc<ConsoleState>>,
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
    // Clickjacking: a page in a frame could be laid under another one, so that a click elsewhere casts a vote. `frame-ancestors`
    // says the same to newer browsers.
    set(header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: with it, browsers send `Origin: null` with the console's own forms (Fetch standard, "append a
    // request `Origin` header"), and `verify_form` would refuse them.
    set(header::REFERRER_POLICY, "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    );
    if state.origin.uses_tls {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        // Pages hold the operations of others: after the sign-out, the back button of a shared machine must not show them.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Why a form is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the header `{0}` is not text")]
    HeaderNotText(HeaderName),
    #[error("the header `{0}` occurs twice")]
    DuplicateHeader(HeaderName),
    #[error("the browser did not say which page sent the form (Origin)")]
    NoOrigin,
    #[error("the form was sent from a page that is not the console's")]
    ForeignOrigin,
    #[error("the form was sent from another site")]
    CrossSite,
    #[error("this page belongs to another sign-in")]
    WrongToken,
}

/// Verifies that a form was sent by one of the console's own pages, in the login it claims.
///
/// Two independent proofs against cross-site request forgery: the browser's own statement about the sender (`Origin`,
/// `Sec-Fetch-Site`), and a token that only pages of this login contain.
pub fn verify_form(
    own_origin: &Origin,
    headers: &HeaderMap,
    expected_token: &str,
    token: &str,
) -> Result<(), FormError> {
    let origin = single_header(headers, &header::ORIGIN)?;
    let site = single_header(headers, &HeaderName::from_static("sec-fetch-site"))?;
    if origin.is_none() && site.is_none() {
        return Err(FormError::NoOrigin);
    }
    if origin.is_some_and(|origin| origin.parse().as_ref() != Ok(own_origin)) {
        return Err(FormError::ForeignOrigin);
    }
    if site.is_some_and(|site| site != "same-origin") {
        return Err(FormError::CrossSite);
    }
    // In constant time: the comparison must not reveal how many bytes of a guess are right.
    if constant_time::verify_slices_are_equal(expected_token.as_bytes(), token.as_bytes()).is_err() {
        return Err(FormError::WrongToken);
    }
    Ok(())
}

fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, FormError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_not_text| FormError::HeaderNotText(name.clone()))
        }
        _ => Err(FormError::DuplicateHeader(name.clone())),
    }
}
