use super::*;

fn error_encoding(protocol: AwsProtocol) -> ErrorEncoding {
    ErrorEncoding { protocol: Some(protocol), ..ErrorEncoding::default() }
}

fn body_text(response: &Response<Bytes>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

const ALL_PROTOCOLS: [AwsProtocol; 7] = [
    AwsProtocol::Query,
    AwsProtocol::Ec2,
    AwsProtocol::Json10,
    AwsProtocol::Json11,
    AwsProtocol::RestJson,
    AwsProtocol::RestXml,
    AwsProtocol::RpcV2Cbor,
];

/// Every reason. A new one breaks the match and must be added to the chain.
fn all_reasons() -> impl Iterator<Item = RefusalReason> {
    use RefusalReason::*;
    std::iter::successors(Some(MissingAuthentication), |reason| match reason {
        MissingAuthentication => Some(InvalidToken),
        InvalidToken => Some(ExpiredToken),
        ExpiredToken => Some(SignatureMismatch),
        SignatureMismatch => Some(ClockSkew),
        ClockSkew => Some(RequestExpired),
        RequestExpired => Some(Replay),
        Replay => Some(AccessDenied),
        AccessDenied => Some(ApprovalRequired),
        ApprovalRequired => Some(PolicyChanged),
        PolicyChanged => Some(TagsUnavailable),
        TagsUnavailable => Some(ClientDisconnected),
        ClientDisconnected => Some(Malformed),
        Malformed => Some(BodyMismatch),
        BodyMismatch => Some(TooLarge),
        TooLarge => Some(UnknownOperation),
        UnknownOperation => Some(Busy),
        Busy => Some(Upstream),
        Upstream => Some(Internal),
        Internal => None,
    })
}

#[test]
fn refusals_for_the_caller_or_by_policy_are_never_retried() {
    let throttling = ["Throttl", "TooManyRequests", "SlowDown", "LimitExceeded", "RequestTimeout"];
    for protocol in ALL_PROTOCOLS {
        for reason in all_reasons() {
            if matches!(
                reason,
                RefusalReason::Busy
                    | RefusalReason::PolicyChanged
                    | RefusalReason::Upstream
                    | RefusalReason::Internal
            ) {
                continue;
            }
            for encoding in [
                error_encoding(protocol),
                ErrorEncoding { is_s3: protocol == AwsProtocol::RestXml, ..error_encoding(protocol) },
            ] {
                let response = build_error_response(&Refusal::new(reason, "m"), &encoding, "r", false);
                assert!(matches!(response.status().as_u16(), 400 | 403), "{protocol:?} {reason:?}");
                let code = error_code(reason, &encoding);
                assert!(!throttling.iter().any(|part| code.contains(part)), "{code}");
            }
        }
    }
}

#[test]
fn denials_have_the_format_of_each_protocol() {
    let denied = Refusal::new(RefusalReason::AccessDenied, "no <policy> & \"none\"\u{7}");
    let json = build_error_response(&denied, &error_encoding(AwsProtocol::Json10), "r1", false);
    assert_eq!(json.status(), 400);
    assert_eq!(json.headers()["content-type"], "application/x-amz-json-1.0");
    assert!(body_text(&json).contains("#AccessDeniedException"));
    let rest = build_error_response(&denied, &error_encoding(AwsProtocol::RestJson), "r1", false);
    assert_eq!(rest.status(), 403);
    assert_eq!(rest.headers()["x-amzn-errortype"], "AccessDeniedException");
    let query = build_error_response(&denied, &error_encoding(AwsProtocol::Query), "r1", false);
    assert!(body_text(&query).contains(
        "<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no &lt;policy&gt; &amp; &quot;none&quot;?</Message>"
    ));
    let ec2 = build_error_response(&denied, &error_encoding(AwsProtocol::Ec2), "r1", false);
    assert!(body_text(&ec2).contains("<Response><Errors><Error><Code>UnauthorizedOperation</Code>"));
    assert!(body_text(&ec2).ends_with("<RequestID>r1</RequestID></Response>"));
    let s3 = build_error_response(
        &denied,
        &ErrorEncoding { is_s3: true, ..error_encoding(AwsProtocol::RestXml) },
        "r1",
        false,
    );
    assert!(body_text(&s3).contains("<Error><Code>AccessDenied</Code>"));
    assert_eq!(s3.headers()["x-amz-request-id"], "r1");
    let cbor = build_error_response(&denied, &error_encoding(AwsProtocol::RpcV2Cbor), "r1", false);
    assert_eq!(cbor.headers()["smithy-protocol"], "rpc-v2-cbor");
    assert_eq!(cbor.status(), 403);
    for response in [&json, &rest, &query, &ec2, &s3, &cbor] {
        assert_eq!(response.headers()["x-durward-exchange"], "r1");
    }
}

#[test]
fn a_response_to_head_has_no_body_and_names_the_reason() {
    let encoding = ErrorEncoding { is_s3: true, ..error_encoding(AwsProtocol::RestXml) };
    let refusal = Refusal::new(RefusalReason::AccessDenied, "no\r\nx: y");
    let response = build_error_response(&refusal, &encoding, "r1", true);
    assert!(response.body().is_empty());
    assert_eq!(response.headers()["x-durward-reason"], "no??x: y");
}

#[test]
fn sign_in_errors_are_those_of_sts() {
    let sts = ErrorEncoding { is_sts_sign_in: true, ..error_encoding(AwsProtocol::Query) };
    let expired = build_error_response(&Refusal::new(RefusalReason::ExpiredToken, "m"), &sts, "r", false);
    assert_eq!(expired.status(), 400);
    assert!(body_text(&expired).contains("<Code>ExpiredTokenException</Code>"));
    let invalid = build_error_response(&Refusal::new(RefusalReason::InvalidToken, "m"), &sts, "r", false);
    assert!(body_text(&invalid).contains("<Code>InvalidIdentityToken</Code>"));
    let unreachable = build_error_response(&Refusal::new(RefusalReason::Upstream, "m"), &sts, "r", false);
    assert_eq!(unreachable.status(), 400);
    assert!(body_text(&unreachable).contains("<Code>IDPCommunicationError</Code>"));
    // A signed call has the errors of any service.
    let guessed = ErrorEncoding::guess_from_head(
        &Method::POST,
        "/",
        "",
        &HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )]),
        Some("sts"),
    );
    let call = build_error_response(&Refusal::new(RefusalReason::Upstream, "m"), &guessed, "r", false);
    assert_eq!(call.status(), 502);
    assert!(body_text(&call).contains("<Code>ServiceUnavailable</Code>"));
}

