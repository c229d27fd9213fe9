//! Sessions of callers, which people revoke, and the sign-ins of people themselves, which outlive the process.

use super::stage::{CLIENT, Stage, new_ask};
use durward_core::{Caller, SessionId};
use durward_identity::Revoked;
use durward_journal::{Journal, Options, Record};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Puts sessions of these callers into the journal.
async fn opened(stage: &Stage, callers: &[&Caller]) -> Vec<SessionId> {
    let journal = Journal::open(&stage.dir.path().join("journal"), Options::default()).unwrap();
    let mut sessions = Vec::new();
    for caller in callers {
        let session = SessionId::new();
        let record = Record::SessionOpened {
            session,
            caller: (*caller).clone(),
            connection: "prod".to_owned(),
            source_address: [192, 0, 2, 7].into(),
            expires: OffsetDateTime::now_utc() + Duration::from_hours(1),
        };
        journal.record_durable(record).await.unwrap();
        sessions.push(session);
    }
    sessions
}

fn agent() -> Caller {
    new_ask().caller
}

fn is_revoked(stage: &Stage, session: SessionId) -> bool {
    let began = durward_identity::began(session).unwrap();
    stage.revocations.check(session, &agent(), began).is_err()
}

#[tokio::test]
async fn a_session_is_revoked_with_the_button_of_its_page() {
    let stage = Stage::set().await;
    let sessions = opened(&stage, &[&agent(), &agent()]).await;
    let (one, other) = (sessions[0], sessions[1]);
    let mut alice = stage.person("alice", "staff").await;
    let path = format!("/sessions/{one}");
    assert!(alice.get(&path).await.body.contains("Revoke this session"));
    let csrf = alice.csrf().await;
    let send = format!("csrf={csrf}&what=session&reason=lost+%3Cb%3Elaptop");
    let answer = alice.send(Method::POST, &format!("{path}/revoke"), &send).await;
    assert_eq!(
        (answer.status, answer.location()),
        (StatusCode::SEE_OTHER, format!("{path}?done=session").as_str())
    );
    assert!(is_revoked(&stage, one) && !is_revoked(&stage, other));
    let page = alice.get(&format!("{path}?done=session")).await.body;
    assert!(
        page.contains("by <strong>corp/alice</strong>") && page.contains("lost &#60;b&#62;laptop"),
        "{page}"
    );
    assert!(
        !page.contains("Revoke this session") && page.contains("Revoke all sessions of this caller"),
        "{page}"
    );
    let list = alice.get("/sessions").await.body;
    assert_eq!(list.matches(">revoked</span>").count(), 1, "{list}");
    let send = format!("csrf={csrf}&what=caller&reason=all");
    assert_eq!(
        alice.send(Method::POST, &format!("{path}/revoke"), &send).await.status,
        StatusCode::SEE_OTHER
    );
    assert!(is_revoked(&stage, other));
    let page = alice.get(&format!("/sessions/{other}")).await.body;
    assert!(page.contains("with all sessions of this caller until then"), "{page}");
}

