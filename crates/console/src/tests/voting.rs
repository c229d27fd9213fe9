//! Answers by form: they count once, from the right person, from our own page, and never by a GET.

use super::test_console::{TestConsole, new_approval_request};
use durward_approval::{ApprovalRequest, ApprovalState};
use http::{Method, StatusCode, header};

async fn request_state(stage: &TestConsole, ask: &ApprovalRequest) -> ApprovalState {
    stage.approvals.get(ask.id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn two_people_approve_and_the_request_is_approved() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let answer = alice.cast_vote(&ask, "vote=approve_once").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert_eq!(answer.location(), format!("/approvals/{}?done=approve_once", ask.id));
    let page = alice.get(answer.location()).await.body;
    assert!(page.contains("Your approval is recorded.") && page.contains("1 of oncall"), "{page}");
    assert!(!page.contains("Approve once"), "she cannot approve twice");
    assert_eq!(request_state(&stage, &ask).await, ApprovalState::Pending);
    let again = alice.cast_vote(&ask, "vote=approve_once").await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
    let mut bob = stage.sign_in_person("bob", "oncall").await;
    assert_eq!(bob.cast_vote(&ask, "vote=approve_once").await.status, StatusCode::SEE_OTHER);
    assert_eq!(request_state(&stage, &ask).await, ApprovalState::Approved);
    let taken_back = bob.cast_vote(&ask, "vote=deny&reason=on+second+thought").await;
    assert_eq!(taken_back.status, StatusCode::SEE_OTHER, "{}", taken_back.body);
    assert_eq!(request_state(&stage, &ask).await, ApprovalState::Denied);
}

#[tokio::test]
async fn a_form_that_is_not_ours_decides_nothing() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let csrf = alice.csrf_token().await;
    let mut mallory = stage.sign_in_person("mallory", "oncall").await;
    let others = mallory.csrf_token().await;
    let path = format!("/approvals/{}/votes", ask.id);
    for (origin, site, csrf) in [
        (Some("https://evil.example"), Some("cross-site"), csrf.as_str()),
        (Some("https://evil.example"), None, &csrf),
        (Some("null"), Some("same-origin"), &csrf),
        (Some("https://127.0.0.1:8600"), Some("same-site"), &csrf),
        (None, Some("cross-site"), &csrf),
        (None, Some("same-site"), &csrf),
        (None, Some("none"), &csrf),
        (None, None, &csrf),
        (Some("http://127.0.0.1:8600"), Some("same-origin"), ""),
        (Some("http://127.0.0.1:8600"), Some("same-origin"), "wrong"),
        (Some("http://127.0.0.1:8600"), Some("same-origin"), &others),
    ] {
        (alice.origin, alice.fetch_site) = (origin, site);
        let answer = alice.send(Method::POST, &path, &format!("csrf={csrf}&vote=approve_once")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin:?} {site:?} {csrf}");
    }
    (alice.origin, alice.fetch_site) = (Some("http://127.0.0.1:8600"), Some("same-origin"));
    let answer = alice.send(Method::POST, &path, "vote=approve_once").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "without a token");
    assert!(stage.approvals.get(ask.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn no_get_decides() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let csrf = alice.csrf_token().await;
    for path in [
        format!("/approvals/{}/votes?csrf={csrf}&vote=approve_once", ask.id),
        format!("/approvals/{}?csrf={csrf}&vote=approve_once&done=approve_once", ask.id),
        format!("/api/v1/approval-requests/{}/votes?vote=approve_once", ask.id),
        format!("/signout?csrf={csrf}"),
    ] {
        let answer = alice.get(&path).await;
        assert!(answer.status == StatusCode::METHOD_NOT_ALLOWED || answer.status == StatusCode::OK, "{path}");
        let head = alice.send(Method::HEAD, &path, "").await;
        assert!(head.status == StatusCode::METHOD_NOT_ALLOWED || head.status == StatusCode::OK, "{path}");
    }
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "still signed in");
    let now = stage.approvals.get(ask.id).await.unwrap().unwrap();
    assert!(now.votes.is_empty() && now.state == ApprovalState::Pending);
}

