//! How often, where and when keys are fetched, with a clock that only the tests move.

use super::*;
use tokio::sync::Semaphore;

fn seconds_later(seconds: i64) -> OffsetDateTime {
    NOW + Duration::seconds(seconds)
}

/// A token that lives long enough for every test here.
fn long_lived_claims() -> Value {
    claims_with("exp", json!(seconds_later(10_000_000).unix_timestamp()))
}

fn token_with_unknown_key(number: usize) -> String {
    let kid = format!("unknown-{number}");
    TestSigner::generate_p256("p256").sign(&json!({"alg": "ES256", "kid": kid}), &long_lived_claims())
}

#[tokio::test]
async fn fetches_nothing_before_the_first_token_and_nothing_for_tokens_of_others() {
    let idp = TestProvider::start();
    let verifier = idp.build_verifier();
    for token in ["", "a.b.c", &idp.sign_token(&claims_with("iss", json!("https://evil.example")))] {
        verifier.verify(token, NOW).await.expect_err("refused");
    }
    assert!(idp.requested_urls().is_empty(), "{:?}", idp.requested_urls());
    verifier.verify(&idp.sign_token(&valid_claims()), NOW).await.expect("verified");
    assert_eq!(
        idp.requested_urls(),
        ["https://login.example.com/.well-known/openid-configuration", "https://login.example.com/keys"]
    );
}

#[tokio::test]
async fn refetches_when_the_set_is_stale_and_not_before() {
    let idp = TestProvider::start();
    idp.update_state(|web| web.cache_control = Some("max-age=300".to_owned()));
    let (verifier, token) = (idp.build_verifier(), idp.sign_token(&long_lived_claims()));
    for (seconds, fetches) in [(0, 1), (1, 1), (299, 1), (300, 2), (599, 2), (601, 3)] {
        verifier.verify(&token, seconds_later(seconds)).await.expect("verified");
        assert_eq!(idp.jwks_fetch_count(), fetches, "after {seconds} s");
    }
}

#[tokio::test]
async fn fetches_at_most_once_in_ten_seconds_for_unknown_keys() {
    let idp = TestProvider::start();
    let verifier = idp.build_verifier();
    verifier.verify(&idp.sign_token(&long_lived_claims()), NOW).await.expect("verified");
    for number in 0..50 {
        let refused =
            verifier.verify(&token_with_unknown_key(number), seconds_later(number as i64 / 5)).await;
        assert!(matches!(refused, Err(TokenError::Invalid(why)) if why.contains("(kid)")));
    }
    assert_eq!(idp.jwks_fetch_count(), 1, "within ten seconds of the first");
    for number in 0..50 {
        verifier.verify(&token_with_unknown_key(number), seconds_later(10)).await.expect_err("refused");
    }
    assert_eq!(idp.jwks_fetch_count(), 2);
    verifier.verify(&token_with_unknown_key(0), seconds_later(21)).await.expect_err("refused");
    assert_eq!(idp.jwks_fetch_count(), 3);
}

#[tokio::test]
async fn a_new_key_is_accepted_at_once_and_a_withdrawn_one_is_forgotten() {
    let idp = TestProvider::start();
    let verifier = idp.build_verifier();
    verifier.verify(&idp.sign_token(&long_lived_claims()), NOW).await.expect("verified");
    let fresh = TestSigner::generate_p256("next");
    idp.update_state(|web| web.keys = vec![fresh.jwk.clone()]);
    let token = fresh.sign(&json!({"alg": "ES256", "kid": "next"}), &long_lived_claims());
    verifier.verify(&token, seconds_later(11)).await.expect("the new key");
    assert_eq!(idp.jwks_fetch_count(), 2);
    verifier
        .verify(&idp.sign_token(&long_lived_claims()), seconds_later(30))
        .await
        .expect_err("the old key is gone");
}

#[tokio::test]
async fn concurrent_verifications_fetch_once() {
    let idp = TestProvider::start();
    let gate = Arc::new(Semaphore::new(0));
    idp.update_state(|web| web.response_gate = Some(gate.clone()));
    let verifier = Arc::new(idp.build_verifier());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (verifier, token) = (verifier.clone(), idp.sign_token(&valid_claims()));
        waiting.spawn(async move { verifier.verify(&token, NOW).await.is_ok() });
    }
    while idp.requested_urls().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    assert_eq!(waiting.join_all().await, [true; 20]);
    assert_eq!(idp.jwks_fetch_count(), 1);
}

#[tokio::test]
async fn a_cancelled_caller_does_not_stop_the_fetch_for_the_others() {
    let idp = TestProvider::start();
    let gate = Arc::new(Semaphore::new(0));
    idp.update_state(|web| web.response_gate = Some(gate.clone()));
    let verifier = Arc::new(idp.build_verifier());
    let first = tokio::spawn({
        let (verifier, token) = (verifier.clone(), idp.sign_token(&valid_claims()));
        async move { verifier.verify(&token, NOW).await }
    });
    while idp.requested_urls().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.expect_err("gone").is_cancelled());
    gate.add_permits(2);
    verifier.verify(&idp.sign_token(&valid_claims()), NOW).await.expect("the fetch went on");
    assert_eq!(idp.jwks_fetch_count(), 1);
}

