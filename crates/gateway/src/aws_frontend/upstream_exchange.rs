//! Toward AWS: the endpoint from our own tables, the headers that may travel, a fresh signature, and the response read.

use super::aws_request::{AwsRequest, AwsRequestBody, OperationTarget};
use super::{AwsFrontEnd, forwarded_headers, queue_url, upload_body};
use crate::aws_client::{AwsSendError, UnsignedAwsRequest};
use crate::body::{BoxBody, read_limited_body};
use crate::pipeline::Forwardable;
use crate::upstream_response::{OwnedMaskingPlan, UpstreamBody, UpstreamResponse};
use durward_aws::sigv4::inbound::SignatureLocation;
use durward_catalog::{AwsProtocol, ShapeKind};
use durward_core::{Refusal, RefusalReason, limits};
use durward_masking::BodyFormat;
use http::{HeaderMap, Method, Response, StatusCode, header};

impl AwsFrontEnd {
    pub(super) async fn exchange_with_aws(
        &self,
        forwardable: Forwardable<AwsRequest>,
    ) -> Result<UpstreamResponse, Refusal> {
        let internal = |what: &str| Refusal::new(RefusalReason::Internal, what.to_owned());
        let (request, credential) = forwardable.into_request();
        let credential = credential.ok_or_else(|| internal("no credential was issued for this operation"))?;
        let target =
            request.operation_target.clone().ok_or_else(|| internal("the operation has no target"))?;
        let (region, signing_name) = (&request.claimed_signature.region, &request.claimed_signature.service);
        let endpoint =
            self.aws_client.resolve_endpoint(&target.service.id, signing_name, region).ok_or_else(|| {
                Refusal::new(
                    RefusalReason::UnknownOperation,
                    format!("no endpoint of `{}` is known in region `{region}`", target.service.id),
                )
            })?;
        // A bucket in the host name becomes the first segment of the path: one form upstream, whatever the client uses.
        let path = match &request.bucket {
            Some(bucket) => format!("/{bucket}{}", request.path),
            None => request.path.clone(),
        };
        let query = forwarded_query(&request);
        let method = request.method.clone();
        let scheme = if self.options.uses_tls { "https" } else { "http" };
        let gateway_url = format!("{scheme}://{}", header_text(&request.headers, "host").unwrap_or_default());
        let mut headers = forwarded_headers::forwarded_headers(&request.headers, &target);
        let request_bytes = match &request.body {
            AwsRequestBody::Buffered(bytes) => bytes.len() as u64,
            AwsRequestBody::Unread(_) => header_text(&request.headers, "content-length")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        };
        let (body, payload_hash) = upload_body::build_upload_body(request, &mut headers)?;
        let unsigned =
            UnsignedAwsRequest { method: method.clone(), path, query, headers, body, payload_hash };
        let response =
            self.aws_client.send(&endpoint, &credential, unsigned).await.map_err(AwsSendError::refusal)?;
        let mut response = read_response(&target, &method, response).await?;
        response.request_bytes = request_bytes;
        queue_url::rewrite_queue_urls(&gateway_url, &target, &mut response);
        Ok(response)
    }
}

/// The query without the caller's own presigned credential.
fn forwarded_query(request: &AwsRequest) -> String {
    if request.claimed_signature.location == SignatureLocation::Header {
        return request.query.clone();
    }
    const PRESIGN_PARAMETERS: [&str; 8] = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
        "x-amz-content-sha256",
    ];
    let kept: Vec<&str> = request
        .query
        .split('&')
        // Compared decoded and without case, as the verifier reads them: none may pass in another spelling.
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let name =
                String::from_utf8_lossy(&durward_aws::sigv4::percent_decode(name)).to_ascii_lowercase();
            !PRESIGN_PARAMETERS.contains(&name.as_str())
        })
        .collect();
    kept.join("&")
}

