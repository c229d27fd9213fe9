//! Sessions of callers, which people revoke, and the sign-ins of people themselves, which outlive the process.

use super::test_console::{CONSOLE_CLIENT_ID, TestConsole, new_approval_request};
use durward_core::{Caller, SessionId};
use durward_identity::RevocationTarget;
use durward_journal::{Journal, JournalOptions, JournalRecord};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Puts sessions of these callers into the journal.
async fn record_opened_sessions(stage: &TestConsole, callers: &[&Caller]) -> Vec<SessionId> {
    let journal = Journal::open(&stage.dir.path().join("journal"), JournalOptions::default()).unwrap();
    let mut sessions = Vec::new();
    for caller in callers {
        let session = SessionId::new();
        let record = JournalRecord::SessionOpened {
            session,
            caller: (*caller).clone(),
            connection: "prod".to_owned(),
            source_address: [192, 0, 2, 7].into(),
            expires: OffsetDateTime::now_utc() + Duration::from_hours(1),
        };
        journal.append_durable(record).await.unwrap();
        sessions.push(session);
    }
    sessions
}

fn agent_caller() -> Caller {
    new_approval_request().caller
}

fn is_revoked(stage: &TestConsole, session: SessionId) -> bool {
    let began = durward_identity::session_start_time(session).unwrap();
    stage.revocations.check_session(session, &agent_caller(), began).is_err()
}

