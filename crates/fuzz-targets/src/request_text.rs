//! The text form of a request in a seed: a first line, header lines, an empty line, the body.
//!
//! It is not HTTP, which hyper reads: the first line says what the target needs to know. Lines end with a line feed.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) struct RequestText<'a> {
    pub(crate) first_line: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Header lines that HTTP does not allow are left out: hyper refuses them before any parser of ours runs.
pub(crate) fn parse_request_text(input: &[u8]) -> Option<RequestText<'_>> {
    let (first_line, mut rest) = split_line(input);
    let mut headers = HeaderMap::new();
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    Some(RequestText { first_line: std::str::from_utf8(first_line).ok()?, headers, body: rest })
}

fn split_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (input.get(..end).unwrap_or_default(), input.get(end + 1..).unwrap_or_default()),
        None => (input, &[]),
    }
}

/// Splits `path?query`.
pub(crate) fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_parts() {
        let request = parse_request_text(b"GET /a\nHost: gw\nbad name: x\n\nbody\n\nmore").unwrap();
        assert_eq!(request.first_line, "GET /a");
        assert_eq!(request.headers.len(), 1);
        assert_eq!(request.headers["host"], "gw");
        assert_eq!(request.body, b"body\n\nmore");
        assert_eq!(parse_request_text(b"one line").unwrap().body, b"");
        assert!(parse_request_text(b"\xff").is_none());
    }
}
