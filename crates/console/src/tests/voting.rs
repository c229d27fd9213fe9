//! Votes by form: each counts once, from an eligible person, from the console's own page, and never by a GET.

use super::test_console::{TestConsole, new_approval_request};
use durward_approval::{ApprovalRequest, ApprovalState};
use http::{Method, StatusCode};

async fn request_state(console: &TestConsole, approval_request: &ApprovalRequest) -> ApprovalState {
    console.approvals.get(approval_request.id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn two_people_approve_and_the_request_is_approved() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let response = alice.cast_vote(&approval_request, "vote=approve_once").await;
    assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
    assert_eq!(response.location(), format!("/approvals/{}?done=approve_once#", approval_request.id));
    let page = alice.get(response.location()).await.body;
    assert!(
        page.contains("Your approval is recorded.") && page.contains("1 more approval from oncall"),
        "{page}"
    );
    assert!(!page.contains("Approve once"), "she may approve twice");
    assert_eq!(request_state(&console, &approval_request).await, ApprovalState::Pending);
    let again = alice.cast_vote(&approval_request, "vote=approve_once").await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
    let mut bob = console.sign_in_person("bob", "oncall").await;
    assert_eq!(bob.cast_vote(&approval_request, "vote=approve_once").await.status, StatusCode::SEE_OTHER);
    assert_eq!(request_state(&console, &approval_request).await, ApprovalState::Approved);
    let withdrawn = bob.cast_vote(&approval_request, "vote=deny&reason=on+second+thought").await;
    assert_eq!(withdrawn.status, StatusCode::SEE_OTHER, "{}", withdrawn.body);
    assert_eq!(request_state(&console, &approval_request).await, ApprovalState::Denied);
}

#[tokio::test]
async fn a_form_of_another_page_or_login_decides_nothing() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let csrf = alice.csrf_token().await;
    let mut mallory = console.sign_in_person("mallory", "oncall").await;
    let mallorys_csrf = mallory.csrf_token().await;
    let path = format!("/approvals/{}/votes", approval_request.id);
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
        (Some("http://127.0.0.1:8600"), Some("same-origin"), &mallorys_csrf),
    ] {
        (alice.origin, alice.fetch_site) = (origin, site);
        let response = alice.send(Method::POST, &path, &format!("csrf={csrf}&vote=approve_once")).await;
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{origin:?} {site:?} {csrf}");
    }
    (alice.origin, alice.fetch_site) = (Some("http://127.0.0.1:8600"), Some("same-origin"));
    let response = alice.send(Method::POST, &path, "vote=approve_once").await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST, "a form without a token");
    assert!(console.approvals.get(approval_request.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn no_get_request_decides() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let csrf = alice.csrf_token().await;
    for path in [
        format!("/approvals/{}/votes?csrf={csrf}&vote=approve_once", approval_request.id),
        format!("/approvals/{}?csrf={csrf}&vote=approve_once&done=approve_once#", approval_request.id),
        format!("/api/v1/approval-requests/{}/votes?vote=approve_once", approval_request.id),
        format!("/signout?csrf={csrf}"),
    ] {
        let response = alice.get(&path).await;
        assert!(
            response.status == StatusCode::METHOD_NOT_ALLOWED || response.status == StatusCode::OK,
            "{path}"
        );
        let head = alice.send(Method::HEAD, &path, "").await;
        assert!(head.status == StatusCode::METHOD_NOT_ALLOWED || head.status == StatusCode::OK, "{path}");
    }
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "the login has ended");
    let now = console.approvals.get(approval_request.id).await.unwrap().unwrap();
    assert!(now.votes.is_empty() && now.state == ApprovalState::Pending);
}

