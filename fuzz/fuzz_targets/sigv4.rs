//! The header and query forms of an inbound signature: any text is parsed or refused, and never verifies.
#![no_main]

use durward_aws::sigv4::inbound::{SignedRequestHead, parse_claimed_signature};
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, &[u8], &[u8])| {
    let (path, query, date, authorization, payload) = input;
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gw.example"));
    for (name, value) in [("x-amz-date", date.as_bytes()), ("authorization", authorization), ("x-amz-content-sha256", payload)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let head = SignedRequestHead { method: &Method::GET, path, query, headers: &headers };
    if let Ok(claimed) = parse_claimed_signature(&head) {
        let key = durward_aws::sigv4::SigningKey::derive("secret", &claimed.scope_date, &claimed.region, &claimed.service);
        assert!(claimed.verify_signature(&head, "UNSIGNED-PAYLOAD", &key).is_err(), "a forged signature was accepted");
    }
});
