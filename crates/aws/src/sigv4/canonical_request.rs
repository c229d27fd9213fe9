//! The canonical request (IAM User Guide, "Create a signed AWS API request"): one implementation for verifying and signing.

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use std::borrow::Cow;

/// The two ways in which services canonicalise the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathCanonicalization {
    /// The S3 family: the path is decoded once and encoded once, never normalised, because object keys may contain `//` and `..`.
    S3,
    /// All other services: dot segments and double slashes are removed, then the path as sent is encoded again.
    Normalized,
}

impl PathCanonicalization {
    /// The form for the service in a credential scope.
    pub fn for_service(service: &str) -> Self {
        if is_s3_signing_name(service) { Self::S3 } else { Self::Normalized }
    }
}

/// Returns true if a signing name belongs to the S3 family: same canonical path, same errors.
pub(crate) fn is_s3_signing_name(service: &str) -> bool {
    matches!(service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda")
}

/// Everything but the unreserved characters of RFC 3986 section 2.3.
const URI_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH_ENCODE_SET: &AsciiSet = &URI_ENCODE_SET.remove(b'/');

/// Decodes percent escapes leniently: a bad escape stays as it is.
pub fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode_str(text).into()
}

/// Encodes everything but unreserved characters.
pub fn percent_encode(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, URI_ENCODE_SET).to_string()
}

/// A signed header cannot be canonicalised.
#[derive(Debug, thiserror::Error)]
#[error("signed header `{0}` is missing or is not text")]
pub(super) struct SignedHeaderError(String);

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
    /// The text of the canonical request.
    pub fn to_text(&self) -> Result<String, SignedHeaderError> {
        let mut text = String::with_capacity(1024);
        text.push_str(self.method);
        text.push('\n');
        push_canonical_path(self.path, self.path_canonicalization, &mut text);
        text.push('\n');
        push_canonical_query(self.query, &mut text);
        text.push('\n');
        // Values of a repeated header are joined by commas in the order in which they arrived (IAM User Guide, "Create a signed
        // AWS API request").
        for name in self.signed_headers {
            text.push_str(name);
            text.push(':');
            let mut found = false;
            for value in self.headers.get_all(name.as_str()) {
                if found {
                    text.push(',');
                }
                found = true;
                let value = std::str::from_utf8(value.as_bytes())
                    .map_err(|_invalid| SignedHeaderError(name.clone()))?;
                push_trimmed_value(value, &mut text);
            }
            if !found {
                return Err(SignedHeaderError(name.clone()));
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

/// Removes dot segments (RFC 3986 section 5.2.4), and empty segments too.
fn normalize_path(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &segments {
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
        // A signature cannot cover itself. Only this spelling is left out: any other one stays in, and the signature does not
        // match.
        .filter(|pair| !pair.is_empty() && !pair.starts_with("X-Amz-Signature="))
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_encode(&percent_decode(name)), percent_encode(&percent_decode(value)))
        })
        .collect();
    // AWS sorts the encoded names. Encoding first changes the order, because `%` sorts before digits and letters.
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

/// Appends a value without leading and trailing blanks, and with one space for each run of blanks inside.
fn push_trimmed_value(value: &str, out: &mut String) {
    // Word by word, not letter by letter: a session token is a thousand letters without a blank.
    for (index, word) in value.split([' ', '\t']).filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}