/// Hop-by-hop headers (RFC 9110 section 7.6.1), and headers by which an upstream would speak to a browser for the gateway's own host:
/// an object of S3 could set cookies there, open it to other origins, or move its clients to another server (RFC 7838).
const DROPPED_RESPONSE_HEADERS: [&str; 17] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "alt-svc",
    "clear-site-data",
    "set-cookie",
    "strict-transport-security",
];

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn read_response(
    target: &OperationTarget,
    method: &Method,
    response: Response<BoxBody>,
) -> Result<UpstreamResponse, Refusal> {
    let (mut head, body) = response.into_parts();
    for name in DROPPED_RESPONSE_HEADERS {
        head.headers.remove(name);
    }
    // AWS Support identifies a request by this id, and CloudTrail records it.
    let upstream_request_id = ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"]
        .into_iter()
        .find_map(|name| header_text(&head.headers, name).map(str::to_owned));
    let error_code = header_text(&head.headers, "x-amzn-errortype").map(str::to_owned);
    let operation = target.operation();
    let output = operation.and_then(|operation| operation.output_shape);
    // An error of a streaming operation is a small document, and is masked like any other.
    let streams = head.status.is_success() && output.is_some_and(|shape| is_streaming_output(target, shape));
    let body = if streams {
        UpstreamBody::Stream(body)
    } else {
        let bytes = read_limited_body(body, limits::MAX_MASKED_RESPONSE_BYTES, "response")
            .await
            .map_err(|refusal| Refusal { reason: RefusalReason::Upstream, ..refusal })?;
        if !bytes.is_empty()
            && header_text(&head.headers, "content-encoding").is_some_and(|coding| coding != "identity")
        {
            return Err(Refusal::new(
                RefusalReason::Upstream,
                "the response is compressed and cannot be inspected, so it is withheld",
            ));
        }
        let content = detect_body_format(&head.headers, target, head.status, &bytes)?;
        // There the length is that of the response to a GET (RFC 9110 sections 9.3.2 and 15.4.5), not of this empty body.
        if *method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        UpstreamBody::Buffered { bytes, content }
    };
    let plan = head.status.is_success().then(|| OwnedMaskingPlan::Aws {
        service: target.service.clone(),
        input_shape: operation.and_then(|operation| operation.input_shape),
        output_shape: output,
        protocol: target.protocol,
    });
    Ok(UpstreamResponse { head, body, masking_plan: plan, error_code, request_bytes: 0, upstream_request_id })
}

/// Returns true if the output is an object body or an event stream: passed on, not read.
fn is_streaming_output(target: &OperationTarget, output: u32) -> bool {
    let shapes = &target.service.shapes;
    let Some(ShapeKind::Structure { members, payload, .. }) =
        shapes.get(output as usize).map(|shape| &shape.kind)
    else {
        return false;
    };
    members.iter().any(|member| {
        let kind = shapes.get(member.shape as usize).map(|shape| &shape.kind);
        match kind {
            Some(ShapeKind::EventStream) => true,
            Some(ShapeKind::Blob { is_streaming: streaming }) => {
                *streaming && payload.as_deref() == Some(member.name.as_str())
            }
            _ => false,
        }
    })
}

/// The format in which the body of a response is masked. A document in another format than the operation's, or with another root, is
/// withheld: the marks of the model would be looked for in the wrong places.
fn detect_body_format(
    headers: &HeaderMap,
    target: &OperationTarget,
    status: StatusCode,
    body: &[u8],
) -> Result<BodyFormat, Refusal> {
    let media_type = header_text(headers, "content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let announced = if media_type.contains("json") {
        Some(BodyFormat::Json)
    } else if media_type.ends_with("xml") {
        Some(BodyFormat::Xml)
    } else if media_type == "application/cbor" {
        Some(BodyFormat::Cbor)
    } else {
        None
    };
    // An error has no place in the model: detectors look at all of it, in whatever format it is.
    if !status.is_success() {
        return Ok(announced.unwrap_or(BodyFormat::Text));
    }
    let documented = match target.protocol {
        AwsProtocol::Json10 | AwsProtocol::Json11 | AwsProtocol::RestJson => BodyFormat::Json,
        AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml => BodyFormat::Xml,
        AwsProtocol::RpcV2Cbor => BodyFormat::Cbor,
    };
    if forwarded_headers::has_raw_output(target) {
        return Ok(announced.unwrap_or(documented));
    }
    let withheld = |what: &str| {
        let message =
            "the response is not the document that the operation's model describes, so it is withheld";
        Err(Refusal::new(RefusalReason::Upstream, message)
            .with_detail(format_args!("{what}: `{media_type}`")))
    };
    // `application/hal+json` is JSON with other members.
    if announced.is_some_and(|announced| announced != documented) || media_type.ends_with("+json") {
        return withheld("another media type");
    }
    if !body.is_empty() && !has_expected_root(target, body) {
        return withheld("another root");
    }
    Ok(documented)
}

