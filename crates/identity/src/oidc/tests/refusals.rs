//! Tokens that must not pass. Each differs from a good one in what its test is about and in nothing else.

use super::*;

async fn refused(idp: &Idp, token: &str) -> TokenError {
    let good = idp.token(&claims());
    let verifier = idp.verifier();
    verifier.verify(&good, NOW).await.expect("the good token passes");
    verifier.verify(token, NOW).await.expect_err("the bad token is refused")
}

fn header(idp: &Idp, header: Value) -> String {
    let algorithm = header["alg"].as_str().unwrap_or_default();
    let signer = if algorithm.starts_with("ES") { "p256" } else { "rsa" };
    idp.signer(signer).sign(&header, &claims())
}

#[tokio::test]
async fn no_algorithm_none_in_any_spelling() {
    let idp = Idp::start();
    for algorithm in ["none", "None", "NONE", "nOnE", "none ", "", "null"] {
        let signed = format!(
            "{}.{}",
            encode(json!({"alg": algorithm, "kid": "p256"}).to_string().as_bytes()),
            encode(claims().to_string().as_bytes())
        );
        for signature in ["", "AA", idp.token(&claims()).rsplit('.').next().expect("a signature")] {
            let error = refused(&idp, &format!("{signed}.{signature}")).await;
            assert_eq!(
                error,
                TokenError::Invalid("its signature algorithm (alg) is not accepted"),
                "{algorithm}"
            );
        }
    }
    for alg in [json!(null), json!(["ES256"]), json!(256)] {
        let signed = encode(json!({"alg": alg, "kid": "p256"}).to_string().as_bytes());
        let token = format!("{signed}.{}.AA", encode(claims().to_string().as_bytes()));
        assert_eq!(
            refused(&idp, &token).await,
            TokenError::Invalid("its signature algorithm (alg) is not accepted")
        );
    }
}

#[tokio::test]
async fn no_public_key_as_hmac_secret_and_no_symmetric_key_at_all() {
    let idp = Idp::start();
    let rsa = idp.signer("rsa").jwk.clone();
    let secret = b"a secret that the key set happens to publish".as_slice();
    idp.set(|web| web.keys.push(json!({"kty": "oct", "kid": "shared", "k": encode(secret)})));
    let n = rsa["n"].as_str().expect("n");
    for (kid, secret) in [("rsa", n.as_bytes()), ("rsa", rsa.to_string().as_bytes()), ("shared", secret)] {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let header = encode(json!({"alg": algorithm, "kid": kid}).to_string().as_bytes());
            let signed = format!("{header}.{}", encode(claims().to_string().as_bytes()));
            let key = jsonwebtoken::EncodingKey::from_secret(secret);
            let signature =
                jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm.parse().expect("known"))
                    .expect("signed");
            let error = refused(&idp, &format!("{signed}.{signature}")).await;
            assert_eq!(error, TokenError::Invalid("its signature algorithm (alg) is not accepted"));
        }
    }
    // The symmetric key is not taken for an asymmetric one either.
    let token = idp.signer("p256").sign(&json!({"alg": "ES256", "kid": "shared"}), &claims());
    assert!(matches!(refused(&idp, &token).await, TokenError::Invalid(why) if why.contains("(kid)")));
}

#[tokio::test]
async fn no_algorithm_that_its_key_or_the_provider_does_not_permit() {
    let idp = Idp::start();
    let unsuitable =
        TokenError::Invalid("its signature algorithm (alg) is not the one of the key it names (kid)");
    let cross = idp.signer("rsa").sign(&json!({"alg": "RS256", "kid": "p256"}), &claims());
    assert_eq!(refused(&idp, &cross).await, unsuitable);
    let curve = idp.signer("p256").sign(&json!({"alg": "ES256", "kid": "p384"}), &claims());
    assert_eq!(refused(&idp, &curve).await, unsuitable);

    // The key is bound to RS256: the same key under PS256 is refused.
    idp.set(|web| web.keys[0]["alg"] = json!("RS256"));
    idp.verifier()
        .verify(&header(&idp, json!({"alg": "RS256", "kid": "rsa"})), NOW)
        .await
        .expect("permitted");
    assert_eq!(refused(&idp, &header(&idp, json!({"alg": "PS256", "kid": "rsa"}))).await, unsuitable);

    let verifier = idp.verifier_with(|config| config.algorithms = vec![Algorithm::Es256]);
    let error = verifier.verify(&header(&idp, json!({"alg": "RS256", "kid": "rsa"})), NOW).await;
    assert!(matches!(error, Err(TokenError::Invalid(why)) if why.contains("for this provider")));
}

