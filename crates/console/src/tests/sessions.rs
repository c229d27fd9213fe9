//! Sessions of callers, which people revoke, and the logins of people, which survive a restart.

use super::test_console::{CONSOLE_CLIENT_ID, TestConsole, new_approval_request};
use durward_core::{Caller, Decision, RefusalReason, ResourceTags, SessionId, Verdict};
use durward_identity::RevocationTarget;
use durward_journal::{Journal, JournalOptions, JournalRecord, UsedGrant};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Records in the journal that each of these callers opened a session.
async fn record_opened_sessions(console: &TestConsole, callers: &[&Caller]) -> Vec<SessionId> {
    let journal = Journal::open(&console.dir.path().join("journal"), JournalOptions::default()).unwrap();
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

fn is_revoked(console: &TestConsole, session: SessionId) -> bool {
    let started_at = session.created_at().unwrap();
    console.revocations.check_session(session, &agent_caller(), started_at).is_err()
}

#[tokio::test]
async fn sessions_are_listed_by_caller_connection_and_state() {
    let console = TestConsole::start().await;
    let other = Caller { subject: "agent-8".to_owned(), ..agent_caller() };
    let sessions = record_opened_sessions(&console, &[&agent_caller(), &other]).await;
    let [of_agent, of_other] = [sessions[0], sessions[1]].map(|session| session.to_string());
    let mut alice = console.sign_in_person("alice", "staff").await;
    let csrf = alice.csrf_token().await;
    let revocation = format!("csrf={csrf}&target=session&reason=x");
    alice.send(Method::POST, &format!("/sessions/{of_other}/revoke"), &revocation).await;
    let token = console.issue_token("alice", &["staff"]);
    for (query, shows_agent, shows_other) in [
        ("", true, true),
        ("?caller=&connection=&state=", true, true),
        (&format!("?caller={}", other.id()), false, true),
        (&format!("?caller={}&connection=prod", agent_caller().id()), true, false),
        ("?connection=staging", false, false),
        ("?state=active", true, false),
        ("?state=revoked", false, true),
        ("?state=expired", false, false),
    ] {
        let page = alice.get(&format!("/sessions{query}")).await.body;
        let path = format!("/api/v1/sessions{query}");
        let (_status, listed) = console.call_api(Method::GET, &path, &token, "").await;
        for text in [page, listed.to_string()] {
            assert_eq!(
                (text.contains(&of_agent), text.contains(&of_other)),
                (shows_agent, shows_other),
                "{query}: {text}"
            );
        }
    }
    let (status, _refused) = console.call_api(Method::GET, "/api/v1/sessions?state=open", &token, "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_session_is_revoked_with_the_button_of_its_page() {
    let console = TestConsole::start().await;
    let sessions = record_opened_sessions(&console, &[&agent_caller(), &agent_caller()]).await;
    let (one, other) = (sessions[0], sessions[1]);
    let mut alice = console.sign_in_person("alice", "staff").await;
    let path = format!("/sessions/{one}");
    assert!(alice.get(&path).await.body.contains("Revoke this session"));
    let csrf = alice.csrf_token().await;
    let send = format!("csrf={csrf}&target=session&reason=lost+%3Cb%3Elaptop");
    let response = alice.send(Method::POST, &format!("{path}/revoke"), &send).await;
    assert_eq!(
        (response.status, response.location()),
        (StatusCode::SEE_OTHER, format!("{path}?done=session").as_str())
    );
    assert!(is_revoked(&console, one) && !is_revoked(&console, other));
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
    assert!(is_revoked(&console, other));
    let page = alice.get(&format!("/sessions/{other}")).await.body;
    assert!(page.contains("with all earlier sessions of this caller"), "{page}");
}

/// An error message names the exchange, so people must find it: in its session, and from the page of its approval request.
#[tokio::test]
async fn an_exchange_can_be_found_by_its_id() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let details = &approval_request.details;
    let journal = Journal::open(&console.dir.path().join("journal"), JournalOptions::default()).unwrap();
    let requested = JournalRecord::ApprovalRequested {
        exchange: details.exchange,
        approval_request: approval_request.id.to_string(),
        session: details.session,
        caller: details.caller.clone(),
        front_end: details.operation.front_end,
        connection: details.connection.clone(),
        operation: details.operation.clone(),
        digest: "ab".repeat(32),
        decision: Decision {
            verdict: Verdict::RequireApproval,
            policies: vec!["no-deletion".to_owned()],
            reason: String::new(),
            policy_set: String::new(),
            tags: ResourceTags::new(),
            risk: None,
        },
        source_address: details.source_address,
    };
    journal.append_durable(requested).await.unwrap();
    journal
        .append_durable(JournalRecord::Refused {
            exchange: details.exchange,
            session: Some(details.session),
            caller: Some(details.caller.clone()),
            front_end: details.operation.front_end,
            connection: Some(details.connection.clone()),
            operation: Some(details.operation.clone()),
            omitted_parameters: None,
            decision: None,
            reason: RefusalReason::AccessDenied,
            message: "denied under policy `no-deletion`".to_owned(),
            source_address: details.source_address,
        })
        .await
        .unwrap();
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let page = alice.get(&format!("/sessions/{}", details.session)).await.body;
    assert!(page.contains(&format!("<tbody id=\"exchange-{}\">", details.exchange)), "{page}");
    assert!(page.contains("denied under policy <code class=\"nowrap\">no-deletion</code>"), "{page}");
    assert!(page.contains(&format!("<a href=\"/approvals/{}\">", approval_request.id)), "{page}");
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    let link = format!("href=\"/sessions/{}#exchange-{}\"", details.session, details.exchange);
    assert!(page.contains(&link), "{page}");
}

#[tokio::test]
async fn an_error_page_leads_to_where_people_can_go_on() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let unknown = format!("/sessions/{}", SessionId::new());
    for (path, title, link) in [
        (unknown.as_str(), "Session not found", "href=\"/sessions\">Go to sessions<"),
        ("/nothing", "Page not found", "href=\"/\">Go to approvals<"),
        ("/signout", "Method not allowed", "href=\"/\">Go to approvals<"),
    ] {
        let page = alice.get(path).await.body;
        assert!(page.contains(&format!("<h1>{title}</h1>")) && page.contains(link), "{path}: {page}");
    }
    let page = console.new_browser().get("/signin/callback?state=x&code=x").await.body;
    assert!(page.contains("href=\"/signin\">Sign in<"), "{page}");
}

