//! How often, where and when the provider is asked, with a clock that only the tests move.

use super::*;
use tokio::sync::Semaphore;

fn later(seconds: i64) -> OffsetDateTime {
    NOW + Duration::seconds(seconds)
}

/// A token that lives long enough for every test here.
fn lasting() -> Value {
    with("exp", json!(later(10_000_000).unix_timestamp()))
}

fn unknown_key(number: usize) -> String {
    let kid = format!("unknown-{number}");
    Signer::p256("p256").sign(&json!({"alg": "ES256", "kid": kid}), &lasting())
}

#[tokio::test]
async fn asks_nothing_before_the_first_token_and_nothing_for_tokens_of_others() {
    let idp = Idp::start();
    let verifier = idp.verifier();
    for token in ["", "a.b.c", &idp.token(&with("iss", json!("https://evil.example")))] {
        verifier.verify(token, NOW).await.expect_err("refused");
    }
    assert!(idp.asked().is_empty(), "{:?}", idp.asked());
    verifier.verify(&idp.token(&claims()), NOW).await.expect("verified");
    assert_eq!(
        idp.asked(),
        ["https://login.example.com/.well-known/openid-configuration", "https://login.example.com/keys"]
    );
}

#[tokio::test]
async fn asks_again_when_the_set_is_stale_and_not_before() {
    let idp = Idp::start();
    idp.set(|web| web.cache_control = Some("max-age=300".to_owned()));
    let (verifier, token) = (idp.verifier(), idp.token(&lasting()));
    for (seconds, fetches) in [(0, 1), (1, 1), (299, 1), (300, 2), (599, 2), (601, 3)] {
        verifier.verify(&token, later(seconds)).await.expect("verified");
        assert_eq!(idp.fetches(), fetches, "after {seconds} s");
    }
}

#[tokio::test]
async fn asks_at_most_once_in_ten_seconds_for_unknown_keys() {
    let idp = Idp::start();
    let verifier = idp.verifier();
    verifier.verify(&idp.token(&lasting()), NOW).await.expect("verified");
    for number in 0..50 {
        let refused = verifier.verify(&unknown_key(number), later(number as i64 / 5)).await;
        assert!(matches!(refused, Err(TokenError::Invalid(why)) if why.contains("(kid)")));
    }
    assert_eq!(idp.fetches(), 1, "within ten seconds of the first");
    for number in 0..50 {
        verifier.verify(&unknown_key(number), later(10)).await.expect_err("refused");
    }
    assert_eq!(idp.fetches(), 2);
    verifier.verify(&unknown_key(0), later(21)).await.expect_err("refused");
    assert_eq!(idp.fetches(), 3);
}

