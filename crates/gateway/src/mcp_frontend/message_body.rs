//! The body of a POST: one JSON-RPC message, in a media type and with an `Accept` as Streamable HTTP requires them (MCP
//! specification, "Transports").

use super::refusal::McpRefusal;
use crate::body::read_request_body;
use crate::memory_budget::MemoryReservation;
use bytes::Bytes;
use durward_core::{Refusal, RefusalReason};
use durward_mcp::{ClientMessage, error_codes};
use http::{HeaderMap, HeaderName, StatusCode, header};
use hyper::body::Incoming;

/// Reads the message, and gives the bytes that it was read from.
pub(super) async fn read_message(
    headers: &HeaderMap,
    body: Incoming,
    memory: &mut MemoryReservation,
) -> Result<(ClientMessage, Bytes), McpRefusal> {
    let malformed = |why: &str| McpRefusal::new(Refusal::new(RefusalReason::Malformed, why), None);
    let kind = header_text(headers, &header::CONTENT_TYPE)
        .map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        || headers.contains_key(header::CONTENT_ENCODING)
    {
        return Err(malformed("the body must be `application/json`, not encoded otherwise")
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, error_codes::INVALID_REQUEST));
    }
    // The server chooses between the two, so a client must accept both (MCP 2025-11-25, "Transports").
    if !(accepts_media_type(headers, "application", "json")
        && accepts_media_type(headers, "text", "event-stream"))
    {
        return Err(malformed("header `Accept` must list `application/json` and `text/event-stream`")
            .with_status(StatusCode::NOT_ACCEPTABLE, error_codes::INVALID_REQUEST));
    }
    let body = read_request_body(body, memory).await.map_err(|refusal| McpRefusal::new(refusal, None))?;
    Ok((ClientMessage::parse(&body)?, body))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn accepts_media_type(headers: &HeaderMap, family: &str, kind: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next()?.trim().split_once('/'))
        .any(|(one, other)| {
            (one.eq_ignore_ascii_case(family) && (other.eq_ignore_ascii_case(kind) || other == "*"))
                || (one == "*" && other == "*")
        })
}
