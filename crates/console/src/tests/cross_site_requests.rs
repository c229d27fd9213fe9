//! Cross-site requests: following, previewing or scanning a link decides nothing, and a page of another site cannot cast a
//! vote.

use super::test_console::TestConsole;
use bytes::Bytes;
use durward_approval::ApprovalState;
use http::{Method, Request, StatusCode};

#[tokio::test]
async fn viewing_every_page_decides_nothing() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let csrf = alice.csrf_token().await;
    let before = console.approvals.get(approval_request.id).await.unwrap().unwrap();
    for path in [
        "/".to_owned(),
        format!("/approvals/{}", approval_request.id),
        format!("/approvals/{}/parameters.json", approval_request.id),
        format!("/approvals/{}/votes", approval_request.id),
        format!("/approvals/{}/votes?csrf={csrf}&vote=approve_once", approval_request.id),
        format!("/approvals/{}/approve?csrf={csrf}", approval_request.id),
        "/sessions".to_owned(),
        format!("/sessions/{}", approval_request.details.session),
        format!("/sessions/{}/revoke?csrf={csrf}", approval_request.details.session),
        "/policies".to_owned(),
        "/connections".to_owned(),
        "/health".to_owned(),
        format!("/signout?csrf={csrf}"),
        format!("/api/v1/approval-requests/{}", approval_request.id),
        format!("/api/v1/approval-requests/{}/votes?vote=approve_once", approval_request.id),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let response = alice.send(method.clone(), &path, "").await;
            assert!(response.status != StatusCode::SEE_OTHER, "{method} {path}: {}", response.status);
            assert!(!response.status.is_server_error(), "{method} {path}: {}", response.status);
        }
        // A scanner without a login gets to the sign-in page at most.
        let response = console.new_browser().get(&path).await;
        assert!(!response.body.contains("payroll"), "{path}");
    }
    assert_eq!(console.approvals.get(approval_request.id).await.unwrap().unwrap(), before);
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "the login has ended");
}

#[tokio::test]
async fn the_api_takes_no_cookie_and_no_form() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    alice.csrf_token().await;
    let cookies: Vec<String> = alice.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("/api/v1/approval-requests/{}/votes", approval_request.id);
    // A cross-site form can send these three content types without a preflight, and her cookies with them (Fetch standard,
    // CORS-safelisted request header).
    for (content_type, body) in [
        ("text/plain", "{\"vote\":\"approve_once\",\"reason\":\"=\"}"),
        ("application/x-www-form-urlencoded", "vote=approve_once"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"vote\"\r\n\r\napprove_once\r\n--x--",
        ),
    ] {
        for origin in ["https://evil.example", "null", super::test_console::CONSOLE_ORIGIN] {
            let request = Request::post(&path)
                .header("host", "127.0.0.1:8600")
                .header("origin", origin)
                .header("content-type", content_type)
                .header("cookie", cookies.join("; "))
                .body(Bytes::from(body))
                .unwrap();
            let response = console.send(request).await;
            assert!(response.status.is_client_error(), "{content_type} {origin}: {}", response.status);
        }
    }
    // A preflight gets no permission for anything else.
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri(&path)
        .header("host", "127.0.0.1:8600")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .body(Bytes::new())
        .unwrap();
    let response = console.send(preflight).await;
    assert!(
        response.headers.keys().all(|name| !name.as_str().starts_with("access-control-")),
        "{:?}",
        response.headers
    );
    let now = console.approvals.get(approval_request.id).await.unwrap().unwrap();
    assert!(now.votes.is_empty() && now.state == ApprovalState::Pending);
}
