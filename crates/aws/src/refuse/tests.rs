use super::*;

fn wire(protocol: Protocol) -> Wire {
    Wire { protocol: Some(protocol), ..Wire::default() }
}

fn text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

const ALL: [Protocol; 7] = [
    Protocol::Query,
    Protocol::Ec2,
    Protocol::Json10,
    Protocol::Json11,
    Protocol::RestJson,
    Protocol::RestXml,
    Protocol::RpcV2Cbor,
];

const REASONS: [Reason; 15] = [
    Reason::MissingAuthentication,
    Reason::InvalidToken,
    Reason::ExpiredToken,
    Reason::SignatureMismatch,
    Reason::ClockSkew,
    Reason::RequestExpired,
    Reason::Replay,
    Reason::AccessDenied,
    Reason::Malformed,
    Reason::BodyMismatch,
    Reason::TooLarge,
    Reason::UnknownOperation,
    Reason::Busy,
    Reason::Upstream,
    Reason::Internal,
];

#[test]
fn what_the_caller_or_policy_did_is_never_retried() {
    let throttling = ["Throttl", "TooManyRequests", "SlowDown", "LimitExceeded", "RequestTimeout"];
    for protocol in ALL {
        for reason in REASONS {
            if matches!(reason, Reason::Busy | Reason::Upstream | Reason::Internal) {
                continue;
            }
            for wire in [wire(protocol), Wire { s3: protocol == Protocol::RestXml, ..wire(protocol) }] {
                let answer = refusal_response(&Refusal::new(reason, "m"), &wire, "r", false);
                assert!(matches!(answer.status().as_u16(), 400 | 403), "{protocol:?} {reason:?}");
                let code = code(reason, &wire);
                assert!(!throttling.iter().any(|part| code.contains(part)), "{code}");
            }
        }
    }
}

#[test]
fn denials_have_the_shape_of_each_protocol() {
    let denied = Refusal::new(Reason::AccessDenied, "no <policy> & \"none\"\u{7}");
    let json = refusal_response(&denied, &wire(Protocol::Json10), "r1", false);
    assert_eq!(json.status(), 400);
    assert_eq!(json.headers()["content-type"], "application/x-amz-json-1.0");
    assert!(text(&json).contains("#AccessDeniedException"));
    let rest = refusal_response(&denied, &wire(Protocol::RestJson), "r1", false);
    assert_eq!(rest.status(), 403);
    assert_eq!(rest.headers()["x-amzn-errortype"], "AccessDeniedException");
    let query = refusal_response(&denied, &wire(Protocol::Query), "r1", false);
    assert!(text(&query).contains(
        "<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no &lt;policy&gt; &amp; &quot;none&quot;?</Message>"
    ));
    let ec2 = refusal_response(&denied, &wire(Protocol::Ec2), "r1", false);
    assert!(text(&ec2).contains("<Response><Errors><Error><Code>UnauthorizedOperation</Code>"));
    assert!(text(&ec2).ends_with("<RequestID>r1</RequestID></Response>"));
    let s3 = refusal_response(&denied, &Wire { s3: true, ..wire(Protocol::RestXml) }, "r1", false);
    assert!(text(&s3).contains("<Error><Code>AccessDenied</Code>"));
    assert_eq!(s3.headers()["x-amz-request-id"], "r1");
    let cbor = refusal_response(&denied, &wire(Protocol::RpcV2Cbor), "r1", false);
    assert_eq!(cbor.headers()["smithy-protocol"], "rpc-v2-cbor");
    assert_eq!(cbor.status(), 403);
    for answer in [&json, &rest, &query, &ec2, &s3, &cbor] {
        assert_eq!(answer.headers()["x-durward-exchange"], "r1");
    }
}

#[test]
fn an_answer_to_head_has_no_body_and_names_the_reason() {
    let wire = Wire { s3: true, ..wire(Protocol::RestXml) };
    let refusal = Refusal::new(Reason::AccessDenied, "no\r\nx: y");
    let answer = refusal_response(&refusal, &wire, "r1", true);
    assert!(answer.body().is_empty());
    assert_eq!(answer.headers()["x-durward-reason"], "no??x: y");
}

#[test]
fn sign_in_errors_are_those_of_sts() {
    let sts = Wire { sign_in: true, ..wire(Protocol::Query) };
    let expired = refusal_response(&Refusal::new(Reason::ExpiredToken, "m"), &sts, "r", false);
    assert_eq!(expired.status(), 400);
    assert!(text(&expired).contains("<Code>ExpiredTokenException</Code>"));
    let invalid = refusal_response(&Refusal::new(Reason::InvalidToken, "m"), &sts, "r", false);
    assert!(text(&invalid).contains("<Code>InvalidIdentityToken</Code>"));
    let unreachable = refusal_response(&Refusal::new(Reason::Upstream, "m"), &sts, "r", false);
    assert_eq!(unreachable.status(), 400);
    assert!(text(&unreachable).contains("<Code>IDPCommunicationError</Code>"));
    // A call that is signed has the errors of any service.
    let guessed = Wire::guess(
        &Method::POST,
        "/",
        "",
        &HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )]),
        Some("sts"),
    );
    let call = refusal_response(&Refusal::new(Reason::Upstream, "m"), &guessed, "r", false);
    assert_eq!(call.status(), 502);
    assert!(text(&call).contains("<Code>ServiceUnavailable</Code>"));
}

#[test]
fn an_unknown_service_is_guessed_from_the_head() {
    let guess = |method: Method, path: &str, headers: &[(&'static str, &'static str)], name| {
        let headers = headers
            .iter()
            .map(|(key, value)| (HeaderName::from_static(key), HeaderValue::from_static(value)))
            .collect();
        Wire::guess(&method, path, "", &headers, name)
    };
    let json = guess(
        Method::POST,
        "/",
        &[("x-amz-target", "A.B"), ("content-type", "application/x-amz-json-1.0")],
        None,
    );
    assert_eq!(json.protocol, Some(Protocol::Json10));
    let form = guess(Method::POST, "/", &[("content-type", "application/x-www-form-urlencoded")], None);
    assert!(form.sign_in && form.protocol == Some(Protocol::Query));
    assert!(guess(Method::GET, "/bucket/key", &[], None).s3);
    assert!(guess(Method::PUT, "/bucket", &[], Some("s3")).s3);
    assert_eq!(
        guess(Method::POST, "/", &[("smithy-protocol", "rpc-v2-cbor")], None).protocol,
        Some(Protocol::RpcV2Cbor)
    );
    assert_eq!(guess(Method::GET, "/x", &[], Some("lambda")).protocol, Some(Protocol::RestJson));
}
