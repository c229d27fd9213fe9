//! Toward AWS: the endpoint from our own tables, the headers that may travel, a fresh signature, the answer read.

use super::{AwsDoor, AwsWire, InboundBody, Target, queue_url, upload};
use crate::answer::{Answer, AnswerBody, OwnedPlan};
use crate::body::{Body, read_whole};
use crate::line::Forwardable;
use crate::rooms::Rooms;
use crate::transport::{Origin, TransportError};
use durward_aws::sigv4::inbound::Form;
use durward_aws::sigv4::outbound::{Signer, sign};
use durward_catalog::{Protocol, ShapeKind};
use durward_core::{Reason, Refusal, limits};
use durward_masking::Content;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use time::OffsetDateTime;

pub(super) async fn forward(
    door: &AwsDoor,
    rooms: &Rooms,
    forwardable: Forwardable<AwsWire>,
) -> Result<Answer, Refusal> {
    let internal = |what: &str| Refusal::new(Reason::Internal, what.to_owned());
    let Forwardable { wire, credential, .. } = forwardable;
    let credential = credential.ok_or_else(|| internal("no credential was lent for this operation"))?;
    let target = wire.target.clone().ok_or_else(|| internal("the operation has no target"))?;
    let (origin, region, service) = endpoint(door, rooms, &wire, &target)?;
    let path = match &wire.bucket {
        Some(bucket) => format!("/{bucket}{}", wire.path),
        None => wire.path.clone(),
    };
    let query = travelling_query(&wire);
    let method = wire.method.clone();
    let gateway = format!(
        "{}://{}",
        if door.tls { "https" } else { "http" },
        text(&wire.headers, "host").unwrap_or_default()
    );
    let mut headers = travelling_headers(&wire.headers);
    headers.insert(
        header::HOST,
        HeaderValue::from_str(&origin.authority())
            .map_err(|_error| internal("the upstream's name is not a header value"))?,
    );
    let request_bytes = match &wire.body {
        InboundBody::Whole(bytes) => bytes.len() as u64,
        InboundBody::Unread(_) => {
            text(&wire.headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
        }
    };
    let (body, payload_hash) = upload::outgoing(wire, &mut headers)?;
    let at = OffsetDateTime::now_utc();
    let date = durward_aws::sigv4::inbound::format_timestamp(at);
    let day = date.get(..8).unwrap_or_default();
    let key = door.keys.key(&credential.access_key_id, &credential.secret, day, &region, &service);
    let signer = Signer {
        access_key_id: &credential.access_key_id,
        session_token: Some(&credential.session_token),
        key: &key,
        region: &region,
        service: &service,
        at,
    };
    sign(&signer, &method, &path, &query, &mut headers, &payload_hash)
        .map_err(|error| internal("the request could not be signed, so it was not sent").detail(error))?;
    let target_text = if query.is_empty() { path } else { format!("{path}?{query}") };
    let uri: Uri = target_text.parse().map_err(|_error| internal("the request target cannot be written"))?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let response = rooms.transport.send(&origin, request).await.map_err(|error| match error {
        TransportError::Upload(refusal) => refusal,
        error => Refusal::new(Reason::Upstream, "AWS could not be reached, or broke off before it answered")
            .detail(error),
    })?;
    let mut answer = read_answer(&target, &method, response).await?;
    answer.request_bytes = request_bytes;
    queue_url::point_at(&gateway, &target, &mut answer);
    Ok(answer)
}

fn endpoint(
    door: &AwsDoor,
    rooms: &Rooms,
    wire: &AwsWire,
    target: &Target,
) -> Result<(Origin, String, String), Refusal> {
    let (region, service) = (wire.claimed.region.clone(), wire.claimed.service.clone());
    if let Some(emulator) = &door.emulator {
        return Ok((emulator.clone(), region, service));
    }
    let endpoint = rooms.catalog.endpoint(&target.service.id, &region).ok_or_else(|| {
        Refusal::new(
            Reason::UnknownOperation,
            format!("no endpoint of `{}` is known in region `{region}`", target.service.id),
        )
    })?;
    Ok((Origin::https(&endpoint.host), endpoint.signing_region, endpoint.signing_name))
}

/// The query without the caller's own presigned credential.
fn travelling_query(wire: &AwsWire) -> String {
    if wire.claimed.form == Form::Header {
        return wire.query.clone();
    }
    const AUTHENTICATION: [&str; 8] = [
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
            !AUTHENTICATION.contains(&name.as_str())
        })
        .collect();
    kept.join("&")
}

/// Hop-by-hop headers (RFC 9110 section 7.6.1), the caller's own credential, and what proxies add about the caller.
fn stays_behind(name: &HeaderName) -> bool {
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

fn travelling_headers(inbound: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(inbound.len());
    let named: Vec<String> = inbound
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    for (name, value) in inbound {
        if !stays_behind(name) && !named.iter().any(|hop| hop == name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
    // Answers are masked: they must come readable.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn read_answer(target: &Target, method: &Method, response: Response<Body>) -> Result<Answer, Refusal> {
    let (mut head, body) = response.into_parts();
    for name in
        ["connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade"]
    {
        head.headers.remove(name);
    }
    let upstream_request_id = ["x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id"]
        .into_iter()
        .find_map(|name| text(&head.headers, name).map(str::to_owned));
    let error_code = text(&head.headers, "x-amzn-errortype").map(str::to_owned);
    let output = target.service.operations.get(target.operation).and_then(|operation| operation.output);
    let streams = head.status.is_success() && output.is_some_and(|shape| streams(target, shape));
    let body = if streams {
        AnswerBody::Stream(body)
    } else {
        let bytes = read_whole(body, limits::ANSWER, "answer")
            .await
            .map_err(|refusal| Refusal { reason: Reason::Upstream, ..refusal })?;
        if !bytes.is_empty()
            && text(&head.headers, "content-encoding").is_some_and(|coding| coding != "identity")
        {
            return Err(Refusal::new(
                Reason::Upstream,
                "the answer is compressed and cannot be inspected, so it is withheld",
            ));
        }
        let content = content_of(&head.headers, target.protocol, head.status);
        if *method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        AnswerBody::Whole { bytes, content }
    };
    let plan = head.status.is_success().then(|| OwnedPlan {
        service: target.service.clone(),
        output,
        protocol: target.protocol,
    });
    Ok(Answer { head, body, plan, error_code, request_bytes: 0, upstream_request_id })
}

/// Whether the output is an object body or an event stream: passed on, not read.
fn streams(target: &Target, output: u32) -> bool {
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
            Some(ShapeKind::Blob { streaming }) => {
                *streaming && payload.as_deref() == Some(member.name.as_str())
            }
            _ => false,
        }
    })
}

fn content_of(headers: &HeaderMap, protocol: Protocol, status: StatusCode) -> Content {
    let kind = text(headers, "content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind.contains("json") {
        return Content::Json;
    }
    if kind.ends_with("xml") {
        return Content::Xml;
    }
    if kind == "application/cbor" {
        return Content::Cbor;
    }
    if !status.is_success() {
        return Content::Text;
    }
    match protocol {
        Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => Content::Json,
        Protocol::Query | Protocol::Ec2 | Protocol::RestXml => Content::Xml,
        Protocol::RpcV2Cbor => Content::Cbor,
    }
}
