//! Verification end to end, with a provider that signs every token it is given: also those of an attacker.
//!
//! Tokens are signed by `jsonwebtoken`, so that signer and verifier share no code of ours.

mod key_fetching;
mod refused_tokens;
mod test_provider;

use super::*;
use durward_core::{Caller, HttpClientError};
use serde_json::{Value, json};
use test_provider::*;
use time::Duration;

/// Spoils one thing of a good configuration or a good response.
type FixtureChange<T> = fn(&mut T);

#[tokio::test]
async fn accepts_a_token_of_every_algorithm_and_returns_its_caller() {
    let idp = TestProvider::start();
    let verifier = idp.build_verifier();
    for (kid, algorithm) in [
        ("rsa", "RS256"),
        ("rsa", "RS384"),
        ("rsa", "RS512"),
        ("rsa", "PS256"),
        ("rsa", "PS384"),
        ("rsa", "PS512"),
        ("p256", "ES256"),
        ("p384", "ES384"),
        ("ed", "EdDSA"),
    ] {
        let token = idp.sign_with_kid(&json!({"alg": algorithm, "kid": kid, "typ": "JWT"}), &valid_claims());
        let verified = verifier.verify(&token, NOW).await.expect(algorithm);
        assert_eq!(
            verified.caller,
            Caller {
                provider: "corp".to_owned(),
                issuer: ISSUER.to_owned(),
                subject: "agent-7".to_owned(),
                kind: CallerKind::Workload,
                groups: vec!["agents".to_owned(), "sre".to_owned()],
                act: vec![],
            }
        );
        assert_eq!((verified.expires_at, verified.token_id.as_str()), (NOW + Duration::hours(1), "token-1"));
    }
    assert_eq!(idp.jwks_fetch_count(), 1, "one set serves all");
}

#[tokio::test]
async fn accepts_the_access_token_type_and_no_type_and_white_space_around() {
    let idp = TestProvider::start();
    let verifier = idp.build_verifier();
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT", "jwt", "JWT"] {
        let token = idp.sign_with_kid(&json!({"alg": "ES256", "kid": "p256", "typ": typ}), &valid_claims());
        verifier.verify(&token, NOW).await.expect(typ);
    }
    let token = idp.sign_with_kid(&json!({"alg": "ES256", "kid": "p256"}), &valid_claims());
    verifier.verify(&format!(" {token}\n"), NOW).await.expect("no typ, as a file holds it");
}

#[tokio::test]
async fn reads_groups_from_a_string_or_a_list_and_from_the_configured_claim_only() {
    let idp = TestProvider::start();
    for (claim, value, groups) in [
        ("groups", json!("one"), vec!["one"]),
        ("groups", json!(["b", "a", "b"]), vec!["a", "b"]),
        ("groups", json!([]), vec![]),
        ("https://example.com/roles", json!(["r"]), vec!["r"]),
        ("realm_access.roles", json!(["r"]), vec!["r"]),
    ] {
        let verifier = idp.build_verifier_with(|config| config.groups_claim = claim.to_owned());
        let mut wanted = valid_claims();
        wanted["groups"] = json!(["decoy"]);
        wanted[claim] = value;
        let verified = verifier.verify(&idp.sign_token(&wanted), NOW).await.expect(claim);
        assert_eq!(verified.caller.groups, groups, "{claim}");
    }
    let verifier = idp.build_verifier_with(|config| config.groups_claim = "realm_access.roles".to_owned());
    let nested = claims_with("realm_access", json!({"roles": ["admin"]}));
    let verified = verifier.verify(&idp.sign_token(&nested), NOW).await.expect("no such claim");
    assert!(verified.caller.groups.is_empty(), "a dot is not a path");
}

#[tokio::test]
async fn warns_once_per_provider_of_what_a_token_has_instead_of_groups() {
    let idp = TestProvider::start();
    for (claim, problem) in [
        (None, Some("nothing: the claim is missing")),
        (Some(json!(null)), Some("null")),
        (Some(json!(7)), Some("a number")),
        (Some(json!(true)), Some("a boolean")),
        (Some(json!({"roles": ["s3cret"]})), Some("an object")),
        (Some(json!(["agents", 7])), Some("a list of more than strings")),
        (Some(json!([])), None),
        (Some(json!("agents")), None),
    ] {
        let mut token = valid_claims();
        match claim {
            Some(claim) => token["groups"] = claim,
            None => drop(token.as_object_mut().expect("an object").remove("groups")),
        }
        let verifier = idp.build_verifier();
        let provider = &verifier.providers[0];
        let object = token.as_object().expect("an object");
        assert_eq!(provider.first_groups_problem(object), problem, "{token}");
        assert_eq!(provider.first_groups_problem(object), None, "warned twice: {token}");

        // Only a verified token can cause the warning.
        let verifier = idp.build_verifier();
        let forged = format!("{}x", idp.sign_token(&token));
        assert!(verifier.verify(&forged, NOW).await.is_err());
        assert!(!verifier.providers[0].has_warned_of_groups.load(Ordering::Relaxed));
        let verified = verifier.verify(&idp.sign_token(&token), NOW).await;
        assert_eq!(verifier.providers[0].has_warned_of_groups.load(Ordering::Relaxed), problem.is_some());
        let is_refused = problem.is_some_and(|problem| !problem.starts_with("nothing"));
        assert_eq!(verified.is_err(), is_refused, "{token}");
    }
}

#[tokio::test]
async fn keeps_the_chain_of_actors_nearest_first() {
    let idp = TestProvider::start();
    let act = json!({"sub": "agent", "act": {"sub": "orchestrator", "iss": "https://other.example"}});
    let verified =
        idp.build_verifier().verify(&idp.sign_token(&claims_with("act", act)), NOW).await.expect("verified");
    assert_eq!(verified.caller.act, ["agent", "orchestrator"]);
}

