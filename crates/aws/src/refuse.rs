//! Refusals as AWS errors: each reason in the protocol of the request, so that an SDK raises its typed error with our
//! message. A denial never has a status or a code that an SDK retries; only an overloaded or failing gateway has.

mod body;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use durward_catalog::{Protocol, Service};
use durward_core::{Reason, Refusal};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;

/// In which protocol an error is written. Built from what is known: the decoded request, or a guess from its head.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    pub protocol: Option<Protocol>,
    pub service: Option<Arc<Service>>,
    /// The error is for S3 itself, whose errors have a shape of their own.
    pub s3: bool,
    /// The error is for a sign-in at STS, which knows codes of its own. A signed call of STS is one as of any service.
    pub sign_in: bool,
}

impl Wire {
    /// The wire of a request whose service and protocol are known.
    pub fn known(service: &Arc<Service>, protocol: Protocol) -> Self {
        Self {
            protocol: Some(protocol),
            s3: service.id == "s3",
            sign_in: false,
            service: Some(Arc::clone(service)),
        }
    }

    /// A guess from the head, for the shape of an error only. `signing_name` is the service of the credential scope, verified or
    /// not.
    pub fn guess(
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        signing_name: Option<&str>,
    ) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let rest = |protocol| Self { protocol: Some(protocol), ..Self::default() };
        if headers.contains_key("smithy-protocol") || media.starts_with("application/cbor") {
            return rest(Protocol::RpcV2Cbor);
        }
        if headers.contains_key("x-amz-target") || media.starts_with("application/x-amz-json-") {
            let one = media.starts_with("application/x-amz-json-1.0");
            return rest(if one { Protocol::Json10 } else { Protocol::Json11 });
        }
        match signing_name {
            Some("s3" | "s3express" | "s3-outposts" | "s3-object-lambda") => {
                return Self { protocol: Some(Protocol::RestXml), s3: true, ..Self::default() };
            }
            Some("ec2") => return rest(Protocol::Ec2),
            Some("route53" | "cloudfront") => return rest(Protocol::RestXml),
            _ => {}
        }
        let form = media.starts_with("application/x-www-form-urlencoded");
        let action = query.split('&').any(|pair| pair.starts_with("Action="));
        if form || action {
            // Without a scope a form is a sign-in: only STS takes unsigned ones.
            return Self {
                protocol: Some(Protocol::Query),
                sign_in: signing_name.is_none(),
                ..Self::default()
            };
        }
        if media.starts_with("application/json") || signing_name.is_some() {
            return rest(Protocol::RestJson);
        }
        let like_s3 =
            matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE) || path != "/";
        if like_s3 {
            return Self { protocol: Some(Protocol::RestXml), s3: true, ..Self::default() };
        }
        rest(Protocol::RestJson)
    }

    fn protocol(&self) -> Protocol {
        self.protocol
            .or_else(|| self.service.as_ref()?.protocols.first().copied())
            .unwrap_or(Protocol::RestJson)
    }

    /// Protocols whose codes are spelt `AccessDenied` rather than `AccessDeniedException`.
    fn short_codes(&self) -> bool {
        matches!(self.protocol(), Protocol::Query | Protocol::Ec2 | Protocol::RestXml)
    }
}