#[tokio::test]
async fn a_session_is_revoked_with_the_button_of_its_page() {
    let stage = TestConsole::start().await;
    let sessions = record_opened_sessions(&stage, &[&agent_caller(), &agent_caller()]).await;
    let (one, other) = (sessions[0], sessions[1]);
    let mut alice = stage.sign_in_person("alice", "staff").await;
    let path = format!("/sessions/{one}");
    assert!(alice.get(&path).await.body.contains("Revoke this session"));
    let csrf = alice.csrf_token().await;
    let send = format!("csrf={csrf}&target=session&reason=lost+%3Cb%3Elaptop");
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
    let send = format!("csrf={csrf}&target=caller&reason=all");
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
    let stage =
        TestConsole::start_with(|settings| settings.revoke_groups = vec!["security".to_owned()]).await;
    let session = record_opened_sessions(&stage, &[&agent_caller()]).await[0];
    let path = format!("/sessions/{session}/revoke");
    let mut eve = stage.sign_in_person("eve", "staff").await;
    assert!(!eve.get(&format!("/sessions/{session}")).await.body.contains("Revoke this session"));
    let csrf = eve.csrf_token().await;
    let form = |csrf: &str, rest: &str| format!("csrf={csrf}&{rest}");
    let answer = eve.send(Method::POST, &path, &form(&csrf, "target=session&reason=x")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let mut sam = stage.sign_in_person("sam", "security").await;
    let own = sam.csrf_token().await;
    for (sent, status) in [
        (form(&csrf, "target=session&reason=x"), StatusCode::FORBIDDEN),
        (form(&own, "target=session&reason="), StatusCode::BAD_REQUEST),
        (form(&own, "target=everything&reason=x"), StatusCode::BAD_REQUEST),
        (form(&own, "reason=x"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(sam.send(Method::POST, &path, &sent).await.status, status, "{sent}");
    }
    assert_eq!(sam.get(&path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    sam.origin = Some("https://evil.example");
    let good = form(&own, "target=session&reason=x");
    assert_eq!(sam.send(Method::POST, &path, &good).await.status, StatusCode::FORBIDDEN);
    assert!(!is_revoked(&stage, session));
    sam.origin = Some(super::test_console::CONSOLE_ORIGIN);
    assert_eq!(sam.send(Method::POST, &path, &good).await.status, StatusCode::SEE_OTHER);
    assert!(is_revoked(&stage, session));
    let token = stage.issuer.issue_token("eve", &["staff"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    for (path, body) in [
        (format!("/api/v1/sessions/{session}/revoke"), json!({"reason": "x"})),
        ("/api/v1/callers/revoke".to_owned(), json!({"caller": "corp/agent-7", "reason": "x"})),
    ] {
        let (status, said) = stage.call_api(Method::POST, &path, &token, &body.to_string()).await;
        assert_eq!((status, &said["error"]), (StatusCode::FORBIDDEN, &json!("not_a_revoker")));
    }
}

#[tokio::test]
async fn the_api_lists_shows_and_revokes() {
    let stage = TestConsole::start().await;
    let other = Caller { subject: "agent-8".to_owned(), ..agent_caller() };
    let sessions = record_opened_sessions(&stage, &[&agent_caller(), &agent_caller(), &other]).await;
    let token = stage.issuer.issue_token("alice", &["staff"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    let get = async |path: &str| stage.call_api(Method::GET, path, &token, "").await;
    let post =
        async |path: &str, body: Value| stage.call_api(Method::POST, path, &token, &body.to_string()).await;
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
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let (cookies, csrf) = (alice.cookies.clone(), alice.csrf_token().await);
    let state = durward_store::testing::read_raw_bytes(&stage.dir.path().join("state.db"));
    for secret in [&cookies["durward"], &csrf] {
        assert!(
            !state.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "a secret is in the state"
        );
    }
    let stage = stage.restart().await;
    let mut alice = stage.new_browser();
    alice.cookies.clone_from(&cookies);
    assert!(alice.get("/").await.body.contains("Waiting for you"));
    // The form of a page that was open before the restart still counts, as the same person of the same groups.
    let form = format!("csrf={csrf}&vote=approve_once");
    let answer = alice.send(Method::POST, &format!("/approvals/{}/votes", ask.id), &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let mut second = stage.sign_in_person("alice", "oncall").await;
    let signed_out = second.cookies.clone();
    let form = format!("csrf={}", second.csrf_token().await);
    assert_eq!(second.send(Method::POST, "/signout", &form).await.location(), "/signin");
    let stage = stage.restart().await;
    let mut second = stage.new_browser();
    second.cookies = signed_out;
    assert_eq!(second.get("/").await.status, StatusCode::SEE_OTHER, "signed out is signed out");
    let mut alice = stage.new_browser();
    alice.cookies = cookies;
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "and nobody else is");
    stage.advance_clock(Duration::from_mins(61));
    assert_eq!(alice.get("/").await.status, StatusCode::SEE_OTHER, "an hour is over");
}

#[tokio::test]
async fn a_person_who_is_revoked_is_signed_out_and_their_tokens_are_refused() {
    let stage = TestConsole::start().await;
    let (mut eve, mut alice) =
        (stage.sign_in_person("eve", "oncall").await, stage.sign_in_person("alice", "oncall").await);
    let token = stage.issuer.issue_token("eve", &["oncall"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    let others = stage.issuer.issue_token("alice", &["oncall"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    assert_eq!(stage.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await.0, StatusCode::OK);
    let body = json!({"caller": "corp/eve", "reason": "left"}).to_string();
    assert_eq!(
        stage.call_api(Method::POST, "/api/v1/callers/revoke", &others, &body).await.0,
        StatusCode::OK
    );
    assert_eq!(eve.get("/").await.status, StatusCode::SEE_OTHER);
    let (status, said) = stage.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await;
    assert_eq!((status, &said["error"]), (StatusCode::UNAUTHORIZED, &json!("token_refused")));
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(stage.call_api(Method::GET, "/api/v1/approval-requests", &others, "").await.0, StatusCode::OK);
    // The provider still vouches for them: a new sign-in is theirs.
    assert_eq!(stage.sign_in_person("eve", "oncall").await.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_is_revoked_while_they_sign_in_begins_again() {
    let stage = TestConsole::start().await;
    let mut eve = stage.new_browser();
    let back = eve.callback_from_issuer("eve", "oncall", "/").await;
    let mut bob = stage.new_browser();
    let others = bob.callback_from_issuer("bob", "oncall", "/").await;
    let revoked = RevocationTarget::Caller("corp/eve".to_owned());
    let now = OffsetDateTime::now_utc();
    stage.revocations.revoke(&revoked, "corp/alice", "left", now).await.unwrap();
    let answer = eve.get(&back).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("were revoked while you signed in"), "{}", answer.body);
    assert!(eve.cookies.is_empty(), "{:?}", eve.cookies);
    assert_eq!(bob.get(&others).await.status, StatusCode::SEE_OTHER);
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    stage.advance_clock(Duration::from_secs(1));
    eve.sign_in("eve", "oncall", "/").await;
    assert_eq!(eve.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_store_that_fails_is_not_taken_for_nobody_signed_in() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    stage.close_store().await;
    for path in ["/", "/sessions", "/signin"] {
        assert_eq!(alice.get(path).await.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
    assert!(alice.cookies.contains_key("durward"));
}
