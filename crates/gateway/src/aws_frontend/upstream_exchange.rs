//! Toward AWS: the endpoint from our own tables, the headers that may travel, a fresh signature, and the response read.

use super::aws_request::{AwsRequest, AwsRequestBody, OperationTarget};
use super::{AwsFrontEnd, queue_url, upload_body};
use crate::aws_client::{AwsSendError, UnsignedAwsRequest};
use crate::body::{BoxBody, read_limited_body};
use crate::pipeline::Forwardable;
use crate::upstream_response::{OwnedMaskingPlan, UpstreamBody, UpstreamResponse};
use durward_aws::sigv4::inbound::SignatureLocation;
use durward_catalog::{AwsProtocol, ShapeKind};
use durward_core::{Refusal, RefusalReason, limits};
use durward_masking::BodyFormat;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

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
        let mut headers = forwarded_headers(&request.headers);
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

/// Hop-by-hop headers (RFC 9110 section 7.6.1), the caller's own credential, and the headers that proxies add about the caller.
fn is_dropped_header(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "host"
            | "authorization"
            | "cookie"
            | "forwarded"
            | "accept-encoding"
            | "x-amz-date"
            | "x-amz-security-token"
            | "x-amz-content-sha256"
    ) || name.as_str().starts_with("x-forwarded-")
}

fn forwarded_headers(inbound: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(inbound.len());
    let named: Vec<String> = inbound
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    for (name, value) in inbound {
        if !is_dropped_header(name) && !named.iter().any(|hop| hop == name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
    // Responses are masked, so they must come uncompressed.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn read_response(
    target: &OperationTarget,
    method: &Method,
    response: Response<BoxBody>,
) -> Result<UpstreamResponse, Refusal> {
    let (mut head, body) = response.into_parts();
    for name in
        ["connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"]
    {
        head.headers.remove(name);
    }
    // AWS Support identifies a request by this id, and CloudTrail records it.
    let upstream_request_id = ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"]
        .into_iter()
        .find_map(|name| header_text(&head.headers, name).map(str::to_owned));
    let error_code = header_text(&head.headers, "x-amzn-errortype").map(str::to_owned);
    let operation = target.service.operations.get(target.operation_index);
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
        let content = detect_body_format(&head.headers, target.protocol, head.status);
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

fn detect_body_format(headers: &HeaderMap, protocol: AwsProtocol, status: StatusCode) -> BodyFormat {
    let kind = header_text(headers, "content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind.contains("json") {
        return BodyFormat::Json;
    }
    if kind.ends_with("xml") {
        return BodyFormat::Xml;
    }
    if kind == "application/cbor" {
        return BodyFormat::Cbor;
    }
    if !status.is_success() {
        return BodyFormat::Text;
    }
    match protocol {
        AwsProtocol::Json10 | AwsProtocol::Json11 | AwsProtocol::RestJson => BodyFormat::Json,
        AwsProtocol::Query | AwsProtocol::Ec2 | AwsProtocol::RestXml => BodyFormat::Xml,
        AwsProtocol::RpcV2Cbor => BodyFormat::Cbor,
    }
}
