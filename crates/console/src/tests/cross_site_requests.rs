//! Links and forms of others: whatever follows a link, previews it or scans it decides nothing, and no other site's page can send
//! an answer.

use super::test_console::TestConsole;
use bytes::Bytes;
use durward_approval::ApprovalState;
use http::{Method, Request, StatusCode};

#[tokio::test]
async fn viewing_every_page_decides_nothing() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let csrf = alice.csrf_token().await;
    let before = stage.approvals.get(ask.id).await.unwrap().unwrap();
    for path in [
        "/".to_owned(),
        format!("/approvals/{}", ask.id),
        format!("/approvals/{}/parameters.json", ask.id),
        format!("/approvals/{}/votes", ask.id),
        format!("/approvals/{}/votes?csrf={csrf}&vote=approve_once", ask.id),
        format!("/approvals/{}/approve?csrf={csrf}", ask.id),
        "/sessions".to_owned(),
        format!("/sessions/{}", ask.details.session),
        format!("/sessions/{}/revoke?csrf={csrf}", ask.details.session),
        "/policies".to_owned(),
        "/connections".to_owned(),
        "/health".to_owned(),
        format!("/signout?csrf={csrf}"),
        format!("/api/v1/approval-requests/{}", ask.id),
        format!("/api/v1/approval-requests/{}/votes?vote=approve_once", ask.id),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = alice.send(method.clone(), &path, "").await;
            assert!(answer.status != StatusCode::SEE_OTHER, "{method} {path}: {}", answer.status);
        }
        // A scanner that has no session sees the way to the sign-in page at most.
        let answer = stage.new_browser().get(&path).await;
        assert!(!answer.body.contains("payroll"), "{path}");
    }
    assert_eq!(stage.approvals.get(ask.id).await.unwrap().unwrap(), before);
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "still signed in");
}

#[tokio::test]
async fn the_api_takes_no_cookie_and_no_form() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    alice.csrf_token().await;
    let cookies: Vec<String> = alice.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("/api/v1/approval-requests/{}/votes", ask.id);
    // What a form of another site can send without asking first: these three kinds, with her cookies.
    for (kind, body) in [
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
                .header("content-type", kind)
                .header("cookie", cookies.join("; "))
                .body(Bytes::from(body))
                .unwrap();
            let answer = stage.send(request).await;
            assert!(answer.status.is_client_error(), "{kind} {origin}: {}", answer.status);
        }
    }
    // And it never says that another site may ask for more.
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri(&path)
        .header("host", "127.0.0.1:8600")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .body(Bytes::new())
        .unwrap();
    let answer = stage.send(preflight).await;
    assert!(
        answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")),
        "{:?}",
        answer.headers
    );
    let now = stage.approvals.get(ask.id).await.unwrap().unwrap();
    assert!(now.votes.is_empty() && now.state == ApprovalState::Pending);
}