#[tokio::test]
async fn a_revocation_needs_our_own_form_a_reason_and_somebody_who_may() {
    let stage = Stage::set_with(|settings| settings.revoke_groups = vec!["security".to_owned()]).await;
    let session = opened(&stage, &[&agent()]).await[0];
    let path = format!("/sessions/{session}/revoke");
    let mut eve = stage.person("eve", "staff").await;
    assert!(!eve.get(&format!("/sessions/{session}")).await.body.contains("Revoke this session"));
    let csrf = eve.csrf().await;
    let form = |csrf: &str, rest: &str| format!("csrf={csrf}&{rest}");
    let answer = eve.send(Method::POST, &path, &form(&csrf, "what=session&reason=x")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let mut sam = stage.person("sam", "security").await;
    let own = sam.csrf().await;
    for (sent, status) in [
        (form(&csrf, "what=session&reason=x"), StatusCode::FORBIDDEN),
        (form(&own, "what=session&reason="), StatusCode::BAD_REQUEST),
        (form(&own, "what=everything&reason=x"), StatusCode::BAD_REQUEST),
        (form(&own, "reason=x"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(sam.send(Method::POST, &path, &sent).await.status, status, "{sent}");
    }
    assert_eq!(sam.get(&path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    sam.origin = Some("https://evil.example");
    let good = form(&own, "what=session&reason=x");
    assert_eq!(sam.send(Method::POST, &path, &good).await.status, StatusCode::FORBIDDEN);
    assert!(!is_revoked(&stage, session));
    sam.origin = Some(super::stage::ORIGIN);
    assert_eq!(sam.send(Method::POST, &path, &good).await.status, StatusCode::SEE_OTHER);
    assert!(is_revoked(&stage, session));
    let token = stage.issuer.issue("eve", &["staff"], CLIENT, Duration::from_hours(1));
    for (path, body) in [
        (format!("/api/v1/sessions/{session}/revoke"), json!({"reason": "x"})),
        ("/api/v1/callers/revoke".to_owned(), json!({"caller": "corp/agent-7", "reason": "x"})),
    ] {
        let (status, said) = stage.api(Method::POST, &path, &token, &body.to_string()).await;
        assert_eq!((status, &said["error"]), (StatusCode::FORBIDDEN, &json!("not_a_revoker")));
    }
}

#[tokio::test]
async fn the_api_lists_shows_and_revokes() {
    let stage = Stage::set().await;
    let other = Caller { subject: "agent-8".to_owned(), ..agent() };
    let sessions = opened(&stage, &[&agent(), &agent(), &other]).await;
    let token = stage.issuer.issue("alice", &["staff"], CLIENT, Duration::from_hours(1));
    let get = async |path: &str| stage.api(Method::GET, path, &token, "").await;
    let post = async |path: &str, body: Value| stage.api(Method::POST, path, &token, &body.to_string()).await;
    let (status, listed) = get("/api/v1/sessions").await;
    assert_eq!((status, listed["sessions"].as_array().unwrap().len()), (StatusCode::OK, 3), "{listed}");
    let newest = &listed["sessions"][0];
    assert_eq!(newest["session"], sessions[2].to_string());
    assert_eq!(newest["caller"]["subject"], "agent-8");
    assert!(newest["expires"].as_str().unwrap().ends_with('Z') && newest.get("revoked").is_none());

    let path = format!("/api/v1/sessions/{}", sessions[0]);
    let (status, answer) = post(&format!("{path}/revoke"), json!({"reason": "lost laptop"})).await;
    assert_eq!((status, &answer["known"]), (StatusCode::OK, &json!(true)), "{answer}");
    assert_eq!((&answer["caller"], &answer["revoked"]["by"]), (&json!("corp/agent-7"), &json!("corp/alice")));
    let (_status, shown) = get(&path).await;
    assert_eq!(shown["session"]["revoked"]["reason"], "lost laptop");
    assert!(is_revoked(&stage, sessions[0]) && !is_revoked(&stage, sessions[1]));

    let everything = json!({"caller": "corp/agent-7", "reason": "gone"});
    let (status, answer) = post("/api/v1/callers/revoke", everything).await;
    assert_eq!((status, &answer["sessions"]), (StatusCode::OK, &json!(2)), "{answer}");
    assert!(is_revoked(&stage, sessions[1]));
    let (_status, listed) = get("/api/v1/sessions").await;
    let revoked: Vec<bool> =
        listed["sessions"].as_array().unwrap().iter().map(|one| one.get("revoked").is_some()).collect();
    assert_eq!(revoked, [false, true, true]);

    let unknown = SessionId::new();
    let (status, answer) = post(&format!("/api/v1/sessions/{unknown}/revoke"), json!({"reason": "x"})).await;
    assert_eq!((status, &answer["known"]), (StatusCode::OK, &json!(false)), "{answer}");
    assert!(is_revoked(&stage, unknown), "another gateway may have opened it");
    for (path, body, word) in [
        (format!("{path}/revoke"), json!({}), "reason_missing"),
        (format!("{path}/revoke"), json!({"reason": "x".repeat(501)}), "too_long"),
        (format!("{path}/revoke"), json!({"reason": "x", "by": "corp/bob"}), "bad_revocation"),
        ("/api/v1/sessions/zz/revoke".to_owned(), json!({"reason": "x"}), "not_found"),
        ("/api/v1/callers/revoke".to_owned(), json!({"caller": "agent", "reason": "x"}), "bad_caller"),
        ("/api/v1/callers/revoke".to_owned(), json!({"reason": "x"}), "bad_revocation"),
    ] {
        let (_status, said) = post(&path, body).await;
        assert_eq!(said["error"], word, "{path}: {said}");
    }
    assert_eq!(get("/api/v1/sessions/zz").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&format!("/api/v1/sessions/{unknown}")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_sign_in_outlives_the_process_and_ends_when_it_should() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let mut alice = stage.person("alice", "oncall").await;
    let (cookies, csrf) = (alice.cookies.clone(), alice.csrf().await);
    let state = durward_store::testing::bytes(&stage.dir.path().join("state.db"));
    for secret in [&cookies["durward"], &csrf] {
        assert!(
            !state.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "a secret is in the state"
        );
    }
    let stage = stage.restarted().await;
    let mut alice = stage.browser();
    alice.cookies.clone_from(&cookies);
    assert!(alice.get("/").await.body.contains("Waiting for you"));
    // The form of a page that was open before the restart still counts, as the same person of the same groups.
    let form = format!("csrf={csrf}&answer=approve_once");
    let answer = alice.send(Method::POST, &format!("/asks/{}/answer", ask.id), &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let mut second = stage.person("alice", "oncall").await;
    let signed_out = second.cookies.clone();
    let form = format!("csrf={}", second.csrf().await);
    assert_eq!(second.send(Method::POST, "/signout", &form).await.location(), "/signin");
    let stage = stage.restarted().await;
    let mut second = stage.browser();
    second.cookies = signed_out;
    assert_eq!(second.get("/").await.status, StatusCode::SEE_OTHER, "signed out is signed out");
    let mut alice = stage.browser();
    alice.cookies = cookies;
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "and nobody else is");
    stage.pass(Duration::from_mins(61));
    assert_eq!(alice.get("/").await.status, StatusCode::SEE_OTHER, "an hour is over");
}

#[tokio::test]
async fn a_person_who_is_revoked_is_signed_out_and_their_tokens_are_refused() {
    let stage = Stage::set().await;
    let (mut eve, mut alice) = (stage.person("eve", "oncall").await, stage.person("alice", "oncall").await);
    let token = stage.issuer.issue("eve", &["oncall"], CLIENT, Duration::from_hours(1));
    let others = stage.issuer.issue("alice", &["oncall"], CLIENT, Duration::from_hours(1));
    assert_eq!(stage.api(Method::GET, "/api/v1/asks", &token, "").await.0, StatusCode::OK);
    let body = json!({"caller": "corp/eve", "reason": "left"}).to_string();
    assert_eq!(stage.api(Method::POST, "/api/v1/callers/revoke", &others, &body).await.0, StatusCode::OK);
    assert_eq!(eve.get("/").await.status, StatusCode::SEE_OTHER);
    let (status, said) = stage.api(Method::GET, "/api/v1/asks", &token, "").await;
    assert_eq!((status, &said["error"]), (StatusCode::UNAUTHORIZED, &json!("token_refused")));
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(stage.api(Method::GET, "/api/v1/asks", &others, "").await.0, StatusCode::OK);
    // The provider still vouches for them: a new sign-in is theirs.
    assert_eq!(stage.person("eve", "oncall").await.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_is_revoked_while_they_sign_in_begins_again() {
    let stage = Stage::set().await;
    let mut eve = stage.browser();
    let back = eve.back_from_issuer("eve", "oncall", "/").await;
    let mut bob = stage.browser();
    let others = bob.back_from_issuer("bob", "oncall", "/").await;
    let revoked = Revoked::Caller("corp/eve".to_owned());
    let now = OffsetDateTime::now_utc();
    stage.revocations.revoke(&revoked, "corp/alice", "left", now).await.unwrap();
    let answer = eve.get(&back).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("were revoked while you signed in"), "{}", answer.body);
    assert!(eve.cookies.is_empty(), "{:?}", eve.cookies);
    assert_eq!(bob.get(&others).await.status, StatusCode::SEE_OTHER);
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    stage.pass(Duration::from_secs(1));
    eve.sign_in("eve", "oncall", "/").await;
    assert_eq!(eve.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_store_that_fails_is_not_taken_for_nobody_signed_in() {
    let stage = Stage::set().await;
    let mut alice = stage.person("alice", "oncall").await;
    stage.break_store().await;
    for path in ["/", "/sessions", "/signin"] {
        assert_eq!(alice.get(path).await.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
    assert!(alice.cookies.contains_key("durward"));
}
