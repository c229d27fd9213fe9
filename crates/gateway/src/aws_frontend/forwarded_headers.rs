//! The headers of a request that travel to AWS: those that the operation's model, HTTP itself or AWS's own tracing knows. A header
//! that only resembles one (`x_amz_acl`, `X-HTTP-Method-Override`) could be read by something on the way, and no policy decided on it.
//!
//! `Accept` is the gateway's: masking reads a response by the operation's model, so the caller cannot choose another
//! representation.

use super::aws_request::OperationTarget;
use durward_aws::decode;
use durward_catalog::{AwsProtocol, ShapeKind};
use durward_core::{Refusal, RefusalReason};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers of a request's content, conditions and ranges (RFC 9110 sections 8, 13 and 14; RFC 9111 section 5.2), and the one by
/// which services count their SDKs.
const HTTP_HEADERS: [HeaderName; 14] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPIRES,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::USER_AGENT,
];
/// `content-md5` is in no list of RFC 9110 any more; S3 still verifies it.
const SDK_HEADERS: [&str; 4] = ["amz-sdk-invocation-id", "amz-sdk-request", "content-md5", "smithy-protocol"];
/// The parts of the caller's own signature: the gateway signs anew.
const SIGNATURE_HEADERS: [&str; 3] = ["x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

/// The headers for AWS. Those of `connection` and of the caller's identity are not among them.
pub(super) fn forwarded_headers(inbound: &HeaderMap, target: &OperationTarget) -> HeaderMap {
    let operation = target.operation();
    let is_known = |name: &HeaderName| {
        let text = name.as_str();
        // The decoder gives every `x-amz` header to policy and approvers, also one that no model knows.
        (text.starts_with("x-amz") && !SIGNATURE_HEADERS.contains(&text))
            || HTTP_HEADERS.contains(name)
            || SDK_HEADERS.contains(&text)
            || operation.is_some_and(|operation| decode::is_header_member(&target.service, operation, text))
    };
    let hop_by_hop = hop_by_hop_names(inbound);
    let mut headers = HeaderMap::with_capacity(inbound.len());
    for (name, value) in inbound {
        if *name != header::AUTHORIZATION
            && *name != header::COOKIE
            && is_known(name)
            && !hop_by_hop.iter().any(|hop| hop == name.as_str())
        {
            headers.append(name.clone(), value.clone());
        }
    }
    // Responses are masked, so they must come uncompressed.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if !chooses_representation(target)
        && let Some(accept) = accept_of(target)
    {
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    }
    headers
}

/// Headers that concern only the connection on which the request came (RFC 9110 section 7.6.1).
fn hop_by_hop_names(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect()
}

/// Refuses a request that asks for the response in another format than the operation's. Some services would send it, and masking
/// by the model would then find nothing.
pub(super) fn refuse_other_representation(
    headers: &HeaderMap,
    target: &OperationTarget,
) -> Result<(), Refusal> {
    if chooses_representation(target) || has_raw_output(target) {
        return Ok(());
    }
    let accepted = accepted_media_types(target.protocol);
    for value in headers.get_all(header::ACCEPT) {
        let ranges = value.to_str().unwrap_or_default().split(',');
        let mut names = ranges.map(|range| range.split(';').next().unwrap_or_default().trim());
        let is_accepted =
            |name: &str| name.is_empty() || accepted.iter().any(|known| matches_media_range(name, known));
        if !names.any(is_accepted) {
            return Err(Refusal::new(
                RefusalReason::Malformed,
                format!(
                    "header `Accept` asks for another format than {}, and the gateway reads responses of this operation in that one \
                     only; leave the header out",
                    accepted.first().copied().unwrap_or_default()
                ),
            ));
        }
    }
    Ok(())
}

/// Returns true if a range of `Accept` (RFC 9110 section 12.5.1) includes a media type.
fn matches_media_range(range: &str, media_type: &str) -> bool {
    if range == "*/*" || range.eq_ignore_ascii_case(media_type) {
        return true;
    }
    let (Some(kind), Some((media_kind, _subtype))) = (range.strip_suffix("/*"), media_type.split_once('/'))
    else {
        return false;
    };
    kind.eq_ignore_ascii_case(media_kind)
}

/// The media types of a protocol's documents; the first is the one that services send.
fn accepted_media_types(protocol: AwsProtocol) -> &'static [&'static str] {
    match protocol {
        AwsProtocol::Json10 | AwsProtocol::Json11 => {
            &["application/x-amz-json-1.0", "application/x-amz-json-1.1", "application/json"]
        }
        AwsProtocol::RestJson => &["application/json"],
        AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml => &["text/xml", "application/xml"],
        AwsProtocol::RpcV2Cbor => &["application/cbor"],
    }
}

/// The `Accept` that the gateway sends. API Gateway answers without it in HAL (botocore `add_accept_header`), and RPC v2 CBOR
/// requires its own (Smithy RPC v2 CBOR protocol, "HTTP request headers").
fn accept_of(target: &OperationTarget) -> Option<&'static str> {
    match target.protocol {
        AwsProtocol::RestJson if !has_raw_output(target) => Some("application/json"),
        AwsProtocol::RpcV2Cbor => Some("application/cbor"),
        _ => None,
    }
}