/// Returns true if a document begins as the protocol says: a JSON object, or `<OperationResponse>` of the query protocols
/// (AWS Query and EC2 Query protocols of Smithy, "Response serialization").
fn has_expected_root(target: &OperationTarget, body: &[u8]) -> bool {
    let operation = target.operation();
    // Without an output the model marks nothing, and some services send `null`.
    if operation.is_some_and(|operation| operation.output_shape.is_none()) {
        return true;
    }
    match target.protocol {
        AwsProtocol::Json10 | AwsProtocol::Json11 | AwsProtocol::RestJson => {
            let payload = operation.and_then(|operation| operation.output_shape).and_then(|output| {
                match target.service.shapes.get(output as usize).map(|shape| &shape.kind) {
                    Some(ShapeKind::Structure { payload, .. }) => payload.as_ref(),
                    _ => None,
                }
            });
            // A payload member may be a list.
            payload.is_some() || body.trim_ascii_start().first() == Some(&b'{')
        }
        AwsProtocol::Query | AwsProtocol::Ec2 => operation.is_none_or(|operation| {
            let root = xml_root_name(body);
            root.and_then(|root| root.strip_suffix(b"Response")) == Some(operation.name.as_bytes())
        }),
        AwsProtocol::RestXml | AwsProtocol::RpcV2Cbor => true,
    }
}

/// The name of a document's root element, without its prefix.
fn xml_root_name(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    while rest.starts_with(b"<?") || rest.starts_with(b"<!--") {
        let end: &[u8] = if rest.starts_with(b"<?") { b"?>" } else { b"-->" };
        let at = rest.windows(end.len()).position(|window| window == end)?;
        rest = rest.get(at + end.len()..)?.trim_ascii_start();
    }
    let name = rest.strip_prefix(b"<")?;
    let end = name.iter().position(|byte| b" \t\r\n/>".contains(byte))?;
    let name = name.get(..end)?;
    Some(name.rsplit(|byte| *byte == b':').next().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_catalog::Catalog;
    use http::HeaderValue;

    fn detect(service: &str, operation: &str, content_type: &'static str, body: &str) -> Option<BodyFormat> {
        let service = Catalog::embedded().service(service).unwrap();
        let operation_index = service.operation_index(operation).unwrap();
        let target = OperationTarget { protocol: service.protocols[0], service, operation_index };
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        detect_body_format(&headers, &target, StatusCode::OK, body.as_bytes()).ok()
    }

    #[tokio::test]
    async fn an_upstream_speaks_to_no_browser_for_the_gateways_host() {
        let service = Catalog::embedded().service("s3").unwrap();
        let operation_index = service.operation_index("GetObject").unwrap();
        let target = OperationTarget { protocol: service.protocols[0], service, operation_index };
        let mut response = Response::new(crate::body::full_body("<script>"));
        for name in
            ["set-cookie", "alt-svc", "strict-transport-security", "access-control-allow-origin", "etag"]
        {
            response.headers_mut().insert(name, HeaderValue::from_static("x"));
        }
        let read = read_response(&target, &Method::GET, response).await.unwrap();
        let kept: Vec<&str> = read.head.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(kept, ["etag"]);
    }

    #[test]
    fn a_document_in_another_format_or_with_another_root_is_withheld() {
        let created =
            "<?xml version=\"1.0\"?>\n<CreateAccessKeyResponse xmlns=\"x\"><a/></CreateAccessKeyResponse>";
        for (service, operation, content_type, body, expected) in [
            ("iam", "CreateAccessKey", "text/xml", created, Some(BodyFormat::Xml)),
            ("iam", "CreateAccessKey", "text/html", created, Some(BodyFormat::Xml)),
            ("iam", "CreateAccessKey", "application/json", "{\"CreateAccessKeyResponse\":{}}", None),
            ("iam", "CreateAccessKey", "text/xml", "<GetUserResponse/>", None),
            ("iam", "CreateAccessKey", "text/xml", "{\"CreateAccessKeyResponse\":{}}", None),
            (
                "ec2",
                "CreateKeyPair",
                "text/xml;charset=UTF-8",
                "<CreateKeyPairResponse/>",
                Some(BodyFormat::Xml),
            ),
            ("apigateway", "GetApiKeys", "application/json", "{}", Some(BodyFormat::Json)),
            ("apigateway", "GetApiKeys", "application/hal+json", "{}", None),
            ("dynamodb", "GetItem", "application/x-amz-json-1.0", " {}", Some(BodyFormat::Json)),
            ("dynamodb", "GetItem", "application/x-amz-json-1.0", "[{}]", None),
            ("dynamodb", "GetItem", "text/xml", "<a/>", None),
            ("kms", "DisableKey", "application/x-amz-json-1.1", "null", Some(BodyFormat::Json)),
            ("dynamodb", "DeleteTable", "", "", Some(BodyFormat::Json)),
            ("s3", "ListBuckets", "application/xml", "<ListAllMyBucketsResult/>", Some(BodyFormat::Xml)),
            ("s3", "GetBucketPolicy", "application/json", "{}", Some(BodyFormat::Json)),
            ("lambda", "Invoke", "application/xml", "<a/>", Some(BodyFormat::Xml)),
        ] {
            let found = detect(service, operation, content_type, body);
            assert_eq!(found, expected, "{service} {operation} {content_type} {body}");
        }
    }
}
