//! Links and forms of others: whatever follows a link, previews it or scans it decides nothing, and no other site's page can send
//! an answer.

use super::stage::Stage;
use bytes::Bytes;
use durward_approval::State;
use http::{Method, Request, StatusCode};

#[tokio::test]
async fn who_looks_at_every_page_decides_nothing() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let mut alice = stage.person("alice", "oncall").await;
    let csrf = alice.csrf().await;
    let before = stage.approvals.get(ask.id).await.unwrap().unwrap();
    for path in [
        "/".to_owned(),
        format!("/asks/{}", ask.id),
        format!("/asks/{}/parameters.json", ask.id),
        format!("/asks/{}/answer", ask.id),
        format!("/asks/{}/answer?csrf={csrf}&answer=approve_once", ask.id),
        format!("/asks/{}/approve?csrf={csrf}", ask.id),
        "/sessions".to_owned(),
        format!("/sessions/{}", ask.what.session),
        format!("/sessions/{}/revoke?csrf={csrf}", ask.what.session),
        "/policies".to_owned(),
        "/connections".to_owned(),
        "/health".to_owned(),
        format!("/signout?csrf={csrf}"),
        format!("/api/v1/asks/{}", ask.id),
        format!("/api/v1/asks/{}/answer?answer=approve_once", ask.id),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = alice.send(method.clone(), &path, "").await;
            assert!(answer.status != StatusCode::SEE_OTHER, "{method} {path}: {}", answer.status);
        }
        // A scanner that has no session sees the way to the sign-in page at most.
        let answer = stage.browser().get(&path).await;
        assert!(!answer.body.contains("payroll"), "{path}");
    }
    assert_eq!(stage.approvals.get(ask.id).await.unwrap().unwrap(), before);
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "still signed in");
}

#[tokio::test]
async fn the_api_takes_no_cookie_and_no_form() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let mut alice = stage.person("alice", "oncall").await;
    alice.csrf().await;
    let cookies: Vec<String> = alice.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let path = format!("/api/v1/asks/{}/answer", ask.id);
    // What a form of another site can send without asking first: these three kinds, with her cookies.
    for (kind, body) in [
        ("text/plain", "{\"answer\":\"approve_once\",\"reason\":\"=\"}"),
        ("application/x-www-form-urlencoded", "answer=approve_once"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"answer\"\r\n\r\napprove_once\r\n--x--",
        ),
    ] {
        for origin in ["https://evil.example", "null", super::stage::ORIGIN] {
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
    assert!(now.votes.is_empty() && now.state == State::Pending);
}
