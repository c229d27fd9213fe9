//! The form of errors for the client of one request: the protocol that its SDK speaks, which becomes known while it is read.

use crate::body::{BoxBody, full_body};
use durward_aws::error_response::{self, ErrorEncoding};
use durward_catalog::{AwsProtocol, ServiceModel};
use durward_core::{ExchangeId, Refusal};
use http::request::Parts;
use http::{Method, Response};
use std::sync::Arc;

/// The encoding of errors for one request.
#[derive(Clone)]
pub struct AwsRefusalContext {
    error_encoding: ErrorEncoding,
    is_head_request: bool,
}

impl AwsRefusalContext {
    /// The best guess before the operation is known, so that the SDK understands the error even for a bad signature.
    pub(super) fn from_head(head: &Parts) -> Self {
        let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
        let signing_name = authorization.and_then(|text| text.split('/').nth(3));
        let query = head.uri.query().unwrap_or_default();
        Self {
            error_encoding: ErrorEncoding::guess_from_head(
                &head.method,
                head.uri.path(),
                query,
                &head.headers,
                signing_name,
            ),
            is_head_request: head.method == Method::HEAD,
        }
    }

    /// The encoding of the gateway's own STS responses.
    pub(super) fn for_sts() -> Self {
        let error_encoding = ErrorEncoding {
            protocol: Some(AwsProtocol::Query),
            is_sts_sign_in: true,
            ..ErrorEncoding::default()
        };
        Self { error_encoding, is_head_request: false }
    }

    /// The service is known now.
    pub(super) fn set_service(&mut self, service: &Arc<ServiceModel>, protocol: AwsProtocol) {
        self.error_encoding = ErrorEncoding::for_service(service, protocol);
    }

    /// A refusal as the SDK's typed error. The message names the exchange, which a person can look up in the journal.
    pub(super) fn write_refusal(&self, refusal: &Refusal, exchange: ExchangeId) -> Response<BoxBody> {
        let id = exchange.to_string();
        let message = format!("durward: {} [exchange {id}]", refusal.message);
        let named = Refusal { message, ..refusal.clone() };
        error_response::build_error_response(&named, &self.error_encoding, &id, self.is_head_request)
            .map(full_body)
    }
}