#[tokio::test]
async fn learns_a_new_key_at_once_and_forgets_a_withdrawn_one() {
    let idp = Idp::start();
    let verifier = idp.verifier();
    verifier.verify(&idp.token(&lasting()), NOW).await.expect("verified");
    let fresh = Signer::p256("next");
    idp.set(|web| web.keys = vec![fresh.jwk.clone()]);
    let token = fresh.sign(&json!({"alg": "ES256", "kid": "next"}), &lasting());
    verifier.verify(&token, later(11)).await.expect("the new key");
    assert_eq!(idp.fetches(), 2);
    verifier.verify(&idp.token(&lasting()), later(30)).await.expect_err("the old key is gone");
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let idp = Idp::start();
    let gate = Arc::new(Semaphore::new(0));
    idp.set(|web| web.gate = Some(gate.clone()));
    let verifier = Arc::new(idp.verifier());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (verifier, token) = (verifier.clone(), idp.token(&claims()));
        waiting.spawn(async move { verifier.verify(&token, NOW).await.is_ok() });
    }
    while idp.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.add_permits(2);
    assert_eq!(waiting.join_all().await, [true; 20]);
    assert_eq!(idp.fetches(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_request_for_the_others() {
    let idp = Idp::start();
    let gate = Arc::new(Semaphore::new(0));
    idp.set(|web| web.gate = Some(gate.clone()));
    let verifier = Arc::new(idp.verifier());
    let first = tokio::spawn({
        let (verifier, token) = (verifier.clone(), idp.token(&claims()));
        async move { verifier.verify(&token, NOW).await }
    });
    while idp.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.expect_err("gone").is_cancelled());
    gate.add_permits(2);
    verifier.verify(&idp.token(&claims()), NOW).await.expect("the request went on");
    assert_eq!(idp.fetches(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_refresh_while_the_last_set_will_do() {
    let idp = Idp::start();
    let verifier = Arc::new(idp.verifier());
    let token = idp.token(&lasting());
    verifier.verify(&token, NOW).await.expect("verified");
    idp.set(|web| web.gate = Some(Arc::new(Semaphore::new(0))));
    let stuck = tokio::spawn({
        let (verifier, token) = (verifier.clone(), token.clone());
        async move { verifier.verify(&token, later(700)).await }
    });
    while idp.asked().len() < 3 {
        tokio::task::yield_now().await;
    }
    verifier.verify(&token, later(700)).await.expect("the last good set");
    assert!(!stuck.is_finished());
    stuck.abort();
}

#[tokio::test]
async fn keeps_the_last_good_set_for_a_day_and_no_longer() {
    let idp = Idp::start();
    let (verifier, token) = (idp.verifier(), idp.token(&lasting()));
    verifier.verify(&token, NOW).await.expect("verified");
    idp.set(|web| web.failure = Some("connection refused".to_owned()));
    verifier.verify(&token, later(3_600)).await.expect("stale, but good");
    verifier.verify(&token, later(86_399)).await.expect("stale, but good");
    let refused = verifier.verify(&token, later(86_400)).await;
    assert!(matches!(refused, Err(TokenError::Unavailable { .. })), "{refused:?}");
    idp.set(|web| web.failure = None);
    verifier.verify(&token, later(86_500)).await.expect("back");
}

#[tokio::test]
async fn an_unreachable_provider_is_unavailable_not_an_invalid_token_and_is_not_hammered() {
    let idp = Idp::start();
    idp.set(|web| web.failure = Some("connection refused".to_owned()));
    let (verifier, token) = (idp.verifier(), idp.token(&lasting()));
    for seconds in [0, 1, 9] {
        let refused = verifier.verify(&token, later(seconds)).await;
        assert!(
            matches!(&refused, Err(TokenError::Unavailable { why, .. }) if why.contains("connection refused")),
            "{refused:?}"
        );
    }
    assert_eq!(idp.asked().len(), 1);
    idp.set(|web| web.failure = None);
    verifier.verify(&token, later(10)).await.expect("tried again");
}

#[tokio::test]
async fn refuses_discovery_and_sets_that_are_not_the_providers() {
    let wrong: Vec<(&str, Change<provider::Web>)> = vec![
        ("another issuer", |web| web.issuer = "https://login.example.com/".to_owned()),
        ("plain http", |web| web.jwks_uri = "http://login.example.com/keys".to_owned()),
        ("our own network", |web| web.jwks_uri = "http://127.0.0.1:8600/keys".to_owned()),
        ("the metadata service", |web| web.jwks_uri = "http://169.254.169.254/latest".to_owned()),
        ("a file", |web| web.jwks_uri = "file:///etc/passwd".to_owned()),
        ("a redirect", |web| web.status = 302),
        ("an error", |web| web.status = 500),
        ("no JSON", |web| web.body = Some("<html>".to_owned())),
        ("no set", |web| web.body = Some("{}".to_owned())),
        ("a huge set", |web| web.body = Some(json!({"keys": web.keys}).to_string() + &" ".repeat(600 << 10))),
        ("a set of too many keys", |web| web.body = Some(json!({"keys": vec![json!({}); 201]}).to_string())),
    ];
    for (what, change) in wrong {
        let idp = Idp::start();
        idp.set(change);
        let refused = idp.verifier().verify(&idp.token(&claims()), NOW).await;
        assert!(matches!(refused, Err(TokenError::Unavailable { .. })), "{what}: {refused:?}");
        assert!(idp.asked().iter().all(|url| url.starts_with("https://login.example.com/")), "{what}");
    }
}

#[tokio::test]
async fn one_odd_key_does_not_spoil_the_set_and_an_empty_set_is_obeyed() {
    let idp = Idp::start();
    let odd = [json!(7), json!({}), json!({"kty": "AKP", "alg": "ML-DSA-65"}), json!({"kty": "RSA", "n": 1})];
    idp.set(|web| web.keys.splice(0..0, odd).for_each(drop));
    let verifier = idp.verifier();
    verifier.verify(&idp.token(&lasting()), NOW).await.expect("the good key");
    idp.set(|web| web.keys.clear());
    let refused = verifier.verify(&idp.token(&lasting()), later(700)).await;
    assert!(matches!(refused, Err(TokenError::Invalid(_))), "all keys were withdrawn: {refused:?}");
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_provider_that_does_not_answer() {
    let idp = Idp::start();
    idp.set(|web| web.gate = Some(Arc::new(Semaphore::new(0))));
    let refused = idp.verifier().verify(&idp.token(&claims()), NOW).await;
    assert!(
        matches!(&refused, Err(TokenError::Unavailable { why, .. }) if why.contains("no answer")),
        "{refused:?}"
    );
}
