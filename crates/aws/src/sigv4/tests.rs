//! AWS's published examples, the AWS SDK's own signer as an oracle, and a change of every signed part.

use super::inbound::{self, SignatureLocation, SignedRequestHead};
use super::*;
use durward_core::{RefusalReason, Secret};
use http::{HeaderMap, HeaderValue, Method};
use time::macros::datetime;

const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn header_map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn derive_signing_key(claimed: &inbound::ClaimedSignature) -> SigningKey {
    SigningKey::derive(SECRET_ACCESS_KEY, &claimed.scope_date, &claimed.region, &claimed.service)
}

/// S3 API reference, "Authenticating requests: using the Authorization header", example GET object.
#[test]
fn accepts_the_documented_s3_get() {
    let headers = header_map(&[
        ("host", "examplebucket.s3.amazonaws.com"),
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", "20130524T000000Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    ]);
    let head = SignedRequestHead { method: &Method::GET, path: "/test.txt", query: "", headers: &headers };
    let claimed = inbound::parse_claimed_signature(&head).unwrap();
    claimed.verify_signature(&head, EMPTY_SHA256, &derive_signing_key(&claimed)).unwrap();
    assert_eq!(claimed.signing_time, datetime!(2013-05-24 0:00 UTC));
}

/// S3 API reference, "Authenticating requests: using query parameters", example.
#[test]
fn accepts_the_documented_presigned_get() {
    let headers = header_map(&[("host", "examplebucket.s3.amazonaws.com")]);
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let head = SignedRequestHead { method: &Method::GET, path: "/test.txt", query, headers: &headers };
    let claimed = inbound::parse_claimed_signature(&head).unwrap();
    assert_eq!(claimed.location, SignatureLocation::Query { expires_seconds: 86400 });
    claimed.verify_signature(&head, UNSIGNED_PAYLOAD, &derive_signing_key(&claimed)).unwrap();
    assert!(claimed.check_signing_time(datetime!(2013-05-24 23:59 UTC)).is_ok());
    assert_eq!(
        claimed.check_signing_time(datetime!(2013-05-25 0:01 UTC)).unwrap_err().reason,
        RefusalReason::RequestExpired
    );
    let other = SignedRequestHead { method: &Method::DELETE, ..head };
    assert_eq!(
        claimed.verify_signature(&other, UNSIGNED_PAYLOAD, &derive_signing_key(&claimed)).unwrap_err().reason,
        RefusalReason::SignatureMismatch
    );
}

