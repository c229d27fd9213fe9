//! Toward AWS: the endpoint from our own tables, the headers that may travel, a fresh signature, the answer read.

use super::{AwsFrontEnd, AwsRequestBody, InboundAwsRequest, OperationTarget, queue_url, upload_body};
use crate::body::{BoxBody, read_limited_body};
use crate::gateway_services::GatewayServices;
use crate::pipeline::ForwardableRequest;
use crate::upstream_client::{UpstreamError, UpstreamOrigin};
use crate::upstream_response::{OwnedMaskingPlan, UpstreamBody, UpstreamResponse};
use durward_aws::sigv4::inbound::SignatureLocation;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_catalog::{AwsProtocol, ShapeKind};
use durward_core::{Refusal, RefusalReason, limits};
use durward_masking::BodyFormat;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use time::OffsetDateTime;

pub(super) async fn forward_request(
    door: &AwsFrontEnd,
    rooms: &GatewayServices,
    forwardable: ForwardableRequest<InboundAwsRequest>,
) -> Result<UpstreamResponse, Refusal> {
    let internal = |what: &str| Refusal::new(RefusalReason::Internal, what.to_owned());
    let ForwardableRequest { request: wire, credential, .. } = forwardable;
    let credential = credential.ok_or_else(|| internal("no credential was lent for this operation"))?;
    let target = wire.operation_target.clone().ok_or_else(|| internal("the operation has no target"))?;
    let (origin, region, service) = resolve_endpoint(door, rooms, &wire, &target)?;
    let path = match &wire.bucket {
        Some(bucket) => format!("/{bucket}{}", wire.path),
        None => wire.path.clone(),
    };
    let query = forwarded_query(&wire);
    let method = wire.method.clone();
    let gateway = format!(
        "{}://{}",
        if door.uses_tls { "https" } else { "http" },
        header_text(&wire.headers, "host").unwrap_or_default()
    );
    let mut headers = forwarded_headers(&wire.headers);
    headers.insert(
        header::HOST,
        HeaderValue::from_str(&origin.authority())
            .map_err(|_error| internal("the upstream's name is not a header value"))?,
    );
    let request_bytes = match &wire.body {
        AwsRequestBody::Buffered(bytes) => bytes.len() as u64,
        AwsRequestBody::Unread(_) => {
            header_text(&wire.headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
        }
    };
    let (body, payload_hash) = upload_body::build_upload_body(wire, &mut headers)?;
    let at = OffsetDateTime::now_utc();
    let date = durward_aws::sigv4::inbound::format_timestamp(at);
    let day = date.get(..8).unwrap_or_default();
    let key = door.signing_keys.get_or_derive(
        &credential.access_key_id,
        &credential.secret_access_key,
        day,
        &region,
        &service,
    );
    let signer = SigningParams {
        access_key_id: &credential.access_key_id,
        session_token: Some(&credential.session_token),
        signing_key: &key,
        region: &region,
        service: &service,
        signing_time: at,
    };
    sign_request(&signer, &method, &path, &query, &mut headers, &payload_hash).map_err(|error| {
        internal("the request could not be signed, so it was not sent").with_detail(error)
    })?;
    let target_text = if query.is_empty() { path } else { format!("{path}?{query}") };
    let uri: Uri = target_text.parse().map_err(|_error| internal("the request target cannot be written"))?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let response = rooms.upstream_client.send(&origin, request).await.map_err(|error| match error {
        UpstreamError::RequestBody(refusal) => refusal,
        error => {
            Refusal::new(RefusalReason::Upstream, "AWS could not be reached, or broke off before it answered")
                .with_detail(error)
        }
    })?;
    let mut answer = read_response(&target, &method, response).await?;
    answer.request_bytes = request_bytes;
    queue_url::rewrite_queue_urls(&gateway, &target, &mut answer);
    Ok(answer)
}

fn resolve_endpoint(
    door: &AwsFrontEnd,
    rooms: &GatewayServices,
    wire: &InboundAwsRequest,
    target: &OperationTarget,
) -> Result<(UpstreamOrigin, String, String), Refusal> {
    let (region, service) = (wire.claimed_signature.region.clone(), wire.claimed_signature.service.clone());
    if let Some(emulator) = &door.emulator {
        return Ok((emulator.clone(), region, service));
    }
    let endpoint = rooms.catalog.resolve_endpoint(&target.service.id, &region).ok_or_else(|| {
        Refusal::new(
            RefusalReason::UnknownOperation,
            format!("no endpoint of `{}` is known in region `{region}`", target.service.id),
        )
    })?;
    Ok((UpstreamOrigin::https(&endpoint.host), endpoint.signing_region, endpoint.signing_name))
}

/// The query without the caller's own presigned credential.
fn forwarded_query(wire: &InboundAwsRequest) -> String {
    if wire.claimed_signature.location == SignatureLocation::Header {
        return wire.query.clone();
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
    let kept: Vec<&str> = wire
        .query
        .split('&')
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let name =
                String::from_utf8_lossy(&durward_aws::sigv4::percent_decode(name)).to_ascii_lowercase();
            !PRESIGN_PARAMETERS.contains(&name.as_str())
        })
        .collect();
    kept.join("&")
}

/// Hop-by-hop headers (RFC 9110 section 7.6.1), the caller's own credential, and what proxies add about the caller.
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
    // Answers are masked: they must come readable.
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
    let upstream_request_id = ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"]
        .into_iter()
        .find_map(|name| header_text(&head.headers, name).map(str::to_owned));
    let error_code = header_text(&head.headers, "x-amzn-errortype").map(str::to_owned);
    let output =
        target.service.operations.get(target.operation_index).and_then(|operation| operation.output_shape);
    let streams = head.status.is_success() && output.is_some_and(|shape| is_streaming_output(target, shape));
    let body = if streams {
        UpstreamBody::Stream(body)
    } else {
        let bytes = read_limited_body(body, limits::MAX_MASKED_RESPONSE_BYTES, "answer")
            .await
            .map_err(|refusal| Refusal { reason: RefusalReason::Upstream, ..refusal })?;
        if !bytes.is_empty()
            && header_text(&head.headers, "content-encoding").is_some_and(|coding| coding != "identity")
        {
            return Err(Refusal::new(
                RefusalReason::Upstream,
                "the answer is compressed and cannot be inspected, so it is withheld",
            ));
        }
        let content = detect_body_format(&head.headers, target.protocol, head.status);
        if *method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        UpstreamBody::Buffered { bytes, content }
    };
    let plan = head.status.is_success().then(|| OwnedMaskingPlan {
        service: target.service.clone(),
        output_shape: output,
        protocol: target.protocol,
    });
    Ok(UpstreamResponse { head, body, masking_plan: plan, error_code, request_bytes: 0, upstream_request_id })
}

/// Whether the output is an object body or an event stream: passed on, not read.
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