#[tokio::test]
async fn names_a_token_without_an_id_by_its_hash() {
    let idp = TestProvider::start();
    let token = idp.sign_token(&claims_without("jti"));
    let verified = idp.build_verifier().verify(&token, NOW).await.expect("verified");
    assert_eq!(verified.token_id.len(), "sha256:".len() + 64);
    assert!(!token.contains(&verified.token_id[7..]));
}

#[tokio::test]
async fn chooses_the_provider_by_the_exact_issuer_and_uses_only_its_keys() {
    let (ours, theirs) = (TestProvider::start(), TestProvider::start());
    let other = "https://login.example.com/tenant";
    let second = ProviderConfig {
        kind: CallerKind::Human,
        ..ProviderConfig::new("people", other, vec!["console".to_owned()])
    };
    theirs.set_issuer(other);
    let both = Arc::new(TwoProviderClient { ours: ours.http_client(), theirs: theirs.http_client() });
    let verifier = TokenVerifier::new(vec![provider_config(), second], both).expect("configured");

    let mut person = claims_with("iss", json!(other));
    person["aud"] = json!("console");
    let verified = verifier.verify(&theirs.sign_token(&person), NOW).await.expect("the second provider");
    assert_eq!((verified.caller.provider.as_str(), verified.caller.kind), ("people", CallerKind::Human));

    // Mix-up attack: a provider vouches for callers of the other, or for the other's audience.
    let refused = verifier.verify(&theirs.sign_token(&valid_claims()), NOW).await;
    assert_eq!(refused, Err(TokenError::Invalid("its signature does not verify")));
    let refused = verifier.verify(&theirs.sign_token(&claims_with("iss", json!(other))), NOW).await;
    assert_eq!(refused, Err(TokenError::ForeignAudience("people".to_owned())));
}

#[test]
fn refuses_a_configuration_that_could_confuse_issuers_or_leak_requests_for_keys() {
    let wrong: Vec<(&str, &str, FixtureChange<ProviderConfig>)> = vec![
        ("no name", "name", |config| config.name.clear()),
        ("a name that could forge a source identity", "name", |config| config.name = "corp=agent".to_owned()),
        ("a name that could forge a caller id", "name", |config| config.name = "corp/agent".to_owned()),
        ("plain http", "issuer", |config| config.issuer = "http://login.example.com".to_owned()),
        ("a query", "issuer", |config| config.issuer = "https://login.example.com?x=1".to_owned()),
        ("a fragment", "issuer", |config| config.issuer = "https://login.example.com#x".to_owned()),
        ("no url", "issuer", |config| config.issuer = "corp".to_owned()),
        ("no audience", "audience", |config| config.audience.clear()),
        ("an empty audience", "audience", |config| config.audience.push(String::new())),
        ("no groups claim", "groups_claim", |config| config.groups_claim.clear()),
        ("no algorithm", "algorithms", |config| config.algorithms.clear()),
        ("an empty client", "authorized_parties", |config| config.authorized_parties.push(String::new())),
    ];
    for (case, key, change) in wrong {
        let mut config = provider_config();
        change(&mut config);
        let error = TokenVerifier::new(vec![config], TestProvider::start().http_client()).expect_err(case);
        assert_eq!(error.key, key, "{case}: {error}");
    }
    let again = |name: &str, issuer: &str| ProviderConfig::new(name, issuer, vec!["durward".to_owned()]);
    for (second, key) in
        [(again("corp", "https://other.example"), "name"), (again("other", ISSUER), "issuer")]
    {
        let both = vec![provider_config(), second];
        let errors = TokenVerifier::check_providers(&both);
        assert_eq!(errors.iter().map(|error| (error.index, error.key)).collect::<Vec<_>>(), [(1, key)]);
        assert_eq!(
            TokenVerifier::new(both, TestProvider::start().http_client()).err().as_ref(),
            errors.first()
        );
    }
    assert!(
        TokenVerifier::new(
            vec![provider_config(), again("other", "https://other.example")],
            TestProvider::start().http_client()
        )
        .is_ok()
    );
}

#[tokio::test]
async fn without_a_provider_every_token_is_of_an_unknown_issuer() {
    let idp = TestProvider::start();
    let verifier = TokenVerifier::new(vec![], idp.http_client()).expect("configured");
    let refused = verifier.verify(&idp.sign_token(&valid_claims()), NOW).await;
    assert!(matches!(refused, Err(TokenError::UnknownIssuer(_))));
}

#[test]
fn every_error_is_a_refusal_that_holds_nothing_of_the_token() {
    let errors = [
        (TokenError::Expired { at: NOW }, RefusalReason::ExpiredToken),
        (TokenError::Invalid("why"), RefusalReason::InvalidToken),
        (TokenError::UnknownIssuer("\"https://evil\"".to_owned()), RefusalReason::InvalidToken),
        (TokenError::ForeignAudience("corp".to_owned()), RefusalReason::InvalidToken),
        (
            TokenError::KeysUnavailable {
                provider: "corp".to_owned(),
                reason: crate::ProviderDocumentError::Http {
                    url: "https://login.example.com".to_owned(),
                    error: HttpClientError::Failed("no route".to_owned()),
                }
                .into(),
            },
            RefusalReason::Upstream,
        ),
    ];
    for (error, reason) in errors {
        let refusal = error.refusal();
        assert_eq!(refusal.reason, reason);
        for private in ["evil", "corp", "no route"] {
            assert!(!refusal.message.contains(private), "{}", refusal.message);
        }
    }
}
