//! The canonical request. One implementation for verifying and for signing.

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use std::borrow::Cow;

/// How a service canonicalises the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathCanonicalization {
    /// S3 and its kin: the path is decoded once and encoded once, never normalised.
    S3,
    /// Everyone else: dot segments and double slashes removed, then the path as sent is encoded again.
    Normalized,
}

impl PathCanonicalization {
    /// By the service in the credential scope.
    pub fn for_service(service: &str) -> Self {
        match service {
            "s3" | "s3express" | "s3-outposts" | "s3-object-lambda" => Self::S3,
            _ => Self::Normalized,
        }
    }
}

/// RFC 3986 unreserved characters stay; all else is encoded.
const URI_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH_ENCODE_SET: &AsciiSet = &URI_ENCODE_SET.remove(b'/');

pub fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode_str(text).into()
}

pub fn percent_encode(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, URI_ENCODE_SET).to_string()
}

pub(super) struct CanonicalRequest<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub signed_headers: &'a [String],
    pub payload_hash: &'a str,
    pub path_canonicalization: PathCanonicalization,
}

impl CanonicalRequest<'_> {
    /// The canonical request, or the name of a signed header that the request lacks or that is not text.
    pub fn to_text(&self) -> Result<String, String> {
        let mut text = String::with_capacity(1024);
        text.push_str(self.method);
        text.push('\n');
        push_canonical_path(self.path, self.path_canonicalization, &mut text);
        text.push('\n');
        push_canonical_query(self.query, &mut text);
        text.push('\n');
        for name in self.signed_headers {
            text.push_str(name);
            text.push(':');
            let mut found = false;
            for value in self.headers.get_all(name.as_str()) {
                if found {
                    text.push(',');
                }
                found = true;
                let value = std::str::from_utf8(value.as_bytes()).map_err(|_invalid| name.clone())?;
                push_trimmed_value(value, &mut text);
            }
            if !found {
                return Err(name.clone());
            }
            text.push('\n');
        }
        text.push('\n');
        for (index, name) in self.signed_headers.iter().enumerate() {
            if index > 0 {
                text.push(';');
            }
            text.push_str(name);
        }
        text.push('\n');
        text.push_str(self.payload_hash);
        Ok(text)
    }
}

fn push_canonical_path(path: &str, style: PathCanonicalization, out: &mut String) {
    let path = if path.is_empty() { "/" } else { path };
    match style {
        PathCanonicalization::S3 => {
            let decoded = percent_decode(path);
            out.extend(percent_encoding::percent_encode(&decoded, PATH_ENCODE_SET));
        }
        PathCanonicalization::Normalized => {
            let normal = normalize_path(path);
            out.extend(percent_encoding::percent_encode(normal.as_bytes(), PATH_ENCODE_SET));
        }
    }
}

/// RFC 3986 section 5.2.4 dot-segment removal, with empty segments dropped too.
fn normalize_path(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() || path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        normal.push('/');
    }
    Cow::Owned(normal)
}

fn push_canonical_query(query: &str, out: &mut String) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("X-Amz-Signature="))
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_encode(&percent_decode(name)), percent_encode(&percent_decode(value)))
        })
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
}

/// Leading and trailing blanks removed, runs of blanks inside made one.
fn push_trimmed_value(value: &str, out: &mut String) {
    let mut blank = false;
    for character in value.trim_matches([' ', '\t']).chars() {
        if character == ' ' || character == '\t' {
            blank = true;
            continue;
        }
        if blank {
            out.push(' ');
            blank = false;
        }
        out.push(character);
    }
}