#[tokio::test]
async fn no_key_that_is_not_for_signatures_or_too_short() {
    let idp = Idp::start();
    let short = encode(&[0xc5; 128]);
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
        let mut jwk = idp.signer("p256").jwk.clone();
        jwk[name] = value;
        idp.set(|web| web.keys = vec![jwk]);
        let error = idp.verifier().verify(&idp.token(&claims()), NOW).await.expect_err(name);
        assert!(
            matches!(error, TokenError::Invalid(why) if why.contains("not one of its provider's keys")),
            "{name}"
        );
    }
    idp.set(|web| web.keys = vec![json!({"kty": "RSA", "kid": "rsa", "n": short, "e": "AQAB"})]);
    let token = header(&idp, json!({"alg": "RS256", "kid": "rsa"}));
    assert!(
        matches!(idp.verifier().verify(&token, NOW).await, Err(TokenError::Invalid(why)) if why.contains("(kid)"))
    );
}

#[tokio::test]
async fn no_key_from_the_token_itself() {
    let idp = Idp::start();
    let mallory = Signer::p256("p256");
    for (name, value) in [
        ("jwk", mallory.jwk.clone()),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let token = mallory.sign(&json!({"alg": "ES256", "kid": "p256", name: value}), &claims());
        assert_eq!(
            refused(&idp, &token).await,
            TokenError::Invalid("its signature does not verify"),
            "{name}"
        );
    }
    let ours = |url: &String| url.starts_with("https://login.example.com/");
    assert!(idp.asked().iter().all(ours), "{:?}", idp.asked());
}

#[tokio::test]
async fn no_key_id_that_is_a_path_a_query_or_not_a_string() {
    let idp = Idp::start();
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
        let token = idp.signer("p256").sign(&json!({"alg": "ES256", "kid": kid}), &claims());
        let error = refused(&idp, &token).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("(kid)")), "{kid}");
    }
    assert!(idp.asked().iter().all(|url| !url.contains("evil") && !url.contains("null")));
}

#[tokio::test]
async fn no_choice_between_keys_when_the_token_names_none() {
    let idp = Idp::start();
    let token = idp.signer("p256").sign(&json!({"alg": "ES256"}), &claims());
    idp.verifier().verify(&token, NOW).await.expect("one key of the set has this algorithm");
    idp.set(|web| web.keys.push(Signer::p256("second").jwk));
    let error = refused(&idp, &token).await;
    assert!(matches!(error, TokenError::Invalid(why) if why.contains("does not say which")));
    // Nor when two keys have the same id.
    idp.set(|web| web.keys[4]["kid"] = json!("p256"));
    let error = idp.verifier().verify(&idp.token(&claims()), NOW).await;
    assert!(matches!(error, Err(TokenError::Invalid(why)) if why.contains("does not say which")));
}

#[tokio::test]
async fn no_header_that_changes_what_is_verified() {
    let idp = Idp::start();
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let error = refused(&idp, &header(&idp, json!({"alg": "ES256", "kid": "p256", name: value}))).await;
        assert!(matches!(error, TokenError::Invalid(_)), "{name}");
    }
    for typ in
        [json!("dpop+jwt"), json!("logout+jwt"), json!("secevent+jwt"), json!("JOSE"), json!(""), json!(1)]
    {
        let error = refused(&idp, &header(&idp, json!({"alg": "ES256", "kid": "p256", "typ": typ}))).await;
        assert_eq!(error, TokenError::Invalid("its type (typ) is neither JWT nor at+jwt"), "{typ}");
    }
}

