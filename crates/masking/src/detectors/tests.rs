use super::*;

fn find_classes(text: &str) -> Vec<(String, &str)> {
    let found = Masker::default().find_secrets(text.as_bytes(), |_| true);
    found.into_iter().map(|span| (span.class.as_str().to_owned(), &text[span.range])).collect()
}

#[test]
fn finds_each_kind_of_secret() {
    let session = format!("IQoJb3JpZ2luX2Vj{}", "Ab3/".repeat(40));
    let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----";
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    // put together here, so that scanners of repositories leave this file alone
    let token = |start: &str, rest: &str, times: usize| format!("{start}{}", rest.repeat(times));
    for (class, secret) in [
        ("aws-key", "ASIAIOSFODNN7EXAMPLE".to_owned()),
        ("aws-secret", session),
        ("private-key", pem.to_owned()),
        ("private-key", pem.replace("EC ", "")),
        ("token", token("ghp_", "a1B2", 9)),
        ("token", token("github_pat_", "11AB_", 16)),
        ("token", token("xoxb-", "1234-", 6)),
        ("token", token("AIza", "Sy0-_", 7)),
        ("token", token("sk_live_", "a1B2", 6)),
        ("token", jwt.to_owned()),
        ("token", format!("{jwt}.a.b")),
    ] {
        let text = format!("before \"{secret}\" after");
        assert_eq!(find_classes(&text), [(class.to_owned(), secret.as_str())]);
    }
}

#[test]
fn masks_only_the_secret_of_an_assignment() {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for before in [
        "aws_secret_access_key = ",
        "\"SecretAccessKey\": \"",
        "AWS_SECRET_ACCESS_KEY=",
        "secretKey:'",
        "Secret-Key \u{2192} ",
    ] {
        let text = format!("{before}{secret}\n");
        assert_eq!(find_classes(&text), [("aws-secret".to_owned(), secret)], "{before}");
    }
    assert_eq!(
        find_classes("Authorization: Bearer abcdef0123456789abcd"),
        [("token".to_owned(), "abcdef0123456789abcd")]
    );
}

#[test]
fn takes_a_cut_off_private_key_to_the_end() {
    let text = "x -----BEGIN PRIVATE KEY-----\nMHcCAQ";
    assert_eq!(find_classes(text), [("private-key".to_owned(), &text[2..])]);
    let text = "-----BEGIN PRIVATE KEY-----\nMHcCAQ\n-----END";
    assert_eq!(find_classes(text), [("private-key".to_owned(), text)]);
}

#[test]
fn leaves_what_only_looks_alike() {
    for text in [
        "XAKIAIOSFODNN7EXAMPLE",
        "AKIAIOSFODNN7EXAMPLEX",
        "AKIAshort",
        "IQoJb3JpZ2lu",
        "secret_access_key=<value>",
        "the secret key is kept elsewhere, bearer authentication-with-words",
        "-----BEGIN CERTIFICATE-----",
        // 0, 1, 8 and 9 are not base32, and the head of a JWT is JSON
        "AKIA0189AAAAAAAAAAAA",
        "eyJAAAAAAAAA.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "eyJhbGciOiJIUzI1NiJ9",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf",
    ] {
        assert_eq!(find_classes(text), [], "{text}");
    }
}

/// Each beginning in the middle of a run of its own characters, as in base64 of anything.
#[test]
fn needs_a_boundary_before_each_beginning() {
    let session = format!("IQoJb3JpZ2luX2Vj{}", "Ab3/".repeat(40));
    for secret in [&session, &format!("ghp_{}", "a1B2".repeat(9)), &format!("AIza{}", "Sy0-_".repeat(7))] {
        for before in ["A", "9", "_", "-"] {
            assert_eq!(find_classes(&format!("x {before}{secret} y")), [], "{before}{secret}");
        }
        for before in ["=", ":", "\"", " ", "?"] {
            assert_eq!(find_classes(&format!("x {before}{secret} y")).len(), 1, "{before}{secret}");
        }
    }
    for before in ["/", "+"] {
        assert_eq!(find_classes(&format!("x {before}{session} y")), []);
    }
}

#[test]
fn finds_a_token_behind_one_that_is_none() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    for before in ["eyJAAAAAAAAA.", "token_", "v1-", "x"] {
        assert_eq!(find_classes(&format!("{before}{jwt}")), [("token".to_owned(), jwt)], "{before}");
    }
}

#[test]
fn joins_overlapping_matches() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    assert_eq!(find_classes(&format!("Bearer {jwt}")), [("token".to_owned(), jwt)]);
}

#[test]
fn sees_in_a_body_whatever_it_sees_in_a_value() {
    let masker = Masker::default();
    for secret in ["AKIAIOSFODNN7EXAMPLE", "-----BEGIN PRIVATE KEY-----", "bearer 0123456789abcdefghij"] {
        assert!(masker.may_contain_secret(format!("{{\"a\":\"{secret}\"}}").as_bytes()));
        assert!(masker.may_contain_secret(format!("<a>{secret}</a>").as_bytes()));
    }
}

#[test]
fn adds_configured_patterns_and_refuses_unusable_ones() {
    let badge = CustomPattern::new(DataClass::parse("badge").unwrap(), r"^B-\d{6}$").unwrap();
    let masker = Masker::new(MaskerOptions { patterns: vec![badge] });
    let masked = masker.mask_body(br#"["B-123456","B-12"]"#, crate::BodyFormat::Json, None, &|_| false);
    let Ok(crate::MaskedBody::Changed { body, counts }) = masked else { panic!("{masked:?}") };
    assert_eq!(body, br#"["[masked: badge]","B-12"]"#);
    assert_eq!(counts, [crate::DataClassCount { data_class: DataClass::parse("badge").unwrap(), count: 1 }]);
    let refused = |pattern: &str| CustomPattern::new(DataClass::parse("x").unwrap(), pattern).unwrap_err();
    assert!(matches!(refused("("), PatternError::Regex { .. }));
    assert!(matches!(refused("(?:(?:a{1000}){1000}){10}"), PatternError::Regex { .. }));
    assert!(matches!(refused("a*"), PatternError::Empty { .. }));
    for name in ["", "A b", "ü", "x\r\n", &"x".repeat(65)] {
        assert!(DataClass::parse(name).is_err(), "{name}");
    }
}