fn signed_headers(
    method: &Method,
    path: &str,
    query: &str,
    service: &str,
    extra: &[(&'static str, &str)],
) -> HeaderMap {
    let mut map = header_map(&[("host", "gw.example"), ("content-type", "application/x-amz-json-1.0")]);
    map.extend(header_map(extra));
    let at = datetime!(2026-11-21 12:00 UTC);
    let token = Secret::new("token");
    let signer = outbound::SigningParams {
        access_key_id: "DWRDEXAMPLE",
        session_token: Some(&token),
        signing_key: &SigningKey::derive(SECRET_ACCESS_KEY, "20261121", "eu-west-1", service),
        region: "eu-west-1",
        service,
        signing_time: at,
    };
    outbound::sign_request(&signer, method, path, query, &mut map, &sha256_hex(b"{}")).unwrap();
    map
}

#[test]
fn a_signed_request_verifies_and_any_change_of_a_signed_part_is_refused() {
    let post = Method::POST;
    let map = signed_headers(&post, "/a%20b", "x=1&a=%2F", "s3", &[("x-amz-meta-a", "  two   words ")]);
    let head = SignedRequestHead { method: &post, path: "/a%20b", query: "x=1&a=%2F", headers: &map };
    let claimed = inbound::parse_claimed_signature(&head).unwrap();
    let hash = sha256_hex(b"{}");
    let key = derive_signing_key(&claimed);
    claimed.verify_signature(&head, &hash, &key).unwrap();
    let is_refused = |head: SignedRequestHead<'_>, hash: &str| {
        claimed.verify_signature(&head, hash, &key).unwrap_err().reason == RefusalReason::SignatureMismatch
    };
    assert!(is_refused(SignedRequestHead { method: &Method::PUT, ..head }, &hash));
    assert!(is_refused(SignedRequestHead { path: "/a%20c", ..head }, &hash));
    assert!(is_refused(SignedRequestHead { query: "x=2&a=%2F", ..head }, &hash));
    assert!(is_refused(head, &sha256_hex(b"{ }")));
    for name in ["host", "content-type", "x-amz-meta-a", "x-amz-security-token"] {
        let mut changed = map.clone();
        changed.insert(name, HeaderValue::from_static("changed"));
        assert!(is_refused(SignedRequestHead { headers: &changed, ..head }, &hash), "{name}");
    }
}

#[test]
fn refuses_headers_that_are_doubled_or_left_out_of_the_signature() {
    let post = Method::POST;
    let map = signed_headers(&post, "/", "", "dynamodb", &[("x-amz-target", "DynamoDB_20120810.ListTables")]);
    let parse = |map: &HeaderMap| {
        inbound::parse_claimed_signature(&SignedRequestHead {
            method: &post,
            path: "/",
            query: "",
            headers: map,
        })
    };
    assert!(parse(&map).is_ok());
    let mut unsigned = map.clone();
    unsigned.insert("x-amz-copy-source", HeaderValue::from_static("b/k"));
    assert!(parse(&unsigned).unwrap_err().message.contains("`x-amz-copy-source` is not signed"));
    for name in ["x-amz-target", "host", "authorization", "x-amz-date", "x-amz-security-token"] {
        let mut doubled = map.clone();
        doubled.append(name, HeaderValue::from_static("DynamoDB_20120810.DeleteTable"));
        assert!(parse(&doubled).unwrap_err().message.contains("more than once"), "{name}");
    }
    let text = map["authorization"].to_str().unwrap();
    for (from, to) in [
        ("host;", ""),
        ("SignedHeaders=content-type;host", "SignedHeaders=host;content-type"),
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("/20261121/", "/20261122/"),
        ("aws4_request", "aws4_requesX"),
        ("Signature=", "Signature=0,Signature="),
        ("/eu-west-1/", "/evil:\\\\/"),
    ] {
        let mut changed = map.clone();
        changed.insert("authorization", HeaderValue::from_str(&text.replace(from, to)).unwrap());
        assert!(parse(&changed).is_err(), "{from} -> {to}");
    }
}

#[test]
fn refuses_credentials_in_two_places_and_old_or_missing_signatures() {
    let get = Method::GET;
    let map = signed_headers(&get, "/", "", "s3", &[]);
    let parse = |query: &str, map: &HeaderMap| {
        inbound::parse_claimed_signature(&SignedRequestHead { method: &get, path: "/", query, headers: map })
            .unwrap_err()
    };
    assert_eq!(parse("X-Amz-Signature=00", &map).reason, RefusalReason::Malformed);
    assert_eq!(parse("x-amz-credential=AKIA", &map).reason, RefusalReason::Malformed);
    let bare = header_map(&[("host", "gw.example")]);
    assert!(parse("AWSAccessKeyId=AKIA&Signature=x&Expires=1", &bare).message.contains("Version 2"));
    assert_eq!(parse("", &bare).reason, RefusalReason::MissingAuthentication);
}

#[test]
fn refuses_dates_beyond_the_clock_skew_and_presigned_urls_over_seven_days() {
    let post = Method::POST;
    let map = signed_headers(&post, "/", "", "sqs", &[]);
    let claimed = inbound::parse_claimed_signature(&SignedRequestHead {
        method: &post,
        path: "/",
        query: "",
        headers: &map,
    })
    .unwrap();
    assert!(claimed.check_signing_time(datetime!(2026-11-21 12:15 UTC)).is_ok());
    for now in [datetime!(2026-11-21 12:15:01 UTC), datetime!(2026-11-21 11:44:59 UTC)] {
        assert_eq!(claimed.check_signing_time(now).unwrap_err().reason, RefusalReason::ClockSkew);
    }
    let bare = header_map(&[("host", "h")]);
    for expires in ["0", "604801", "-1", "x"] {
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261121%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20261121T120000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature={EMPTY_SHA256}"
        );
        let error = inbound::parse_claimed_signature(&SignedRequestHead {
            method: &post,
            path: "/",
            query: &query,
            headers: &bare,
        })
        .unwrap_err();
        assert!(error.message.contains("X-Amz-Expires"), "{expires}");
    }
}

/// The AWS SDK for Rust's signer as the oracle for both canonicalisation styles.
#[test]
fn agrees_with_the_aws_sdk_signer() {
    use aws_sigv4::http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    };
    for (service, path, query) in [
        ("s3", "/bucket/a%20b%2Bc/%C3%BC//x/../y", "list-type=2&prefix=a%2Fb&empty="),
        (
            "lambda",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af/invocations",
            "Qualifier=%24LATEST",
        ),
        ("iam", "/", ""),
        ("execute-api", "/a/./b/../c//d", "b=2&a=1&a=0"),
    ] {
        let identity = aws_credential_types::Credentials::from_keys(
            "AKIDEXAMPLE",
            SECRET_ACCESS_KEY,
            Some("token".to_owned()),
        )
        .into();
        let mut settings = SigningSettings::default();
        if service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(service)
            .time(std::time::UNIX_EPOCH + std::time::Duration::from_hours(498_684))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!("https://gw.example{path}?{query}");
        let request = SignableRequest::new(
            "GET",
            &url,
            [("x-amz-meta-z", "a  b")].into_iter(),
            SignableBody::Bytes(b""),
        )
        .unwrap();
        let (instructions, _signature) =
            aws_sigv4::http_request::sign(request, &params).unwrap().into_parts();
        let mut map = header_map(&[("host", "gw.example"), ("x-amz-meta-z", "a  b")]);
        for (name, value) in instructions.headers() {
            map.insert(http::HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let get = Method::GET;
        let head = SignedRequestHead { method: &get, path, query, headers: &map };
        let claimed = inbound::parse_claimed_signature(&head).unwrap();
        claimed
            .verify_signature(&head, EMPTY_SHA256, &derive_signing_key(&claimed))
            .unwrap_or_else(|error| panic!("{service} {path}: {error}"));
    }
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(query in "[ -~]{0,200}", authorization in "(AWS4-HMAC-SHA256 )?[ -~]{0,200}", date in "[ -~]{0,20}") {
        let mut map = header_map(&[("host", "h"), ("x-amz-date", &date)]);
        if let Ok(value) = HeaderValue::from_str(&authorization) {
            map.insert("authorization", value);
        }
        let _either = inbound::parse_claimed_signature(&SignedRequestHead { method: &Method::GET, path: "/", query: &query, headers: &map });
    }
}