#[tokio::test]
async fn nobody_votes_on_their_own_request_nor_one_of_an_agent_acting_for_them() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    for subject in ["agent-7", "boss", "Boss"] {
        let mut own = stage.sign_in_person(subject, "oncall").await;
        let page = own.get(&format!("/approvals/{}", ask.id)).await.body;
        assert!(page.contains("your own request") && !page.contains("Approve once"), "{subject}: {page}");
        for form in ["vote=approve_once", "vote=approve_time_bound&minutes=15", "vote=break_glass&reason=x"] {
            let answer = own.cast_vote(&ask, form).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{subject} {form}: {}", answer.body);
        }
    }
    assert!(stage.approvals.get(ask.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn a_person_in_no_approver_group_cannot_vote() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut carol = stage.sign_in_person("carol", "finance").await;
    let page = carol.get(&format!("/approvals/{}", ask.id)).await.body;
    assert!(
        page.contains("Members of oncall vote on this request") && !page.contains("Approve once"),
        "{page}"
    );
    for form in ["vote=approve_once", "vote=deny&reason=no", "vote=break_glass&reason=x"] {
        let answer = carol.cast_vote(&ask, form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{form}");
        assert!(answer.body.contains("Not accepted: "), "{}", answer.body);
    }
    assert_eq!(request_state(&stage, &ask).await, ApprovalState::Pending);
    let mut fire = stage.sign_in_person("dora", "fire").await;
    assert!(fire.get(&format!("/approvals/{}", ask.id)).await.body.contains("Break the glass"));
    let answer = fire.cast_vote(&ask, "vote=break_glass&reason=the+house+burns").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert_eq!(request_state(&stage, &ask).await, ApprovalState::Approved);
}

#[tokio::test]
async fn a_time_bound_grant_ends_when_it_said_and_a_denial_needs_a_reason() {
    let stage = TestConsole::start().await;
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    let ask = stage.open_approval_request_with(new).await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    for form in
        ["vote=deny&reason=+", "vote=approve_time_bound", "vote=approve_time_bound&minutes=600", "vote=yes"]
    {
        let answer = alice.cast_vote(&ask, form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form}: {}", answer.body);
    }
    let answer = alice.cast_vote(&ask, "vote=approve_time_bound&minutes=60").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let now = stage.approvals.get(ask.id).await.unwrap().unwrap();
    let minutes = (now.grant_until.unwrap() - now.created).whole_minutes();
    assert!(now.time_bound && (59..=60).contains(&minutes), "{minutes}");
}

#[tokio::test]
async fn an_approval_request_that_does_not_exist_is_not_found() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    for path in [
        "/approvals/0190",
        "/approvals/00000000000000000000000000000000",
        "/sessions/x",
        "/nothing",
        "/approvals/..%2f",
    ] {
        assert_eq!(alice.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let csrf = alice.csrf_token().await;
    let form = format!("csrf={csrf}&vote=approve_once");
    let answer = alice.send(Method::POST, "/approvals/00000000000000000000000000000000/votes", &form).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_carry_headers_that_let_a_browser_run_and_frame_nothing() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    for path in [
        "/",
        "/signin",
        "/nothing",
        &format!("/approvals/{}", ask.id),
        "/policies",
        "/api/v1/approval-requests",
    ] {
        let answer = alice.get(path).await;
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        for inline in [" style=", " onclick", " onload", "<style", "javascript:", "<script>"] {
            assert!(!answer.body.contains(inline), "{path}: {inline}");
        }
    }
}

#[tokio::test]
async fn a_foreign_name_for_the_console_gets_nothing() {
    let stage = TestConsole::start().await;
    let alice = stage.sign_in_person("alice", "oncall").await;
    let cookie = format!("durward={}", alice.cookies["durward"]);
    for (method, status) in
        [(Method::GET, StatusCode::TEMPORARY_REDIRECT), (Method::POST, StatusCode::MISDIRECTED_REQUEST)]
    {
        let request = http::Request::builder()
            .method(method)
            .uri("/approvals/x?y=z")
            .header("host", "rebound.example:8600")
            .header("cookie", &cookie)
            .body(bytes::Bytes::new())
            .unwrap();
        let answer = stage.send(request).await;
        assert_eq!(answer.status, status);
        if status == StatusCode::TEMPORARY_REDIRECT {
            assert_eq!(answer.location(), "http://127.0.0.1:8600/approvals/x?y=z");
        }
    }
}
