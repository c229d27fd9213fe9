//! The security headers of every response, and the host names under which the console serves pages.

use super::test_console::TestConsole;
use http::{Method, StatusCode, header};

#[tokio::test]
async fn responses_forbid_inline_scripts_framing_and_caching() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    for path in [
        "/",
        "/signin",
        "/nothing",
        &format!("/approvals/{}", approval_request.id),
        "/policies",
        "/api/v1/approval-requests",
    ] {
        let response = alice.get(path).await;
        let policy = response.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(response.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers[header::CACHE_CONTROL], "no-store", "{path}");
        for inline in [" style=", " onclick", " onload", "<style", "javascript:", "<script>"] {
            assert!(!response.body.contains(inline), "{path}: {inline}");
        }
    }
}

#[tokio::test]
async fn a_foreign_host_name_gets_no_page() {
    let console = TestConsole::start().await;
    let alice = console.sign_in_person("alice", "oncall").await;
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
        let response = console.send(request).await;
        assert_eq!(response.status, status);
        if status == StatusCode::TEMPORARY_REDIRECT {
            assert_eq!(response.location(), "http://127.0.0.1:8600/approvals/x?y=z");
        }
    }
}