#[tokio::test]
async fn a_revocation_needs_the_consoles_own_form_a_reason_and_permission() {
    let console =
        TestConsole::start_with(|settings| settings.revoke_groups = vec!["security".to_owned()]).await;
    let session = record_opened_sessions(&console, &[&agent_caller()]).await[0];
    let path = format!("/sessions/{session}/revoke");
    let mut eve = console.sign_in_person("eve", "staff").await;
    assert!(!eve.get(&format!("/sessions/{session}")).await.body.contains("Revoke this session"));
    let csrf = eve.csrf_token().await;
    let form = |csrf: &str, rest: &str| format!("csrf={csrf}&{rest}");
    let response = eve.send(Method::POST, &path, &form(&csrf, "target=session&reason=x")).await;
    assert_eq!(response.status, StatusCode::FORBIDDEN);
    let mut sam = console.sign_in_person("sam", "security").await;
    let own = sam.csrf_token().await;
    for (sent, status) in [
        (form(&csrf, "target=session&reason=x"), StatusCode::FORBIDDEN),
        (form(&own, "target=session&reason="), StatusCode::BAD_REQUEST),
        (form(&own, "target=everything&reason=x"), StatusCode::BAD_REQUEST),
        (form(&own, "reason=x"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(sam.send(Method::POST, &path, &sent).await.status, status, "{sent}");
    }
    let long = "x".repeat(501);
    let page =
        sam.send(Method::POST, &path, &form(&own, &format!("target=session&reason={long}"))).await.body;
    for wanted in
        ["Nothing was revoked: the reason is too long", &format!("value=\"{long}\" aria-describedby")]
    {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert_eq!(sam.get(&path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    sam.origin = Some("https://evil.example");
    let good = form(&own, "target=session&reason=x");
    assert_eq!(sam.send(Method::POST, &path, &good).await.status, StatusCode::FORBIDDEN);
    assert!(!is_revoked(&console, session));
    sam.origin = Some(super::test_console::CONSOLE_ORIGIN);
    assert_eq!(sam.send(Method::POST, &path, &good).await.status, StatusCode::SEE_OTHER);
    assert!(is_revoked(&console, session));
    let token = console.issuer.issue_token("eve", &["staff"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    for (path, body) in [
        (format!("/api/v1/sessions/{session}/revoke"), json!({"reason": "x"})),
        ("/api/v1/callers/revoke".to_owned(), json!({"caller": "corp/agent-7", "reason": "x"})),
    ] {
        let (status, error) = console.call_api(Method::POST, &path, &token, &body.to_string()).await;
        assert_eq!((status, &error["error"]), (StatusCode::FORBIDDEN, &json!("not_a_revoker")));
    }
}

#[tokio::test]
async fn the_api_lists_shows_and_revokes() {
    let console = TestConsole::start().await;
    let other = Caller { subject: "agent-8".to_owned(), ..agent_caller() };
    let sessions = record_opened_sessions(&console, &[&agent_caller(), &agent_caller(), &other]).await;
    let token = console.issuer.issue_token("alice", &["staff"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    let get = async |path: &str| console.call_api(Method::GET, path, &token, "").await;
    let post =
        async |path: &str, body: Value| console.call_api(Method::POST, path, &token, &body.to_string()).await;
    let (status, listed) = get("/api/v1/sessions").await;
    assert_eq!((status, listed["sessions"].as_array().unwrap().len()), (StatusCode::OK, 3), "{listed}");
    let newest = &listed["sessions"][0];
    assert_eq!(newest["session"], sessions[2].to_string());
    assert_eq!(newest["caller"]["subject"], "agent-8");
    assert!(newest["expires"].as_str().unwrap().ends_with('Z') && newest.get("revocation").is_none());

    let path = format!("/api/v1/sessions/{}", sessions[0]);
    let (status, response) = post(&format!("{path}/revoke"), json!({"reason": "lost laptop"})).await;
    assert_eq!((status, &response["known"]), (StatusCode::OK, &json!(true)), "{response}");
    assert_eq!(
        (&response["caller"], &response["revocation"]["by"]),
        (&json!("corp/agent-7"), &json!("corp/alice"))
    );
    let (_status, shown) = get(&path).await;
    assert_eq!(shown["session"]["revocation"]["reason"], "lost laptop");
    assert!(is_revoked(&console, sessions[0]) && !is_revoked(&console, sessions[1]));

    let everything = json!({"caller": "corp/agent-7", "reason": "gone"});
    let (status, response) = post("/api/v1/callers/revoke", everything).await;
    assert_eq!((status, &response["sessions"]), (StatusCode::OK, &json!(2)), "{response}");
    assert!(is_revoked(&console, sessions[1]));
    let (_status, listed) = get("/api/v1/sessions").await;
    let revoked: Vec<bool> =
        listed["sessions"].as_array().unwrap().iter().map(|one| one.get("revocation").is_some()).collect();
    assert_eq!(revoked, [false, true, true]);

    let unknown = SessionId::new();
    let (status, response) =
        post(&format!("/api/v1/sessions/{unknown}/revoke"), json!({"reason": "x"})).await;
    assert_eq!((status, &response["known"]), (StatusCode::OK, &json!(false)), "{response}");
    assert!(is_revoked(&console, unknown), "another replica may have opened it");
    for (path, body, code) in [
        (format!("{path}/revoke"), json!({}), "reason_missing"),
        (format!("{path}/revoke"), json!({"reason": "x".repeat(501)}), "too_long"),
        (format!("{path}/revoke"), json!({"reason": "x", "by": "corp/bob"}), "bad_revocation"),
        ("/api/v1/sessions/zz/revoke".to_owned(), json!({"reason": "x"}), "not_found"),
        ("/api/v1/callers/revoke".to_owned(), json!({"caller": "agent", "reason": "x"}), "bad_caller"),
        ("/api/v1/callers/revoke".to_owned(), json!({"reason": "x"}), "bad_revocation"),
    ] {
        let (_status, error) = post(&path, body).await;
        assert_eq!(error["error"], code, "{path}: {error}");
    }
    assert_eq!(get("/api/v1/sessions/zz").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&format!("/api/v1/sessions/{unknown}")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_login_survives_a_restart_and_ends_at_sign_out_or_after_an_hour() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let (cookies, csrf) = (alice.cookies.clone(), alice.csrf_token().await);
    let state = durward_store::testing::read_raw_bytes(&console.dir.path().join("state.db"));
    for secret in [&cookies["durward"], &csrf] {
        assert!(
            !state.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "the store contains a secret of the login"
        );
    }
    let console = console.restart().await;
    let mut alice = console.new_browser();
    alice.cookies.clone_from(&cookies);
    assert!(alice.get("/").await.body.contains("Waiting for you"));
    // A form of a page from before the restart still counts, as the same person in the same groups.
    let form = format!("csrf={csrf}&vote=approve_once");
    let response =
        alice.send(Method::POST, &format!("/approvals/{}/votes", approval_request.id), &form).await;
    assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
    let mut second = console.sign_in_person("alice", "oncall").await;
    let signed_out = second.cookies.clone();
    let form = format!("csrf={}", second.csrf_token().await);
    assert_eq!(second.send(Method::POST, "/signout", &form).await.location(), "/signin");
    let console = console.restart().await;
    let mut second = console.new_browser();
    second.cookies = signed_out;
    assert_eq!(second.get("/").await.status, StatusCode::SEE_OTHER, "a login that was signed out is back");
    let mut alice = console.new_browser();
    alice.cookies = cookies;
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "the other login has ended too");
    console.advance_clock(Duration::from_mins(61));
    assert_eq!(alice.get("/").await.status, StatusCode::SEE_OTHER, "the login outlasts an hour");
}

#[tokio::test]
async fn revoking_a_person_signs_them_out_and_refuses_their_tokens() {
    let console = TestConsole::start().await;
    let (mut eve, mut alice) =
        (console.sign_in_person("eve", "oncall").await, console.sign_in_person("alice", "oncall").await);
    let token = console.issuer.issue_token("eve", &["oncall"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    let alices_token =
        console.issuer.issue_token("alice", &["oncall"], CONSOLE_CLIENT_ID, Duration::from_hours(1));
    assert_eq!(
        console.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await.0,
        StatusCode::OK
    );
    let body = json!({"caller": "corp/eve", "reason": "left"}).to_string();
    assert_eq!(
        console.call_api(Method::POST, "/api/v1/callers/revoke", &alices_token, &body).await.0,
        StatusCode::OK
    );
    assert_eq!(eve.get("/").await.status, StatusCode::SEE_OTHER);
    let (status, error) = console.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await;
    assert_eq!((status, &error["error"]), (StatusCode::UNAUTHORIZED, &json!("token_refused")));
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(
        console.call_api(Method::GET, "/api/v1/approval-requests", &alices_token, "").await.0,
        StatusCode::OK
    );
    // The provider still vouches for them, so they can sign in again.
    assert_eq!(console.sign_in_person("eve", "oncall").await.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revocation_during_a_sign_in_makes_it_start_again() {
    let console = TestConsole::start().await;
    let mut eve = console.new_browser();
    let eves_callback = eve.callback_from_issuer("eve", "oncall", "/").await;
    let mut bob = console.new_browser();
    let bobs_callback = bob.callback_from_issuer("bob", "oncall", "/").await;
    let revoked = RevocationTarget::Caller("corp/eve".to_owned());
    let now = OffsetDateTime::now_utc();
    console.revocations.revoke(&revoked, "corp/alice", "left", now).await.unwrap();
    let response = eve.get(&eves_callback).await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
    assert!(response.body.contains("were revoked while you signed in"), "{}", response.body);
    assert!(eve.cookies.is_empty(), "{:?}", eve.cookies);
    assert_eq!(bob.get(&bobs_callback).await.status, StatusCode::SEE_OTHER);
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    console.advance_clock(Duration::from_secs(1));
    eve.sign_in("eve", "oncall", "/").await;
    assert_eq!(eve.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_failing_store_is_an_error_and_not_a_missing_login() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    console.close_store().await;
    for path in ["/", "/sessions", "/signin"] {
        assert_eq!(alice.get(path).await.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
    assert!(alice.cookies.contains_key("durward"));
}

#[tokio::test]
async fn the_page_of_a_used_approval_says_how_the_operation_ended() {
    let console = TestConsole::start().await;
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    let approval_request = console.open_approval_request_with(new).await;
    let details = &approval_request.details;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    alice.cast_vote(&approval_request, "vote=approve_once").await;
    assert!(console.consume_grant(details).await);
    let path = format!("/approvals/{}", approval_request.id);
    let page = alice.get(&path).await.body;
    assert!(
        page.contains("the session</a> shows the outcome") && !page.contains("the response was"),
        "{page}"
    );
    let journal = Journal::open(&console.dir.path().join("journal"), JournalOptions::default()).unwrap();
    let intent = JournalRecord::Intent {
        exchange: details.exchange,
        session: Some(details.session),
        caller: Some(details.caller.clone()),
        front_end: details.operation.front_end,
        connection: details.connection.clone(),
        operation: details.operation.clone(),
        digest: approval_request.digest_hex(),
        decision: Decision {
            verdict: Verdict::RequireApproval,
            policies: Vec::new(),
            reason: String::new(),
            policy_set: String::new(),
            tags: ResourceTags::new(),
            risk: None,
        },
        source_address: details.source_address,
        user_agent: None,
        grant: Some(UsedGrant {
            approval_request: approval_request.id.to_string(),
            approvers: vec!["corp/alice".to_owned()],
            time_bound: false,
            break_glass: false,
        }),
        caused_by: None,
    };
    journal.append_durable(intent).await.unwrap();
    let outcome = JournalRecord::Outcome {
        exchange: details.exchange,
        status: 409,
        error_code: Some("BucketNotEmpty<b>".to_owned()),
        request_bytes: 0,
        response_bytes: 0,
        response_sha256: None,
        masked: Vec::new(),
        upstream_request_id: None,
        duration_us: 1,
        failure: None,
    };
    journal.append_durable(outcome).await.unwrap();
    let page = alice.get(&path).await.body;
    assert!(page.contains("the response was <strong>409 BucketNotEmpty&#60;b&#62;</strong>"), "{page}");
}
