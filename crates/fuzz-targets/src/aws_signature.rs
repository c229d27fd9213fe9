//! What a caller's AWS signature consists of: the header or query form, the aws-chunked body, the session token.

use crate::request_text::{parse_request_text, split_target};
use bytes::Bytes;
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder};
use durward_aws::sigv4::SigningKey;
use durward_aws::sigv4::inbound::{SignedRequestHead, parse_claimed_signature};
use durward_identity::SealKeys;
use http::{HeaderValue, Method};
use std::sync::OnceLock;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// Input: `METHOD PATH?QUERY`, headers. Accepted where a signature is claimed; it must never be a right one.
pub(crate) fn parse_signature(input: &[u8]) -> bool {
    let Some(mut request) = parse_request_text(input) else { return false };
    let Some((method, target)) = request.first_line.split_once(' ') else { return false };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return false };
    request.headers.entry("host").or_insert(HeaderValue::from_static("gw.example"));
    let (path, query) = split_target(target);
    let head = SignedRequestHead { method: &method, path, query, headers: &request.headers };
    let Ok(claimed) = parse_claimed_signature(&head) else { return false };
    let key = SigningKey::derive("secret", &claimed.scope_date, &claimed.region, &claimed.service);
    assert!(
        claimed.verify_signature(&head, "UNSIGNED-PAYLOAD", &key).is_err(),
        "a signature was accepted that was not made with this key"
    );
    true
}

/// Input: `DECLARED_LENGTH TRAILER...`, an empty line, an aws-chunked body. However the body is split, the same data comes
/// out, and never more than was declared. Accepted where the body comes to its end.
pub(crate) fn read_chunked_body(input: &[u8]) -> bool {
    let Some(request) = parse_request_text(input) else { return false };
    let mut words = request.first_line.split(' ');
    let Some(declared_length) = words.next().and_then(|word| word.parse().ok()) else { return false };
    let trailers: Vec<String> = words.map(str::to_owned).collect();
    let read = |step| read_in_steps(request.body, step, declared_length, &trailers);
    let whole = read(request.body.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(read(step), whole, "in steps of {step}");
    }
    whole.is_some_and(|(_, is_done)| is_done)
}

/// The data, and whether the body came to its end; `None` where it is refused.
fn read_in_steps(
    body: &[u8],
    step: usize,
    declared_length: u64,
    trailers: &[String],
) -> Option<(Vec<u8>, bool)> {
    let mut decoder = ChunkedDecoder::new(declared_length, trailers.to_vec(), None);
    let mut data = Vec::new();
    for part in body.chunks(step) {
        for event in decoder.push(Bytes::copy_from_slice(part)).ok()? {
            if let ChunkEvent::Data(bytes) = event {
                data.extend_from_slice(&bytes);
            }
        }
    }
    assert!(data.len() as u64 <= declared_length);
    Some((data, decoder.is_done()))
}

/// Input: an access key id, and on the next line a session token. No token opens that this gateway did not seal.
pub(crate) fn open_session_token(input: &[u8]) -> bool {
    static KEYS: OnceLock<SealKeys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        SealKeys::from_master_keys(&[Zeroizing::new([7; 32])]).expect("one master key is enough")
    });
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let (access_key_id, token) = text.split_once('\n').unwrap_or((text, ""));
    assert!(keys.open(access_key_id, token.trim_end(), OffsetDateTime::UNIX_EPOCH).is_err());
    false
}
