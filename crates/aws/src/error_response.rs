//! Refusals as AWS errors, in the protocol of the request, so that an SDK raises its typed error with the gateway's message.
//!
//! Promise: a denial never has a status or a code that an SDK retries; only an overloaded or failing gateway has one.

mod error_body;
#[cfg(test)]
mod tests;

use crate::sigv4::is_s3_signing_name;
use bytes::Bytes;
use durward_catalog::{AwsProtocol, ServiceModel};
use durward_core::{Refusal, RefusalReason};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;

/// The protocol of an error. It comes from the decoded request, or is guessed from the head.
#[derive(Debug, Clone, Default)]
pub struct ErrorEncoding {
    pub protocol: Option<AwsProtocol>,
    pub service: Option<Arc<ServiceModel>>,
    /// S3 has an error format of its own.
    pub is_s3: bool,
    /// An unsigned sign-in at STS has error codes of its own (STS API Reference, AssumeRoleWithWebIdentity). Signed STS calls
    /// have those of any service.
    pub is_sts_sign_in: bool,
}

impl ErrorEncoding {
    /// For a request whose service and protocol are known.
    pub fn for_service(service: &Arc<ServiceModel>, protocol: AwsProtocol) -> Self {
        Self {
            protocol: Some(protocol),
            is_s3: service.id == "s3",
            is_sts_sign_in: false,
            service: Some(Arc::clone(service)),
        }
    }

    /// Guesses from the head, for the format of an error only. `signing_name` is the service of the credential scope, verified or
    /// not.
    pub fn guess_from_head(
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        signing_name: Option<&str>,
    ) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let with_protocol = |protocol| Self { protocol: Some(protocol), ..Self::default() };
        if headers.contains_key("smithy-protocol") || media.starts_with("application/cbor") {
            return with_protocol(AwsProtocol::RpcV2Cbor);
        }
        if headers.contains_key("x-amz-target") || media.starts_with("application/x-amz-json-") {
            let is_json_10 = media.starts_with("application/x-amz-json-1.0");
            return with_protocol(if is_json_10 { AwsProtocol::Json10 } else { AwsProtocol::Json11 });
        }
        match signing_name {
            Some(name) if is_s3_signing_name(name) => {
                return Self { protocol: Some(AwsProtocol::RestXml), is_s3: true, ..Self::default() };
            }
            Some("ec2") => return with_protocol(AwsProtocol::Ec2),
            Some("route53" | "cloudfront") => return with_protocol(AwsProtocol::RestXml),
            _ => {}
        }
        let form = media.starts_with("application/x-www-form-urlencoded");
        let action = query.split('&').any(|pair| pair.starts_with("Action="));
        if form || action {
            // An unsigned form is a sign-in: only STS accepts those.
            return Self {
                protocol: Some(AwsProtocol::Query),
                is_sts_sign_in: signing_name.is_none(),
                ..Self::default()
            };
        }
        if media.starts_with("application/json") || signing_name.is_some() {
            return with_protocol(AwsProtocol::RestJson);
        }
        let resembles_s3 =
            matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE) || path != "/";
        if resembles_s3 {
            return Self { protocol: Some(AwsProtocol::RestXml), is_s3: true, ..Self::default() };
        }
        with_protocol(AwsProtocol::RestJson)
    }

    fn effective_protocol(&self) -> AwsProtocol {
        self.protocol
            .or_else(|| self.service.as_ref()?.protocols.first().copied())
            .unwrap_or(AwsProtocol::RestJson)
    }

    /// Returns true if error codes of the protocol read `AccessDenied` rather than `AccessDeniedException`.
    fn uses_short_codes(&self) -> bool {
        matches!(self.effective_protocol(), AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml)
    }
}

