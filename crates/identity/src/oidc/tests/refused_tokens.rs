//! Tokens that must be refused. Each differs from a good one in one respect, which its test names.

use super::*;

async fn verification_error(idp: &TestProvider, token: &str) -> TokenError {
    let good = idp.sign_token(&valid_claims());
    let verifier = idp.build_verifier();
    verifier.verify(&good, NOW).await.expect("the good token passes");
    verifier.verify(token, NOW).await.expect_err("the bad token is refused")
}

fn token_with_header(idp: &TestProvider, header: Value) -> String {
    let algorithm = header["alg"].as_str().unwrap_or_default();
    let signer = if algorithm.starts_with("ES") { "p256" } else { "rsa" };
    idp.find_signer(signer).sign(&header, &valid_claims())
}

#[tokio::test]
async fn algorithm_none_is_refused_in_any_spelling() {
    let idp = TestProvider::start();
    for algorithm in ["none", "None", "NONE", "nOnE", "none ", "", "null"] {
        let signed = format!(
            "{}.{}",
            encode_base64url(json!({"alg": algorithm, "kid": "p256"}).to_string().as_bytes()),
            encode_base64url(valid_claims().to_string().as_bytes())
        );
        for signature in ["", "AA", idp.sign_token(&valid_claims()).rsplit('.').next().expect("a signature")]
        {
            let error = verification_error(&idp, &format!("{signed}.{signature}")).await;
            assert_eq!(
                error,
                TokenError::Invalid("its signature algorithm (alg) is not accepted"),
                "{algorithm}"
            );
        }
    }
    for alg in [json!(null), json!(["ES256"]), json!(256)] {
        let signed = encode_base64url(json!({"alg": alg, "kid": "p256"}).to_string().as_bytes());
        let token = format!("{signed}.{}.AA", encode_base64url(valid_claims().to_string().as_bytes()));
        assert_eq!(
            verification_error(&idp, &token).await,
            TokenError::Invalid("its signature algorithm (alg) is not accepted")
        );
    }
}

#[tokio::test]
async fn a_public_key_is_never_an_hmac_secret_and_symmetric_keys_are_refused() {
    let idp = TestProvider::start();
    let rsa = idp.find_signer("rsa").jwk.clone();
    let secret = b"a secret that the key set happens to publish".as_slice();
    idp.update_state(|web| {
        web.keys.push(json!({"kty": "oct", "kid": "shared", "k": encode_base64url(secret)}));
    });
    let n = rsa["n"].as_str().expect("n");
    for (kid, secret) in [("rsa", n.as_bytes()), ("rsa", rsa.to_string().as_bytes()), ("shared", secret)] {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let header = encode_base64url(json!({"alg": algorithm, "kid": kid}).to_string().as_bytes());
            let signed = format!("{header}.{}", encode_base64url(valid_claims().to_string().as_bytes()));
            let key = jsonwebtoken::EncodingKey::from_secret(secret);
            let signature =
                jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm.parse().expect("known"))
                    .expect("signed");
            let error = verification_error(&idp, &format!("{signed}.{signature}")).await;
            assert_eq!(error, TokenError::Invalid("its signature algorithm (alg) is not accepted"));
        }
    }
    // The symmetric key does not serve as an asymmetric one either.
    let token = idp.find_signer("p256").sign(&json!({"alg": "ES256", "kid": "shared"}), &valid_claims());
    assert!(
        matches!(verification_error(&idp, &token).await, TokenError::Invalid(why) if why.contains("(kid)"))
    );
}

#[tokio::test]
async fn an_algorithm_that_the_key_or_the_provider_does_not_permit_is_refused() {
    let idp = TestProvider::start();
    let unsuitable =
        TokenError::Invalid("its signature algorithm (alg) is not the one of the key it names (kid)");
    let cross = idp.find_signer("rsa").sign(&json!({"alg": "RS256", "kid": "p256"}), &valid_claims());
    assert_eq!(verification_error(&idp, &cross).await, unsuitable);
    let curve = idp.find_signer("p256").sign(&json!({"alg": "ES256", "kid": "p384"}), &valid_claims());
    assert_eq!(verification_error(&idp, &curve).await, unsuitable);

    // The key is bound to RS256: the same key under PS256 is refused.
    idp.update_state(|web| web.keys[0]["alg"] = json!("RS256"));
    idp.build_verifier()
        .verify(&token_with_header(&idp, json!({"alg": "RS256", "kid": "rsa"})), NOW)
        .await
        .expect("permitted");
    assert_eq!(
        verification_error(&idp, &token_with_header(&idp, json!({"alg": "PS256", "kid": "rsa"}))).await,
        unsuitable
    );

    let verifier = idp.build_verifier_with(|config| config.algorithms = vec![SignatureAlgorithm::Es256]);
    let error = verifier.verify(&token_with_header(&idp, json!({"alg": "RS256", "kid": "rsa"})), NOW).await;
    assert!(matches!(error, Err(TokenError::Invalid(why)) if why.contains("for this provider")));
}