/// The error a caller gets.
pub fn refusal_response(
    refusal: &Refusal,
    wire: &Wire,
    request_id: &str,
    head_request: bool,
) -> Response<Bytes> {
    let code = code(refusal.reason, wire);
    let status = status(refusal.reason, wire);
    let written = body::write(wire, code, &refusal.message, request_id, status);
    let mut response = Response::new(if head_request { Bytes::new() } else { written.body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(written.content_type));
    for (name, value) in written.headers {
        set(headers, name, &value);
    }
    set(headers, "x-durward-exchange", request_id);
    if head_request {
        set(headers, "x-durward-reason", &refusal.message);
    }
    response
}

/// Sets a header; what cannot stand in one is replaced.
fn set(headers: &mut HeaderMap, name: &'static str, text: &str) {
    let clean: String =
        text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&clean) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The code SDKs know for a reason (facts: AWS "Common errors", S3 "Error responses", and the models).
fn code(reason: Reason, wire: &Wire) -> &'static str {
    let ec2 = wire.protocol() == Protocol::Ec2;
    let short = wire.short_codes();
    match reason {
        Reason::AccessDenied if ec2 => "UnauthorizedOperation",
        Reason::AccessDenied if short => "AccessDenied",
        Reason::AccessDenied => "AccessDeniedException",
        Reason::MissingAuthentication if wire.s3 => "AccessDenied",
        Reason::MissingAuthentication if short => "MissingAuthenticationToken",
        Reason::MissingAuthentication => "MissingAuthenticationTokenException",
        Reason::InvalidToken if wire.s3 => "InvalidAccessKeyId",
        Reason::InvalidToken if wire.sign_in => "InvalidIdentityToken",
        Reason::InvalidToken if ec2 => "AuthFailure",
        Reason::InvalidToken if short => "InvalidClientTokenId",
        Reason::InvalidToken => "UnrecognizedClientException",
        Reason::ExpiredToken if wire.sign_in => "ExpiredTokenException",
        Reason::ExpiredToken if ec2 => "RequestExpired",
        Reason::ExpiredToken if short => "ExpiredToken",
        Reason::ExpiredToken => "ExpiredTokenException",
        Reason::SignatureMismatch if short => "SignatureDoesNotMatch",
        Reason::SignatureMismatch => "InvalidSignatureException",
        Reason::ClockSkew if wire.s3 => "RequestTimeTooSkewed",
        Reason::ClockSkew if short => "SignatureDoesNotMatch",
        Reason::ClockSkew => "InvalidSignatureException",
        Reason::RequestExpired if wire.s3 => "AccessDenied",
        Reason::RequestExpired if short => "RequestExpired",
        Reason::RequestExpired => "InvalidSignatureException",
        Reason::Replay if short => "AccessDenied",
        Reason::Replay => "AccessDeniedException",
        Reason::Malformed if wire.s3 => "InvalidRequest",
        Reason::Malformed if short => "ValidationError",
        Reason::Malformed => "ValidationException",
        Reason::BodyMismatch if wire.s3 => "XAmzContentSHA256Mismatch",
        Reason::BodyMismatch if short => "SignatureDoesNotMatch",
        Reason::BodyMismatch => "InvalidSignatureException",
        Reason::TooLarge if wire.s3 => "EntityTooLarge",
        Reason::TooLarge if short => "ValidationError",
        Reason::TooLarge => "RequestEntityTooLargeException",
        Reason::UnknownOperation if wire.s3 => "NotImplemented",
        Reason::UnknownOperation if short => "InvalidAction",
        Reason::UnknownOperation => "UnknownOperationException",
        Reason::Busy if wire.s3 => "SlowDown",
        Reason::Busy if ec2 => "RequestLimitExceeded",
        Reason::Busy if short => "Throttling",
        Reason::Busy => "ThrottlingException",
        // The one that SDKs repeat, and that says whose fault it is: the identity provider's keys could not be had.
        Reason::Upstream if wire.sign_in => "IDPCommunicationError",
        Reason::Upstream if short => "ServiceUnavailable",
        Reason::Upstream => "ServiceUnavailableException",
        Reason::Internal if short => "InternalFailure",
        Reason::Internal => "InternalServerException",
    }
}

/// The status. What a caller did is 400 or 403, which no SDK repeats.
fn status(reason: Reason, wire: &Wire) -> StatusCode {
    let json = matches!(wire.protocol(), Protocol::Json10 | Protocol::Json11);
    match reason {
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Reason::Upstream if wire.sign_in => StatusCode::BAD_REQUEST,
        Reason::Upstream => StatusCode::BAD_GATEWAY,
        Reason::Busy if wire.s3 || wire.protocol() == Protocol::Ec2 => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Busy if json || wire.short_codes() => StatusCode::BAD_REQUEST,
        Reason::Busy => StatusCode::TOO_MANY_REQUESTS,
        Reason::Malformed | Reason::TooLarge | Reason::BodyMismatch | Reason::UnknownOperation => {
            StatusCode::BAD_REQUEST
        }
        // json services answer 400 for everything; STS sign-in errors are 400 as well.
        Reason::InvalidToken if wire.s3 => StatusCode::FORBIDDEN,
        Reason::ExpiredToken | Reason::InvalidToken if wire.sign_in || wire.s3 => StatusCode::BAD_REQUEST,
        _ if json => StatusCode::BAD_REQUEST,
        _ => StatusCode::FORBIDDEN,
    }
}