#[tokio::test]
async fn nothing_that_is_not_a_compact_signed_token() {
    let idp = Idp::start();
    let good = idp.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let twice = encode(br#"{"alg":"none","alg":"ES256","kid":"p256"}"#);
    let nested = encode(json!({"alg": "dir", "enc": "A256GCM", "cty": "JWT"}).to_string().as_bytes());
    for token in [
        String::new(),
        "  \n".to_owned(),
        "token".to_owned(),
        "..".to_owned(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        format!("{good}="),
        format!("{good} {good}"),
        good.replacen('.', ".\n", 1),
        good.replacen('.', "=.", 1),
        format!("{twice}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", encode(b"[]"), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], encode(b"\xff\xfe"), parts[2]),
        format!("Bearer {good}"),
    ] {
        let error = refused(&idp, &token).await;
        assert!(matches!(error, TokenError::Invalid(_)), "{token:.60}");
    }
    let encrypted = format!("{nested}..{}.{}.{}", encode(b"iv"), encode(good.as_bytes()), encode(b"tag"));
    assert!(matches!(refused(&idp, &encrypted).await, TokenError::Invalid(why) if why.contains("JWE")));
    // Each of these two would pass but for its length or its names.
    let long = idp.token(&with("padding", json!("A".repeat(15_000))));
    assert!(matches!(refused(&idp, &long).await, TokenError::Invalid(why) if why.contains("longer")));
    let twice = format!(r#"{},"sub":"admin"}}"#, claims().to_string().trim_end_matches('}'));
    let signed = format!("{}.{}", parts[0], encode(twice.as_bytes()));
    let token = format!("{signed}.{}", idp.signer("p256").sign_bytes(signed.as_bytes(), "ES256"));
    assert!(
        matches!(refused(&idp, &token).await, TokenError::Invalid(why) if why.contains("distinct names"))
    );
}

#[tokio::test]
async fn no_signature_that_is_zero_cut_encoded_otherwise_or_of_something_else() {
    let idp = Idp::start();
    let good = idp.token(&claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let other = idp.token(&with("sub", json!("admin")));
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).expect("hex")).collect();
    for bad in [
        String::new(),
        encode(&[0; 64]),
        encode(&[order.clone(), order].concat()),
        encode(&[1; 64]),
        signature[..signature.len() - 2].to_owned(),
        format!("{signature}AA"),
        encode(&[0x30, 6, 2, 1, 0, 2, 1, 0]),
        other.rsplit('.').next().expect("a signature").to_owned(),
    ] {
        let error = refused(&idp, &format!("{signed}.{bad}")).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("signature")), "{bad}");
    }
    // Signed as something else, sent as admin.
    let admin = other.split('.').nth(1).expect("claims");
    let (header, _) = signed.split_once('.').expect("two parts");
    let error = refused(&idp, &format!("{header}.{admin}.{signature}")).await;
    assert_eq!(error, TokenError::Invalid("its signature does not verify"));
}

#[tokio::test]
async fn no_issuer_that_only_resembles_one() {
    let idp = Idp::start();
    for issuer in [
        "https://login.example.com/",
        "https://login.example.com.evil.example",
        "https://login.example.co",
        "https://LOGIN.example.com",
        "http://login.example.com",
        "https://login.example.com ",
        "",
    ] {
        let error = refused(&idp, &idp.token(&with("iss", json!(issuer)))).await;
        assert_eq!(error, TokenError::UnknownIssuer(format!("{issuer:?}")));
    }
    assert!(idp.asked().iter().all(|url| url.starts_with("https://login.example.com/")));
    for issuer in [json!([ISSUER]), json!({"iss": ISSUER}), json!(null), json!(1)] {
        assert!(matches!(refused(&idp, &idp.token(&with("iss", issuer))).await, TokenError::Invalid(_)));
    }
    assert!(matches!(refused(&idp, &idp.token(&without("iss"))).await, TokenError::Invalid(_)));
}