#[test]
fn an_unknown_service_is_guessed_from_the_head() {
    let guess = |method: Method, path: &str, headers: &[(&'static str, &'static str)], name| {
        let headers = headers
            .iter()
            .map(|(key, value)| (HeaderName::from_static(key), HeaderValue::from_static(value)))
            .collect();
        ErrorEncoding::guess_from_head(&method, path, "", &headers, name)
    };
    let json = guess(
        Method::POST,
        "/",
        &[("x-amz-target", "A.B"), ("content-type", "application/x-amz-json-1.0")],
        None,
    );
    assert_eq!(json.protocol, Some(AwsProtocol::Json10));
    let form = guess(Method::POST, "/", &[("content-type", "application/x-www-form-urlencoded")], None);
    assert!(form.is_sts_sign_in && form.protocol == Some(AwsProtocol::Query));
    assert!(guess(Method::GET, "/bucket/key", &[], None).is_s3);
    assert!(guess(Method::PUT, "/bucket", &[], Some("s3")).is_s3);
    assert_eq!(
        guess(Method::POST, "/", &[("smithy-protocol", "rpc-v2-cbor")], None).protocol,
        Some(AwsProtocol::RpcV2Cbor)
    );
    assert_eq!(guess(Method::GET, "/x", &[], Some("lambda")).protocol, Some(AwsProtocol::RestJson));
}