#[tokio::test]
async fn a_key_that_is_not_for_signatures_or_too_short_is_not_used() {
    let idp = TestProvider::start();
    let short = encode_base64url(&[0xc5; 128]);
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("ECDH-ES")),
        ("alg", json!("HS256")),
        ("crv", json!("P-521")),
        ("crv", json!("secp256k1")),
        ("x", json!("AAAA")),
        ("kty", json!("oct")),
        ("kty", json!("RSA")),
    ] {
        let mut jwk = idp.find_signer("p256").jwk.clone();
        jwk[name] = value;
        idp.update_state(|web| web.keys = vec![jwk]);
        let error = idp.build_verifier().verify(&idp.sign_token(&valid_claims()), NOW).await.expect_err(name);
        // Without a usable key, the set is none.
        assert!(matches!(error, TokenError::KeysUnavailable { .. }), "{name}");
    }
    idp.update_state(|web| web.keys = vec![json!({"kty": "RSA", "kid": "rsa", "n": short, "e": "AQAB"})]);
    let token = token_with_header(&idp, json!({"alg": "RS256", "kid": "rsa"}));
    assert!(matches!(
        idp.build_verifier().verify(&token, NOW).await,
        Err(TokenError::KeysUnavailable { .. })
    ));
}

#[tokio::test]
async fn a_key_inside_the_token_is_not_used() {
    let idp = TestProvider::start();
    let mallory = TestSigner::generate_p256("p256");
    for (name, value) in [
        ("jwk", mallory.jwk.clone()),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let token = mallory.sign(&json!({"alg": "ES256", "kid": "p256", name: value}), &valid_claims());
        assert_eq!(
            verification_error(&idp, &token).await,
            TokenError::Invalid("its signature does not verify"),
            "{name}"
        );
    }
    let ours = |url: &String| url.starts_with("https://login.example.com/");
    assert!(idp.requested_urls().iter().all(ours), "{:?}", idp.requested_urls());
}

#[tokio::test]
async fn a_key_id_that_is_a_path_a_query_or_not_a_string_is_refused() {
    let idp = TestProvider::start();
    for kid in [
        json!("../../../../dev/null"),
        json!("https://evil.example/key"),
        json!("p256' OR '1'='1"),
        json!("p256\u{0}"),
        json!("P256"),
        json!(""),
        json!(null),
        json!(["p256"]),
        json!("k".repeat(1_025)),
    ] {
        let token = idp.find_signer("p256").sign(&json!({"alg": "ES256", "kid": kid}), &valid_claims());
        let error = verification_error(&idp, &token).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("(kid)")), "{kid}");
    }
    assert!(idp.requested_urls().iter().all(|url| !url.contains("evil") && !url.contains("null")));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_refused_if_several_keys_fit() {
    let idp = TestProvider::start();
    let token = idp.find_signer("p256").sign(&json!({"alg": "ES256"}), &valid_claims());
    idp.build_verifier().verify(&token, NOW).await.expect("one key of the set has this algorithm");
    idp.update_state(|web| web.keys.push(TestSigner::generate_p256("second").jwk));
    let error = verification_error(&idp, &token).await;
    assert!(matches!(error, TokenError::Invalid(why) if why.contains("does not say which")));
    // Nor when two keys have the same id.
    idp.update_state(|web| web.keys[4]["kid"] = json!("p256"));
    let error = idp.build_verifier().verify(&idp.sign_token(&valid_claims()), NOW).await;
    assert!(matches!(error, Err(TokenError::Invalid(why)) if why.contains("does not say which")));
}