#[tokio::test]
async fn no_audience_but_ours() {
    let idp = Idp::start();
    let foreign = TokenError::ForeignAudience("corp".to_owned());
    for audience in
        [json!("other"), json!(["other", "third"]), json!("Durward"), json!("durward "), json!("")]
    {
        assert_eq!(refused(&idp, &idp.token(&with("aud", audience.clone()))).await, foreign, "{audience}");
    }
    for audience in [json!([]), json!(null), json!({"durward": 1}), json!(["durward", 1]), json!(true)] {
        let error = refused(&idp, &idp.token(&with("aud", audience.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("(aud)")), "{audience}");
    }
    assert!(matches!(refused(&idp, &idp.token(&without("aud"))).await, TokenError::Invalid(_)));
    let several = with("aud", json!(["other", "https://aws.gw.example"]));
    idp.verifier().verify(&idp.token(&several), NOW).await.expect("one of them is ours");
}

#[tokio::test]
async fn no_client_that_is_not_accepted() {
    let idp = Idp::start();
    let mut several = with("aud", json!(["durward", "other"]));
    several["azp"] = json!("other");
    let refusal = TokenError::Invalid("it was issued to a client that is not accepted here (azp)");
    assert_eq!(refused(&idp, &idp.token(&several)).await, refusal);
    several["azp"] = json!("durward");
    idp.verifier().verify(&idp.token(&several), NOW).await.expect("issued to us");
    idp.verifier()
        .verify(&idp.token(&with("azp", json!("any"))), NOW)
        .await
        .expect("one audience, any client");
    // As Keycloak writes an access token: `account` is there beside what it was asked for.
    let mut access = with("aud", json!(["durward", "account"]));
    access["azp"] = json!("robot");
    idp.verifier()
        .verify(&idp.token(&access), NOW)
        .await
        .expect("an access token of a client that is no audience");
    assert!(matches!(
        refused(&idp, &idp.token(&with("azp", json!(["durward"])))).await,
        TokenError::Invalid(_)
    ));

    let strict = idp.verifier_with(|config| config.authorized_parties = vec!["ci".to_owned()]);
    for token in [with("azp", json!("durward")), with("client_id", json!("other")), claims()] {
        assert_eq!(strict.verify(&idp.token(&token), NOW).await, Err(refusal.clone()));
    }
    several["azp"] = json!("ci");
    for token in [several, with("azp", json!("ci")), with("client_id", json!("ci"))] {
        strict.verify(&idp.token(&token), NOW).await.expect("accepted client");
    }
}

#[tokio::test]
async fn no_token_out_of_its_time_and_none_without_an_end() {
    let idp = Idp::start();
    let verifier = idp.verifier();
    let at = |seconds: i64| json!(NOW.unix_timestamp() + seconds);
    for (name, seconds) in [("exp", -59), ("nbf", 60), ("iat", 60), ("iat", -10_000_000)] {
        let token = idp.token(&with(name, at(seconds)));
        verifier.verify(&token, NOW).await.unwrap_or_else(|error| panic!("{name} {seconds}: {error}"));
    }
    for seconds in [-60, -61, -100_000] {
        let error = refused(&idp, &idp.token(&with("exp", at(seconds)))).await;
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
        let error = refused(&idp, &idp.token(&with(name, value.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains(name)), "{name} {value}: {error}");
    }
    let error = refused(&idp, &idp.token(&without("exp"))).await;
    assert_eq!(error, TokenError::Invalid("it has no expiry (exp)"));
    let fraction = with("exp", json!(NOW.unix_timestamp() as f64 + 100.5));
    let verified = verifier.verify(&idp.token(&fraction), NOW).await.expect("a fraction is a date");
    assert_eq!(verified.expires, NOW + Duration::seconds(100));
}

#[tokio::test]
async fn no_caller_without_a_plain_subject() {
    let idp = Idp::start();
    let sub = TokenError::Invalid("its subject (sub) is missing, empty, too long or has control characters");
    for subject in [json!(""), json!(null), json!(7), json!(["a"]), json!("a\nb"), json!("x".repeat(1_025))] {
        assert_eq!(refused(&idp, &idp.token(&with("sub", subject))).await, sub);
    }
    assert_eq!(refused(&idp, &idp.token(&without("sub"))).await, sub);
}

#[tokio::test]
async fn no_groups_or_actors_of_the_wrong_shape_and_none_left_out() {
    let idp = Idp::start();
    for groups in [
        json!(null),
        json!(7),
        json!({"a": 1}),
        json!(["a", 1]),
        json!([""]),
        json!(["a\u{7}"]),
        json!([["a"]]),
    ] {
        let error = refused(&idp, &idp.token(&with("groups", groups.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("groups")), "{groups}");
    }
    let overage = with("_claim_names", json!({"groups": "src1"}));
    assert!(
        matches!(refused(&idp, &idp.token(&overage)).await, TokenError::Invalid(why) if why.contains("left out"))
    );
    let mut deep = json!({"sub": "last"});
    for _ in 0..8 {
        deep = json!({"sub": "agent", "act": deep});
    }
    for act in
        [json!("agent"), json!(null), json!({}), json!({"sub": ""}), json!({"sub": "a", "act": "b"}), deep]
    {
        let error = refused(&idp, &idp.token(&with("act", act.clone()))).await;
        assert!(matches!(error, TokenError::Invalid(why) if why.contains("(act)")), "{act}");
    }
}