/// Returns true if `Accept` is a parameter of the operation (Bedrock `InvokeModel`, API Gateway `GetExport`): policy decided on it.
fn chooses_representation(target: &OperationTarget) -> bool {
    target.operation().is_some_and(|operation| decode::is_header_member(&target.service, operation, "accept"))
}

/// Returns true if the response's body is one member as it is, and no document of the protocol: an S3 object.
pub(super) fn has_raw_output(target: &OperationTarget) -> bool {
    let shapes = &target.service.shapes;
    let output = target.operation().and_then(|operation| operation.output_shape);
    let Some(ShapeKind::Structure { members, payload: Some(payload), .. }) =
        output.and_then(|output| shapes.get(output as usize)).map(|shape| &shape.kind)
    else {
        return false;
    };
    members.iter().filter(|member| member.name == *payload).any(|member| {
        let kind = shapes.get(member.shape as usize).map(|shape| &shape.kind);
        matches!(kind, Some(ShapeKind::Blob { .. } | ShapeKind::String | ShapeKind::EventStream))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_catalog::Catalog;

    fn target(service: &str, operation: &str) -> OperationTarget {
        let service = Catalog::embedded().service(service).unwrap();
        let operation_index = service.operation_index(operation).unwrap();
        OperationTarget { protocol: service.protocols[0], service, operation_index }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn headers_that_no_model_knows_stay_behind() {
        let inbound = headers(&[
            ("x_amz_acl", "public-read"),
            ("x-real-ip", "10.0.0.1"),
            ("via", "1.1 proxy"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/other"),
            ("x-forwarded-for", "10.0.0.1"),
            ("authorization", "AWS4-HMAC-SHA256 x"),
            ("cookie", "a=b"),
            ("x-amz-date", "20260101T000000Z"),
            ("x-amz-security-token", "t"),
            ("x-amz-content-sha256", "h"),
            ("x-amz-meta-hop", "1"),
            ("connection", "x-amz-meta-hop"),
            ("accept-charset", "utf-16"),
            ("te", "gzip"),
        ]);
        let forwarded = forwarded_headers(&inbound, &target("s3", "PutObject"));
        assert_eq!(forwarded, headers(&[("accept-encoding", "identity")]));
    }

    #[test]
    fn headers_of_the_model_of_http_and_of_tracing_travel() {
        let known = [
            ("x-amz-acl", "private"),
            ("x-amz-meta-owner", "me"),
            ("x-amz-header-newer-than-the-catalog", "1"),
            ("content-type", "text/plain"),
            ("content-md5", "m"),
            ("if-none-match", "*"),
            ("cache-control", "no-store"),
            ("user-agent", "aws-cli/2"),
            ("x-amzn-trace-id", "Root=1"),
            ("amz-sdk-invocation-id", "i"),
            ("accept-encoding", "identity"),
        ];
        assert_eq!(forwarded_headers(&headers(&known), &target("s3", "PutObject")), headers(&known));
    }

    #[test]
    fn the_gateway_chooses_the_format_of_the_response() {
        let accept = |service, operation, inbound: &[(&'static str, &'static str)]| {
            let sent = forwarded_headers(&headers(inbound), &target(service, operation));
            sent.get("accept").map(|value| value.to_str().unwrap().to_owned())
        };
        let hal = [("accept", "application/hal+json")];
        assert_eq!(accept("apigateway", "GetApiKeys", &[]).as_deref(), Some("application/json"));
        assert_eq!(accept("apigateway", "GetApiKeys", &hal).as_deref(), Some("application/json"));
        assert_eq!(accept("iam", "CreateAccessKey", &[("accept", "application/json")]), None);
        assert_eq!(accept("s3", "GetObject", &[("accept", "image/png")]), None);
        let chosen = [("accept", "application/x-ndjson")];
        assert_eq!(
            accept("bedrock-runtime", "InvokeModel", &chosen).as_deref(),
            Some("application/x-ndjson")
        );
    }

    #[test]
    fn another_format_is_refused_where_the_response_is_a_document() {
        for (service, operation, accept, is_refused) in [
            ("iam", "CreateAccessKey", "application/json", true),
            ("iam", "CreateAccessKey", "*/*", false),
            ("iam", "CreateAccessKey", "text/xml", false),
            ("iam", "CreateAccessKey", "application/json, */*;q=0.1", false),
            ("apigateway", "GetApiKeys", "application/hal+json", true),
            ("apigateway", "GetApiKeys", "application/json", false),
            ("dynamodb", "GetItem", "application/xml", true),
            ("dynamodb", "GetItem", "application/*", false),
            ("s3", "GetObject", "image/png", false),
            ("bedrock-runtime", "InvokeModel", "application/x-ndjson", false),
        ] {
            let refused =
                refuse_other_representation(&headers(&[("accept", accept)]), &target(service, operation));
            assert_eq!(refused.is_err(), is_refused, "{service} {operation} {accept}");
        }
    }
}
