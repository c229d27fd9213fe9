//! Query keys and header values of a request head, read strictly: a value given twice or not in UTF-8 is refused.

use crate::form::{PlusSign, parse_pairs};
use crate::refusals::{malformed_request, quote_for_message};
use durward_core::Refusal;
use http::HeaderMap;

/// The pairs of a URL's query without the parts of a presigned signature, which the verifier has read.
pub(super) fn parse_query_pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    if query.contains('+') {
        // SigV4 encodes a space as %20, but services differ in whether they read a `+` as one.
        return Err(malformed_request("the query holds a bare `+`; send %2B or %20"));
    }
    let pairs =
        parse_pairs(query, PlusSign::Literal)?.into_iter().filter(|(name, _)| !is_signature_key(name));
    Ok(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
}

/// Returns true if a query key is part of a presigned signature.
fn is_signature_key(name: &str) -> bool {
    const SIGNATURE_KEYS: [&str; 8] = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "X-Amz-Content-Sha256",
    ];
    SIGNATURE_KEYS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The single value of a header, without the blanks around it. `None` when the header is absent.
pub(super) fn get_single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed_request(format!("the header {} is given twice", quote_for_message(name))));
    }
    std::str::from_utf8(first.as_bytes()).map(|text| Some(text.trim_matches([' ', '\t']))).map_err(
        |_invalid| malformed_request(format!("the header {} is not valid utf-8", quote_for_message(name))),
    )
}

/// The media type of the body in lower case, without parameters. Refuses any charset but UTF-8.
pub(super) fn parse_media_type(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = get_single_header(headers, "content-type")? else { return Ok(None) };
    let mut parts = value.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        // In another charset the same bytes are other text to a service that honours it.
        if name.trim().eq_ignore_ascii_case("charset")
            && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        {
            return Err(malformed_request("the body is not declared as utf-8"));
        }
    }
    Ok(Some(media).filter(|media| !media.is_empty()))
}

/// The content codings in lower case, in order.
pub(super) fn parse_content_encodings(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let Some(value) = get_single_header(headers, "content-encoding")? else { return Ok(Vec::new()) };
    Ok(value
        .split(',')
        .map(|part| part.trim().to_ascii_lowercase())
        .filter(|part| !part.is_empty())
        .collect())
}

/// Returns true if the head says that a body follows (RFC 9112 section 6.3).
pub(super) fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key("transfer-encoding")
        || headers.get_all("content-length").iter().any(|value| value.as_bytes() != b"0")
}