#[tokio::test]
async fn a_person_cannot_approve_their_own_request_or_that_of_their_agent() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    for subject in ["agent-7", "boss", "Boss"] {
        let mut own = console.sign_in_person(subject, "oncall").await;
        let page = own.get(&format!("/approvals/{}", approval_request.id)).await.body;
        assert!(page.contains("your own request") && !page.contains("Approve once"), "{subject}: {page}");
        for form in ["vote=approve_once", "vote=approve_time_bound&minutes=15", "vote=break_glass&reason=x"] {
            let response = own.cast_vote(&approval_request, form).await;
            assert_eq!(response.status, StatusCode::FORBIDDEN, "{subject} {form}: {}", response.body);
        }
    }
    assert!(console.approvals.get(approval_request.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn a_person_in_no_approver_group_cannot_vote() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut carol = console.sign_in_person("carol", "finance").await;
    let page = carol.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(
        page.contains("Only members of oncall may vote on this request.") && !page.contains("Approve once"),
        "{page}"
    );
    for form in ["vote=approve_once", "vote=deny&reason=no", "vote=break_glass&reason=x"] {
        let response = carol.cast_vote(&approval_request, form).await;
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{form}");
        assert!(response.body.contains("Your vote was not recorded: "), "{}", response.body);
    }
    assert_eq!(request_state(&console, &approval_request).await, ApprovalState::Pending);
    let mut fire = console.sign_in_person("dora", "fire").await;
    assert!(fire.get(&format!("/approvals/{}", approval_request.id)).await.body.contains("Use break-glass"));
    let response = fire.cast_vote(&approval_request, "vote=break_glass&reason=the+house+burns").await;
    assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
    assert_eq!(request_state(&console, &approval_request).await, ApprovalState::Approved);
}

#[tokio::test]
async fn a_time_bound_grant_has_the_chosen_duration_and_a_denial_needs_a_reason() {
    let console = TestConsole::start().await;
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    let approval_request = console.open_approval_request_with(new).await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    for (form, why) in [
        ("vote=deny&reason=+", "a reason is required."),
        ("vote=approve_time_bound", "choose how long the approval lasts."),
        ("vote=approve_time_bound&minutes=0", "a time-bound grant must end in the future."),
        ("vote=approve_time_bound&minutes=999999999", "a time-bound grant lasts at most 8 hours."),
        ("vote=approve_time_bound&minutes=600", "a time-bound grant lasts at most 8 hours."),
        ("vote=yes", "choose one of the votes on this page."),
    ] {
        let response = alice.cast_vote(&approval_request, form).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{form}: {}", response.body);
        let wanted = format!("Your vote was not recorded: {why}");
        assert!(response.body.contains(&wanted), "{form}: {}", response.body);
    }
    let response = alice.cast_vote(&approval_request, "vote=approve_time_bound&minutes=60").await;
    assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
    let now = console.approvals.get(approval_request.id).await.unwrap().unwrap();
    let minutes = (now.grant_until.unwrap() - now.created).whole_minutes();
    assert!(now.time_bound && (59..=60).contains(&minutes), "{minutes}");
}

#[tokio::test]
async fn a_vote_that_is_not_accepted_keeps_what_was_entered() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut dora = console.sign_in_person("dora", "oncall,fire").await;
    let long = "x".repeat(4_097);
    for (vote, field) in [("deny", "id=\"reason\""), ("break_glass", "id=\"break-glass-reason\"")] {
        let response = dora.cast_vote(&approval_request, &format!("vote={vote}&reason={long}")).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST);
        let (before, form) = response.body.split_once("<aside class=\"actions-side\"").unwrap();
        assert!(!before.contains("vote-error"), "the error is far from the form: {before}");
        assert!(form.contains("Your vote was not recorded: the reason is longer than 4096 bytes."), "{form}");
        assert_eq!(form.matches(&format!("value=\"{long}\"")).count(), 1, "{form}");
        let field = form.split(field).nth(1).unwrap().split('>').next().unwrap();
        assert!(field.contains(&long) && field.contains("aria-describedby=\"vote-error\""), "{field}");
        assert_eq!(form.contains("<details open>"), vote == "break_glass", "{form}");
    }
    let longest = &long[1..];
    let response = dora.cast_vote(&approval_request, &format!("vote=deny&reason={longest}")).await;
    assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.body);
}

#[tokio::test]
async fn only_people_who_may_vote_get_the_link_to_the_form() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    for (subject, groups, may_vote) in [
        ("alice", "oncall", true),
        ("dora", "fire", true),
        ("carol", "finance", false),
        ("boss", "staff", false),
    ] {
        let mut person = console.sign_in_person(subject, groups).await;
        let page = person.get(&format!("/approvals/{}", approval_request.id)).await.body;
        assert_eq!(page.contains("href=\"#voting\""), may_vote, "{subject}: {page}");
    }
}

#[tokio::test]
async fn an_approval_request_that_does_not_exist_is_not_found() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
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
    let response = alice.send(Method::POST, "/approvals/00000000000000000000000000000000/votes", &form).await;
    assert_eq!(response.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_approval_may_have_a_comment_that_is_kept() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let form = "vote=approve_once&reason=+checked%0D%0Awith+%3Cb%3Ethe+team++until+2030-01-01T00%3A00%3A00Z";
    assert_eq!(alice.cast_vote(&approval_request, form).await.status, StatusCode::SEE_OTHER);
    let mut bob = console.sign_in_person("bob", "oncall").await;
    let form = "vote=approve_time_bound&minutes=60&reason=until+2030-01-01T00%3A00%3A00Z";
    assert_eq!(bob.cast_vote(&approval_request, form).await.status, StatusCode::SEE_OTHER);
    let now = console.approvals.get(approval_request.id).await.unwrap().unwrap();
    let reasons: Vec<_> = now.votes.iter().map(|vote| vote.reason.clone().unwrap()).collect();
    assert_eq!(
        reasons,
        ["checked with <b>the team until 2030-01-01T00:00:00Z", "until 2030-01-01T00:00:00Z"]
    );
    let page = bob.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(page.contains("checked with &#60;b&#62;the team until 2030-01-01T00:00:00Z"), "{page}");
    // The comment is shown, and is not taken for the end of the grant.
    assert!(page.contains(": until 2030-01-01T00:00:00Z</li>"), "{page}");
    assert!(!page.contains("valid until 2030"), "{page}");
}

#[tokio::test]
async fn a_comment_that_looks_like_the_end_of_a_grant_stays_a_comment() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let form = "vote=approve_once&reason=until+2030-01-01T00%3A00%3A00Z";
    assert_eq!(alice.cast_vote(&approval_request, form).await.status, StatusCode::SEE_OTHER);
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(
        !page.contains("valid until 2030") && page.contains(": until 2030-01-01T00:00:00Z</li>"),
        "{page}"
    );
    let long = "x".repeat(4_097);
    let mut bob = console.sign_in_person("bob", "oncall").await;
    let response = bob.cast_vote(&approval_request, &format!("vote=approve_once&reason={long}")).await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST, "{}", response.body);
    assert!(response.body.contains(&format!(">{long}</textarea>")), "{}", response.body);
}

#[tokio::test]
async fn the_api_takes_a_comment_with_an_approval() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let token = console.issue_token("alice", &["oncall"]);
    let path = format!("/api/v1/approval-requests/{}/votes", approval_request.id);
    let body = r#"{"vote": "approve_once", "reason": "looks right"}"#;
    let (status, document) = console.call_api(Method::POST, &path, &token, body).await;
    assert_eq!(status, StatusCode::OK, "{document}");
    assert_eq!(document["votes"][0]["reason"], "looks right");
    assert_eq!(document["history"][1]["note"], "looks right");
    assert_eq!(document["caller_is_waiting"], false);
}
