//! Masking of responses: a body is masked or withheld, and a masked body is one that the same reader accepts.

use crate::request_text::parse_request_text;
use durward_catalog::{AwsProtocol, Catalog};
use durward_masking::{BodyFormat, MaskedBody, Masker, MaskingPlan};
use std::sync::OnceLock;

/// Input: `FORMAT SERVICE OPERATION`, no headers, body. FORMAT is json, xml, query-xml, cbor, text or mcp.
pub(crate) fn mask_response(input: &[u8]) -> bool {
    static MASKER: OnceLock<Masker> = OnceLock::new();
    let masker = MASKER.get_or_init(Masker::default);
    let Some(response) = parse_request_text(input) else { return false };
    let mut words = response.first_line.split(' ');
    let (format, protocol) = match words.next() {
        Some("json") => (BodyFormat::Json, AwsProtocol::Json11),
        Some("xml") => (BodyFormat::Xml, AwsProtocol::RestXml),
        Some("query-xml") => (BodyFormat::Xml, AwsProtocol::Query),
        Some("cbor") => (BodyFormat::Cbor, AwsProtocol::RpcV2Cbor),
        Some("mcp") => (BodyFormat::Json, AwsProtocol::RestJson),
        Some("text") => (BodyFormat::Text, AwsProtocol::RestJson),
        _ => return false,
    };
    let service = words.next().and_then(|id| Catalog::embedded().service(id));
    let operation = service.as_ref().zip(words.next()).and_then(|(service, name)| service.operation(name));
    let plan = service.as_ref().zip(operation).map(|(service, operation)| {
        MaskingPlan::new(service, operation.input_shape, operation.output_shape, protocol)
    });
    let plan = if response.first_line == "mcp" { Some(MaskingPlan::for_mcp()) } else { plan };
    let mask = |body: &[u8]| masker.mask_body(body, format, plan.as_ref(), &|_| false);
    match mask(response.body) {
        Ok(MaskedBody::Unchanged) => true,
        Ok(MaskedBody::Changed { body, counts }) => {
            assert!(
                counts.iter().all(|one| one.count > 0) && !counts.is_empty(),
                "a change that is not counted"
            );
            assert!(mask(&body).is_ok(), "the masked body is not one that its reader accepts");
            if format == BodyFormat::Json {
                assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&body).is_ok());
            }
            true
        }
        Err(_) => false,
    }
}