/// Builds the error response to a caller.
pub fn build_error_response(
    refusal: &Refusal,
    encoding: &ErrorEncoding,
    request_id: &str,
    head_request: bool,
) -> Response<Bytes> {
    let code = error_code(refusal.reason, encoding);
    let status = error_status(refusal.reason, encoding);
    let encoded = error_body::encode_error(encoding, code, &refusal.message, request_id, status);
    let mut response = Response::new(if head_request { Bytes::new() } else { encoded.body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(encoded.content_type));
    for (name, value) in encoded.headers {
        set_header(headers, name, &value);
    }
    set_header(headers, "x-durward-exchange", request_id);
    // A response to HEAD has no body (RFC 9110 section 9.3.2), and SDKs show only the status.
    if head_request {
        set_header(headers, "x-durward-reason", &refusal.message);
    }
    response
}

/// Sets a header. Characters that a header cannot hold become `?`.
fn set_header(headers: &mut HeaderMap, name: &'static str, text: &str) {
    // A line feed in a value would begin another header or response (RFC 9110 section 5.5).
    let clean: String =
        text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&clean) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The error code of a reason, as SDKs know it (the API References' "Common Errors"; S3 API Reference, "Error responses"; the
/// service models).
fn error_code(reason: RefusalReason, encoding: &ErrorEncoding) -> &'static str {
    let ec2 = encoding.effective_protocol() == AwsProtocol::Ec2;
    let short = encoding.uses_short_codes();
    match reason {
        // SDKs raise one typed error for all of these, and do not retry it.
        RefusalReason::AccessDenied
        | RefusalReason::ApprovalRequired
        | RefusalReason::TagsUnavailable
        | RefusalReason::ClientDisconnected => match (ec2, short) {
            (true, _) => "UnauthorizedOperation",
            (false, true) => "AccessDenied",
            (false, false) => "AccessDeniedException",
        },
        RefusalReason::MissingAuthentication if encoding.is_s3 => "AccessDenied",
        RefusalReason::MissingAuthentication if short => "MissingAuthenticationToken",
        RefusalReason::MissingAuthentication => "MissingAuthenticationTokenException",
        RefusalReason::InvalidToken if encoding.is_s3 => "InvalidAccessKeyId",
        RefusalReason::InvalidToken if encoding.is_sts_sign_in => "InvalidIdentityToken",
        RefusalReason::InvalidToken if ec2 => "AuthFailure",
        RefusalReason::InvalidToken if short => "InvalidClientTokenId",
        RefusalReason::InvalidToken => "UnrecognizedClientException",
        RefusalReason::ExpiredToken if encoding.is_sts_sign_in => "ExpiredTokenException",
        RefusalReason::ExpiredToken if ec2 => "RequestExpired",
        RefusalReason::ExpiredToken if short => "ExpiredToken",
        RefusalReason::ExpiredToken => "ExpiredTokenException",
        RefusalReason::SignatureMismatch if short => "SignatureDoesNotMatch",
        RefusalReason::SignatureMismatch => "InvalidSignatureException",
        RefusalReason::ClockSkew if encoding.is_s3 => "RequestTimeTooSkewed",
        RefusalReason::ClockSkew if short => "SignatureDoesNotMatch",
        RefusalReason::ClockSkew => "InvalidSignatureException",
        RefusalReason::RequestExpired if encoding.is_s3 => "AccessDenied",
        RefusalReason::RequestExpired if short => "RequestExpired",
        RefusalReason::RequestExpired => "InvalidSignatureException",
        RefusalReason::Replay if short => "AccessDenied",
        RefusalReason::Replay => "AccessDeniedException",
        RefusalReason::Malformed if encoding.is_s3 => "InvalidRequest",
        RefusalReason::Malformed if short => "ValidationError",
        RefusalReason::Malformed => "ValidationException",
        RefusalReason::BodyMismatch if encoding.is_s3 => "XAmzContentSHA256Mismatch",
        RefusalReason::BodyMismatch if short => "SignatureDoesNotMatch",
        RefusalReason::BodyMismatch => "InvalidSignatureException",
        RefusalReason::TooLarge if encoding.is_s3 => "EntityTooLarge",
        RefusalReason::TooLarge if short => "ValidationError",
        RefusalReason::TooLarge => "RequestEntityTooLargeException",
        RefusalReason::UnknownOperation if encoding.is_s3 => "NotImplemented",
        RefusalReason::UnknownOperation if short => "InvalidAction",
        RefusalReason::UnknownOperation => "UnknownOperationException",
        RefusalReason::Busy if encoding.is_s3 => "SlowDown",
        RefusalReason::Busy if ec2 => "RequestLimitExceeded",
        RefusalReason::Busy if short => "Throttling",
        RefusalReason::Busy => "ThrottlingException",
        // The code that SDKs retry, and that blames the right party: the keys of the identity provider could not be fetched.
        RefusalReason::Upstream if encoding.is_sts_sign_in => "IDPCommunicationError",
        // Every SDK retries these: the next attempt is decided by the new policy set.
        RefusalReason::Upstream | RefusalReason::PolicyChanged if short => "ServiceUnavailable",
        RefusalReason::Upstream | RefusalReason::PolicyChanged => "ServiceUnavailableException",
        RefusalReason::Internal if short => "InternalFailure",
        RefusalReason::Internal => "InternalServerException",
    }
}

/// The status of a refusal. An error of the caller is 400 or 403, which no SDK retries.
fn error_status(reason: RefusalReason, encoding: &ErrorEncoding) -> StatusCode {
    let json = matches!(encoding.effective_protocol(), AwsProtocol::Json10 | AwsProtocol::Json11);
    match reason {
        RefusalReason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        RefusalReason::Upstream if encoding.is_sts_sign_in => StatusCode::BAD_REQUEST,
        RefusalReason::Upstream => StatusCode::BAD_GATEWAY,
        RefusalReason::PolicyChanged => StatusCode::SERVICE_UNAVAILABLE,
        // SlowDown of S3 and RequestLimitExceeded of EC2 come with 503 (S3 API Reference, "Error responses"; EC2 API Reference,
        // "Error codes").
        RefusalReason::Busy if encoding.is_s3 || encoding.effective_protocol() == AwsProtocol::Ec2 => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        // SDKs recognise throttling by its code; these services send it with 400 (the API References' "Common Errors").
        RefusalReason::Busy if json || encoding.uses_short_codes() => StatusCode::BAD_REQUEST,
        RefusalReason::Busy => StatusCode::TOO_MANY_REQUESTS,
        RefusalReason::Malformed
        | RefusalReason::TooLarge
        | RefusalReason::BodyMismatch
        | RefusalReason::UnknownOperation => StatusCode::BAD_REQUEST,
        // S3 returns 403 for a key that it does not know, and 400 for an expired token (S3 API Reference, "Error responses").
        // JSON services and the sign-in of STS return 400 for all client errors.
        RefusalReason::InvalidToken if encoding.is_s3 => StatusCode::FORBIDDEN,
        RefusalReason::ExpiredToken | RefusalReason::InvalidToken
            if encoding.is_sts_sign_in || encoding.is_s3 =>
        {
            StatusCode::BAD_REQUEST
        }
        _ if json => StatusCode::BAD_REQUEST,
        _ => StatusCode::FORBIDDEN,
    }
}