#[tokio::test]
async fn a_header_that_changes_the_meaning_of_the_signature_is_refused() {
    let idp = TestProvider::start();
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let error = verification_error(
            &idp,
            &token_with_header(&idp, json!({"alg": "ES256", "kid": "p256", name: value})),
        )
        .await;
        let expected = format!("({name})");
        assert!(
            matches!(error, TokenError::Invalid(reason) if reason.contains(&expected)),
            "{name}: {error}"
        );
    }
    for typ in
        [json!("dpop+jwt"), json!("logout+jwt"), json!("secevent+jwt"), json!("JOSE"), json!(""), json!(1)]
    {
        let error = verification_error(
            &idp,
            &token_with_header(&idp, json!({"alg": "ES256", "kid": "p256", "typ": typ})),
        )
        .await;
        assert_eq!(error, TokenError::Invalid("its type (typ) is neither JWT nor at+jwt"), "{typ}");
    }
}

#[tokio::test]
async fn malformed_tokens_are_refused_with_the_reason() {
    let idp = TestProvider::start();
    let good = idp.sign_token(&valid_claims());
    let parts: Vec<&str> = good.split('.').collect();
    let twice = encode_base64url(br#"{"alg":"none","alg":"ES256","kid":"p256"}"#);
    let nested =
        encode_base64url(json!({"alg": "dir", "enc": "A256GCM", "cty": "JWT"}).to_string().as_bytes());
    let (not_a_jwt, header, payload, signature) =
        ("not a JWT", "its header is not", "its payload is not", "unpadded base64url");
    for (token, reason) in [
        (String::new(), "it is empty"),
        ("  \n".to_owned(), "it is empty"),
        ("token".to_owned(), not_a_jwt),
        ("..".to_owned(), header),
        (format!("{}.{}", parts[0], parts[1]), not_a_jwt),
        (format!("{good}.{}", parts[2]), not_a_jwt),
        (format!("{good}="), signature),
        (format!("{good} {good}"), "JWE"),
        (good.replacen('.', ".\n", 1), payload),
        (good.replacen('.', "=.", 1), header),
        (format!("{twice}.{}.{}", parts[1], parts[2]), header),
        (format!("{}.{}.{}", encode_base64url(b"[]"), parts[1], parts[2]), header),
        (format!("{}.{}.{}", parts[0], encode_base64url(b"\xff\xfe"), parts[2]), payload),
        (format!("Bearer {good}"), header),
    ] {
        let error = verification_error(&idp, &token).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains(reason)), "{token:.60}: {error}");
    }
    let encrypted = format!(
        "{nested}..{}.{}.{}",
        encode_base64url(b"iv"),
        encode_base64url(good.as_bytes()),
        encode_base64url(b"tag")
    );
    assert!(
        matches!(verification_error(&idp, &encrypted).await, TokenError::Invalid(why) if why.contains("JWE"))
    );
    // Each of these would be accepted, were it not for its length or its names.
    let long = idp.sign_token(&claims_with("padding", json!("A".repeat(15_000))));
    assert!(
        matches!(verification_error(&idp, &long).await, TokenError::Invalid(why) if why.contains("longer"))
    );
    let twice = format!(r#"{},"sub":"admin"}}"#, valid_claims().to_string().trim_end_matches('}'));
    let signed = format!("{}.{}", parts[0], encode_base64url(twice.as_bytes()));
    let token = format!("{signed}.{}", idp.find_signer("p256").sign_bytes(signed.as_bytes(), "ES256"));
    assert!(
        matches!(verification_error(&idp, &token).await, TokenError::Invalid(why) if why.contains("distinct names"))
    );
    // At any depth: readers also differ on a duplicate name inside of `act`.
    let nested =
        format!(r#"{},"act":{{"sub":"a","sub":"b"}}}}"#, valid_claims().to_string().trim_end_matches('}'));
    let signed = format!("{}.{}", parts[0], encode_base64url(nested.as_bytes()));
    let token = format!("{signed}.{}", idp.find_signer("p256").sign_bytes(signed.as_bytes(), "ES256"));
    assert!(
        matches!(verification_error(&idp, &token).await, TokenError::Invalid(why) if why.contains("distinct names"))
    );
}

#[tokio::test]
async fn a_signature_that_is_zero_cut_reencoded_or_of_another_token_is_refused() {
    let idp = TestProvider::start();
    let good = idp.sign_token(&valid_claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let other = idp.sign_token(&claims_with("sub", json!("admin")));
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).expect("hex")).collect();
    for bad in [
        String::new(),
        encode_base64url(&[0; 64]),
        encode_base64url(&[order.clone(), order].concat()),
        encode_base64url(&[1; 64]),
        signature[..signature.len() - 2].to_owned(),
        format!("{signature}AA"),
        encode_base64url(&[0x30, 6, 2, 1, 0, 2, 1, 0]),
        other.rsplit('.').next().expect("a signature").to_owned(),
    ] {
        let error = verification_error(&idp, &format!("{signed}.{bad}")).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("signature")), "{bad}");
    }
    // The signature of one payload under another one.
    let admin = other.split('.').nth(1).expect("claims");
    let (header, _) = signed.split_once('.').expect("two parts");
    let error = verification_error(&idp, &format!("{header}.{admin}.{signature}")).await;
    assert_eq!(error, TokenError::Invalid("its signature does not verify"));
}

