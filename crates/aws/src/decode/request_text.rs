//! Text as it comes in heads: percent-decoding, query pairs, header values. Everything is strict: a bad escape, bytes that
//! are not UTF-8 and a value given twice are refusals.

use durward_core::{Refusal, RefusalReason, limits};
use http::HeaderMap;
use std::borrow::Cow;

/// Refusal of a request that contradicts itself or its protocol.
pub(super) fn malformed_request(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::Malformed, message)
}

/// Refusal of a body that would take too much memory to read.
pub(super) fn too_many_values(what: &str, limit: usize) -> Refusal {
    Refusal::new(RefusalReason::TooLarge, format!("the body holds more than {limit} {what}"))
}

/// Refusal of a request in which no operation, or more than one, is found.
pub(super) fn unknown_operation(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::UnknownOperation, message)
}

/// Caller text made fit for a message: printable ASCII, at most 80 characters.
pub(super) fn quote_for_message(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() && c != '`' { c } else { '?' }).take(80).collect()
}

/// Percent-decodes; `plus` says whether `+` is a space (forms) or itself (paths).
pub(super) fn decode_percent(raw: &str, plus: bool) -> Result<String, Refusal> {
    decode_escapes(raw, plus).map(Cow::into_owned)
}

fn decode_escapes(raw: &str, plus: bool) -> Result<Cow<'_, str>, Refusal> {
    if !raw.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(parse_hex_digit);
                let low = bytes.next().and_then(parse_hex_digit);
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(malformed_request(
                        "a percent sign is not followed by two hexadecimal digits",
                    ));
                };
                out.push(high << 4 | low);
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
    }
    let text =
        String::from_utf8(out).map_err(|_| malformed_request("percent-encoded text is not valid utf-8"))?;
    Ok(Cow::Owned(text))
}

fn parse_hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A name and its value.
pub(super) type ParameterPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The decoded pairs of a query string or form, in order. A key without `=` has an empty value.
pub(super) fn parse_pairs(raw: &str, plus: bool) -> Result<Vec<ParameterPair<'_>>, Refusal> {
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    if raw.bytes().filter(|byte| *byte == b'&').count() >= limits::MAX_FORM_NAME_PARTS {
        return Err(too_many_values("parameters", limits::MAX_FORM_NAME_PARTS));
    }
    raw.split('&')
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key.is_empty() {
                return Err(malformed_request("a query or form parameter has no name"));
            }
            Ok((decode_escapes(key, plus)?, decode_escapes(value, plus)?))
        })
        .collect()
}

/// The pairs of a URL's query without those of a presigned signature, which the verifier has read.
pub(super) fn parse_query_pairs(raw: &str) -> Result<Vec<(String, String)>, Refusal> {
    if raw.contains('+') {
        // Services disagree on whether it is a space.
        return Err(malformed_request("the query holds a bare `+`; send %2B or %20"));
    }
    let pairs = parse_pairs(raw, false)?.into_iter().filter(|(key, _)| !is_signature_key(key));
    Ok(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
}

/// Query keys of a presigned request that are its signature.
fn is_signature_key(key: &str) -> bool {
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
    SIGNATURE_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// The one value of a header; `None` when it is absent, a refusal when it is there twice or is not UTF-8.
pub(super) fn get_single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed_request(format!("the header {} is given twice", quote_for_message(name))));
    }
    std::str::from_utf8(first.as_bytes())
        .map(|text| Some(text.trim_matches([' ', '\t'])))
        .map_err(|_| malformed_request(format!("the header {} is not valid utf-8", quote_for_message(name))))
}

/// The media type of the body in lower case, without parameters. Any charset but UTF-8 is refused.
pub(super) fn parse_media_type(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = get_single_header(headers, "content-type")? else { return Ok(None) };
    let mut parts = value.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
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

/// Whether the head says that a body follows.
pub(super) fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key("transfer-encoding")
        || headers.get_all("content-length").iter().any(|value| value.as_bytes() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_percent_escapes_strictly() {
        assert_eq!(decode_percent("a%20b%2Bc", false).unwrap(), "a b+c");
        assert_eq!(decode_percent("a+b", true).unwrap(), "a b");
        for bad in ["%", "%4", "%zz", "%ff", "%C3%28"] {
            assert!(decode_percent(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn quotes_only_printable_text() {
        assert_eq!(quote_for_message("Get\r\n`Object\u{202e}"), "Get???Object?");
        assert_eq!(quote_for_message(&"a".repeat(200)).len(), 80);
    }
}