#[tokio::test]
async fn no_caller_waits_for_a_refresh_while_the_last_set_is_usable() {
    let idp = TestProvider::start();
    let verifier = Arc::new(idp.build_verifier());
    let token = idp.sign_token(&long_lived_claims());
    verifier.verify(&token, NOW).await.expect("verified");
    idp.update_state(|web| web.response_gate = Some(Arc::new(Semaphore::new(0))));
    let stuck = tokio::spawn({
        let (verifier, token) = (verifier.clone(), token.clone());
        async move { verifier.verify(&token, seconds_later(700)).await }
    });
    while idp.requested_urls().len() < 3 {
        tokio::task::yield_now().await;
    }
    verifier.verify(&token, seconds_later(700)).await.expect("the last good set");
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn an_empty_set_does_not_replace_a_good_one() {
    let idp = TestProvider::start();
    let (verifier, token) = (idp.build_verifier(), idp.sign_token(&long_lived_claims()));
    verifier.verify(&token, NOW).await.expect("verified");
    for keys in [Vec::new(), vec![serde_json::json!({ "kty": "oct", "k": "AAAA" })]] {
        idp.update_state(|web| web.keys = keys);
        verifier.verify(&token, seconds_later(700)).await.expect("the last good set");
    }
    assert!(idp.jwks_fetch_count() > 1);
}

#[tokio::test]
async fn keeps_the_last_good_set_for_a_day_and_no_longer() {
    let idp = TestProvider::start();
    let (verifier, token) = (idp.build_verifier(), idp.sign_token(&long_lived_claims()));
    verifier.verify(&token, NOW).await.expect("verified");
    idp.update_state(|web| web.failure = Some("connection refused".to_owned()));
    verifier.verify(&token, seconds_later(3_600)).await.expect("stale, but good");
    verifier.verify(&token, seconds_later(86_399)).await.expect("stale, but good");
    let refused = verifier.verify(&token, seconds_later(86_400)).await;
    assert!(matches!(refused, Err(TokenError::KeysUnavailable { .. })), "{refused:?}");
    idp.update_state(|web| web.failure = None);
    verifier.verify(&token, seconds_later(86_500)).await.expect("back");
}

#[tokio::test]
async fn an_unreachable_provider_is_unavailable_not_an_invalid_token_and_is_not_hammered() {
    let idp = TestProvider::start();
    idp.update_state(|web| web.failure = Some("connection refused".to_owned()));
    let (verifier, token) = (idp.build_verifier(), idp.sign_token(&long_lived_claims()));
    for seconds in [0, 1, 9] {
        let refused = verifier.verify(&token, seconds_later(seconds)).await;
        assert!(
            matches!(&refused, Err(TokenError::KeysUnavailable { reason, .. }) if reason.to_string().contains("connection refused")),
            "{refused:?}"
        );
    }
    assert_eq!(idp.requested_urls().len(), 1);
    idp.update_state(|web| web.failure = None);
    verifier.verify(&token, seconds_later(10)).await.expect("tried again");
}

#[tokio::test]
async fn refuses_discovery_and_sets_that_are_not_the_providers() {
    let wrong: Vec<(&str, FixtureChange<test_provider::TestProviderState>)> = vec![
        ("another issuer", |web| web.issuer = "https://login.example.com/".to_owned()),
        ("plain http", |web| web.jwks_uri = "http://login.example.com/keys".to_owned()),
        ("our own network", |web| web.jwks_uri = "http://127.0.0.1:8600/keys".to_owned()),
        ("the metadata service", |web| web.jwks_uri = "http://169.254.169.254/latest".to_owned()),
        ("a file", |web| web.jwks_uri = "file:///etc/passwd".to_owned()),
        ("a redirect", |web| web.status = 302),
        ("an error", |web| web.status = 500),
        ("not JSON", |web| web.body_override = Some("<html>".to_owned())),
        ("no set", |web| web.body_override = Some("{}".to_owned())),
        ("a huge set", |web| {
            web.body_override = Some(json!({"keys": web.keys}).to_string() + &" ".repeat(600 << 10));
        }),
        ("a set of too many keys", |web| {
            web.body_override = Some(json!({"keys": vec![json!({}); 201]}).to_string());
        }),
    ];
    for (what, change) in wrong {
        let idp = TestProvider::start();
        idp.update_state(change);
        let refused = idp.build_verifier().verify(&idp.sign_token(&valid_claims()), NOW).await;
        assert!(matches!(refused, Err(TokenError::KeysUnavailable { .. })), "{what}: {refused:?}");
        assert!(
            idp.requested_urls().iter().all(|url| url.starts_with("https://login.example.com/")),
            "{what}"
        );
    }
}

#[tokio::test]
async fn one_unusual_key_does_not_spoil_the_set_and_a_withdrawn_key_verifies_nothing() {
    let idp = TestProvider::start();
    let odd = [json!(7), json!({}), json!({"kty": "AKP", "alg": "ML-DSA-65"}), json!({"kty": "RSA", "n": 1})];
    idp.update_state(|web| web.keys.splice(0..0, odd).for_each(drop));
    let verifier = idp.build_verifier();
    verifier.verify(&idp.sign_token(&long_lived_claims()), NOW).await.expect("the good key");
    // Another RSA key, of another id.
    idp.update_state(|web| {
        for key in &mut web.keys {
            if key["kid"].is_string() {
                key["kid"] = json!("another");
            }
        }
    });
    let refused = verifier.verify(&idp.sign_token(&long_lived_claims()), seconds_later(700)).await;
    assert!(matches!(refused, Err(TokenError::Invalid(_))), "the key was withdrawn: {refused:?}");
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_provider_that_does_not_respond() {
    let idp = TestProvider::start();
    idp.update_state(|web| web.response_gate = Some(Arc::new(Semaphore::new(0))));
    let refused = idp.build_verifier().verify(&idp.sign_token(&valid_claims()), NOW).await;
    assert!(
        matches!(&refused, Err(TokenError::KeysUnavailable { reason, .. }) if reason.to_string().contains("no response")),
        "{refused:?}"
    );
}