#[tokio::test]
async fn an_issuer_that_only_resembles_a_configured_one_is_refused() {
    let idp = TestProvider::start();
    for issuer in [
        "https://login.example.com/",
        "https://login.example.com.evil.example",
        "https://login.example.co",
        "https://LOGIN.example.com",
        "http://login.example.com",
        "https://login.example.com ",
        "",
    ] {
        let error = verification_error(&idp, &idp.sign_token(&claims_with("iss", json!(issuer)))).await;
        assert_eq!(error, TokenError::UnknownIssuer(format!("{issuer:?}")));
    }
    assert!(idp.requested_urls().iter().all(|url| url.starts_with("https://login.example.com/")));
    for issuer in [json!([ISSUER]), json!({"iss": ISSUER}), json!(null), json!(1)] {
        assert!(matches!(
            verification_error(&idp, &idp.sign_token(&claims_with("iss", issuer))).await,
            TokenError::Invalid(_)
        ));
    }
    assert!(matches!(
        verification_error(&idp, &idp.sign_token(&claims_without("iss"))).await,
        TokenError::Invalid(_)
    ));
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() {
    let idp = TestProvider::start();
    let foreign = TokenError::ForeignAudience("corp".to_owned());
    for audience in
        [json!("other"), json!(["other", "third"]), json!("Durward"), json!("durward "), json!("")]
    {
        assert_eq!(
            verification_error(&idp, &idp.sign_token(&claims_with("aud", audience.clone()))).await,
            foreign,
            "{audience}"
        );
    }
    for audience in [json!([]), json!(null), json!({"durward": 1}), json!(["durward", 1]), json!(true)] {
        let error = verification_error(&idp, &idp.sign_token(&claims_with("aud", audience.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("(aud)")), "{audience}");
    }
    assert!(matches!(
        verification_error(&idp, &idp.sign_token(&claims_without("aud"))).await,
        TokenError::Invalid(_)
    ));
    let several = claims_with("aud", json!(["other", "https://aws.gw.example"]));
    idp.build_verifier().verify(&idp.sign_token(&several), NOW).await.expect("one of them is ours");
}

#[tokio::test]
async fn a_token_of_a_client_that_is_not_accepted_is_refused() {
    let idp = TestProvider::start();
    let mut several = claims_with("aud", json!(["durward", "other"]));
    several["azp"] = json!("other");
    let refusal = TokenError::Invalid("it was issued to a client that is not accepted here (azp)");
    assert_eq!(verification_error(&idp, &idp.sign_token(&several)).await, refusal);
    several["azp"] = json!("durward");
    idp.build_verifier().verify(&idp.sign_token(&several), NOW).await.expect("issued to us");
    idp.build_verifier()
        .verify(&idp.sign_token(&claims_with("azp", json!("any"))), NOW)
        .await
        .expect("one audience, any client");
    // Keycloak adds `account` to the requested audience of an access token.
    let mut access = claims_with("aud", json!(["durward", "account"]));
    access["azp"] = json!("robot");
    idp.build_verifier()
        .verify(&idp.sign_token(&access), NOW)
        .await
        .expect("an access token of a client that is no audience");
    assert!(matches!(
        verification_error(&idp, &idp.sign_token(&claims_with("azp", json!(["durward"])))).await,
        TokenError::Invalid(_)
    ));

    let strict = idp.build_verifier_with(|config| config.authorized_parties = vec!["ci".to_owned()]);
    for token in
        [claims_with("azp", json!("durward")), claims_with("client_id", json!("other")), valid_claims()]
    {
        assert_eq!(strict.verify(&idp.sign_token(&token), NOW).await, Err(refusal.clone()));
    }
    several["azp"] = json!("ci");
    for token in [several, claims_with("azp", json!("ci")), claims_with("client_id", json!("ci"))] {
        strict.verify(&idp.sign_token(&token), NOW).await.expect("accepted client");
    }
}

#[tokio::test]
async fn a_token_out_of_its_time_or_without_an_expiry_is_refused() {
    let idp = TestProvider::start();
    let verifier = idp.build_verifier();
    let at = |seconds: i64| json!(NOW.unix_timestamp() + seconds);
    for (name, seconds) in [("exp", -59), ("nbf", 60), ("iat", 60), ("iat", -10_000_000)] {
        let token = idp.sign_token(&claims_with(name, at(seconds)));
        verifier.verify(&token, NOW).await.unwrap_or_else(|error| panic!("{name} {seconds}: {error}"));
    }
    for seconds in [-60, -61, -100_000] {
        let error = verification_error(&idp, &idp.sign_token(&claims_with("exp", at(seconds)))).await;
        assert_eq!(error, TokenError::Expired { at: NOW + Duration::seconds(seconds) });
    }
    for (name, value) in [
        ("nbf", at(61)),
        ("iat", at(61)),
        ("iat", json!(253_402_300_799_i64)),
        ("exp", json!("1900000000")),
        ("exp", json!(null)),
        ("exp", json!(1e300)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(u64::MAX)),
        ("exp", json!([1_900_000_000])),
        ("nbf", json!("0")),
        ("nbf", json!({})),
        ("iat", json!(true)),
    ] {
        let error = verification_error(&idp, &idp.sign_token(&claims_with(name, value.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains(name)), "{name} {value}: {error}");
    }
    let error = verification_error(&idp, &idp.sign_token(&claims_without("exp"))).await;
    assert_eq!(error, TokenError::Invalid("it has no expiry (exp)"));
    let fraction = claims_with("exp", json!(NOW.unix_timestamp() as f64 + 100.5));
    let verified = verifier.verify(&idp.sign_token(&fraction), NOW).await.expect("a fraction is a date");
    assert_eq!(verified.expires_at, NOW + Duration::seconds(100));
}

#[tokio::test]
async fn a_token_without_a_plain_subject_is_refused() {
    let idp = TestProvider::start();
    let sub = TokenError::Invalid("its subject (sub) is missing, empty, too long or has control characters");
    for subject in [json!(""), json!(null), json!(7), json!(["a"]), json!("a\nb"), json!("x".repeat(1_025))] {
        assert_eq!(verification_error(&idp, &idp.sign_token(&claims_with("sub", subject))).await, sub);
    }
    assert_eq!(verification_error(&idp, &idp.sign_token(&claims_without("sub"))).await, sub);
}

#[tokio::test]
async fn groups_or_actors_that_are_malformed_or_left_out_are_refused() {
    let idp = TestProvider::start();
    for groups in [
        json!(null),
        json!(7),
        json!({"a": 1}),
        json!(["a", 1]),
        json!([""]),
        json!(["a\u{7}"]),
        json!([["a"]]),
    ] {
        let error = verification_error(&idp, &idp.sign_token(&claims_with("groups", groups.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("groups")), "{groups}");
    }
    let overage = claims_with("_claim_names", json!({"groups": "src1"}));
    assert!(
        matches!(verification_error(&idp, &idp.sign_token(&overage)).await, TokenError::Invalid(why) if why.contains("left out"))
    );
    let mut deep = json!({"sub": "last"});
    for _ in 0..8 {
        deep = json!({"sub": "agent", "act": deep});
    }
    for act in
        [json!("agent"), json!(null), json!({}), json!({"sub": ""}), json!({"sub": "a", "act": "b"}), deep]
    {
        let error = verification_error(&idp, &idp.sign_token(&claims_with("act", act.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("(act)")), "{act}");
    }
}
