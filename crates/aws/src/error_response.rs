//! Refusals as AWS errors: each reason in the protocol of the request, so that an SDK raises its typed error with our
//! message. A denial never has a status or a code that an SDK retries; only an overloaded or failing gateway has.

mod error_body;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use durward_catalog::{AwsProtocol, ServiceModel};
use durward_core::{Refusal, RefusalReason};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use std::sync::Arc;

/// In which protocol an error is written. Built from what is known: the decoded request, or a guess from its head.
#[derive(Debug, Clone, Default)]
pub struct ErrorEncoding {
    pub protocol: Option<AwsProtocol>,
    pub service: Option<Arc<ServiceModel>>,
    /// The error is for S3 itself, whose errors have a shape of their own.
    pub is_s3: bool,
    /// The error is for a sign-in at STS, which knows codes of its own. A signed call of STS is one as of any service.
    pub is_sts_sign_in: bool,
}

impl ErrorEncoding {
    /// The wire of a request whose service and protocol are known.
    pub fn for_service(service: &Arc<ServiceModel>, protocol: AwsProtocol) -> Self {
        Self {
            protocol: Some(protocol),
            is_s3: service.id == "s3",
            is_sts_sign_in: false,
            service: Some(Arc::clone(service)),
        }
    }

    /// A guess from the head, for the shape of an error only. `signing_name` is the service of the credential scope, verified or
    /// not.
    pub fn guess_from_head(
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        signing_name: Option<&str>,
    ) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let rest = |protocol| Self { protocol: Some(protocol), ..Self::default() };
        if headers.contains_key("smithy-protocol") || media.starts_with("application/cbor") {
            return rest(AwsProtocol::RpcV2Cbor);
        }
        if headers.contains_key("x-amz-target") || media.starts_with("application/x-amz-json-") {
            let one = media.starts_with("application/x-amz-json-1.0");
            return rest(if one { AwsProtocol::Json10 } else { AwsProtocol::Json11 });
        }
        match signing_name {
            Some("s3" | "s3express" | "s3-outposts" | "s3-object-lambda") => {
                return Self { protocol: Some(AwsProtocol::RestXml), is_s3: true, ..Self::default() };
            }
            Some("ec2") => return rest(AwsProtocol::Ec2),
            Some("route53" | "cloudfront") => return rest(AwsProtocol::RestXml),
            _ => {}
        }
        let form = media.starts_with("application/x-www-form-urlencoded");
        let action = query.split('&').any(|pair| pair.starts_with("Action="));
        if form || action {
            // Without a scope a form is a sign-in: only STS takes unsigned ones.
            return Self {
                protocol: Some(AwsProtocol::Query),
                is_sts_sign_in: signing_name.is_none(),
                ..Self::default()
            };
        }
        if media.starts_with("application/json") || signing_name.is_some() {
            return rest(AwsProtocol::RestJson);
        }
        let like_s3 =
            matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE) || path != "/";
        if like_s3 {
            return Self { protocol: Some(AwsProtocol::RestXml), is_s3: true, ..Self::default() };
        }
        rest(AwsProtocol::RestJson)
    }

    fn effective_protocol(&self) -> AwsProtocol {
        self.protocol
            .or_else(|| self.service.as_ref()?.protocols.first().copied())
            .unwrap_or(AwsProtocol::RestJson)
    }

    /// Protocols whose codes are spelt `AccessDenied` rather than `AccessDeniedException`.
    fn uses_short_codes(&self) -> bool {
        matches!(self.effective_protocol(), AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml)
    }
}

/// The error a caller gets.
pub fn build_error_response(
    refusal: &Refusal,
    encoding: &ErrorEncoding,
    request_id: &str,
    head_request: bool,
) -> Response<Bytes> {
    let code = error_code(refusal.reason, encoding);
    let status = error_status(refusal.reason, encoding);
    let written = error_body::encode_error(encoding, code, &refusal.message, request_id, status);
    let mut response = Response::new(if head_request { Bytes::new() } else { written.body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(written.content_type));
    for (name, value) in written.headers {
        set_header(headers, name, &value);
    }
    set_header(headers, "x-durward-exchange", request_id);
    if head_request {
        set_header(headers, "x-durward-reason", &refusal.message);
    }
    response
}

/// Sets a header; what cannot stand in one is replaced.
fn set_header(headers: &mut HeaderMap, name: &'static str, text: &str) {
    let clean: String =
        text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&clean) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The code SDKs know for a reason (facts: AWS "Common errors", S3 "Error responses", and the models).
fn error_code(reason: RefusalReason, encoding: &ErrorEncoding) -> &'static str {
    let ec2 = encoding.effective_protocol() == AwsProtocol::Ec2;
    let short = encoding.uses_short_codes();
    match reason {
        // To AWS's clients all of these are one typed error, which none of them repeats by itself.
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
        // The one that SDKs repeat, and that says whose fault it is: the identity provider's keys could not be had.
        RefusalReason::Upstream if encoding.is_sts_sign_in => "IDPCommunicationError",
        // Every SDK repeats these: the next attempt meets a policy set that stands still.
        RefusalReason::Upstream | RefusalReason::PolicyChanged if short => "ServiceUnavailable",
        RefusalReason::Upstream | RefusalReason::PolicyChanged => "ServiceUnavailableException",
        RefusalReason::Internal if short => "InternalFailure",
        RefusalReason::Internal => "InternalServerException",
    }
}

/// The status. What a caller did is 400 or 403, which no SDK repeats.
fn error_status(reason: RefusalReason, encoding: &ErrorEncoding) -> StatusCode {
    let json = matches!(encoding.effective_protocol(), AwsProtocol::Json10 | AwsProtocol::Json11);
    match reason {
        RefusalReason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        RefusalReason::Upstream if encoding.is_sts_sign_in => StatusCode::BAD_REQUEST,
        RefusalReason::Upstream => StatusCode::BAD_GATEWAY,
        RefusalReason::PolicyChanged => StatusCode::SERVICE_UNAVAILABLE,
        RefusalReason::Busy if encoding.is_s3 || encoding.effective_protocol() == AwsProtocol::Ec2 => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        RefusalReason::Busy if json || encoding.uses_short_codes() => StatusCode::BAD_REQUEST,
        RefusalReason::Busy => StatusCode::TOO_MANY_REQUESTS,
        RefusalReason::Malformed
        | RefusalReason::TooLarge
        | RefusalReason::BodyMismatch
        | RefusalReason::UnknownOperation => StatusCode::BAD_REQUEST,
        // json services answer 400 for everything; STS sign-in errors are 400 as well.
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
