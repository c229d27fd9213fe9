//! What the pages show, and the stream that keeps them fresh.

use super::test_console::{TestConsole, new_approval_request};
use crate::AwsIdentityState;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn the_approvals_page_separates_requests_for_the_viewer_from_others() {
    let stage = TestConsole::start().await;
    stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let page = alice.get("/").await.body;
    assert!(page.contains("Waiting for you <span class=\"count\">1</span>"), "{page}");
    assert!(page.contains("arn:aws:s3:::payroll") && page.contains("2 of oncall"), "{page}");
    let mut carol = stage.sign_in_person("carol", "finance").await;
    let page = carol.get("/").await.body;
    assert!(page.contains("Waiting for you <span class=\"count\">0</span>"), "{page}");
    assert!(page.contains("Waiting for others <span class=\"count\">1</span>"), "{page}");
}

#[tokio::test]
async fn an_approval_request_shows_what_was_decoded_and_marks_what_was_not() {
    let stage = TestConsole::start().await;
    let mut new = new_approval_request();
    new.operation.uninspected_parts = vec!["body".to_owned()];
    new.operation.parameters = json!({"Bucket": "payroll", "Key": "***", "Long": "x".repeat(9_000)});
    new.operation.sensitive_pointers = vec!["/Key".to_owned()];
    let ask = stage.open_approval_request_with(new).await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let page = alice.get(&format!("/approvals/{}", ask.id)).await.body;
    for wanted in [
        "corp/agent-7",
        "boss",
        "arn:aws:s3:::payroll",
        "123456789012",
        "eu-west-1",
        "192.0.2.7",
        "the caller&#39;s own words",
        "Not inspected",
        "no-deletion",
        "0 of 2",
        "cannot be brought back",
        "1000 more characters are not shown here",
        "masked</span>",
        &ask.digest_hex(),
    ] {
        assert!(page.contains(wanted) || page.contains(&wanted.replace("&#39;", "'")), "{wanted}: {page}");
    }
    let whole = alice.get(&format!("/approvals/{}/parameters.json", ask.id)).await;
    assert!(whole.body.contains(&"x".repeat(9_000)));
    assert!(whole.headers[header::CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment"));
}

#[tokio::test]
async fn an_approval_request_shows_the_tags_that_were_looked_up() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let page_with = |tags: serde_json::Value, digest| {
        let mut new = new_approval_request();
        new.tags = serde_json::from_value(tags).unwrap();
        new.digest = [digest; 32];
        new
    };
    let ask = stage.open_approval_request_with(page_with(json!({}), 1)).await;
    assert!(!alice.get(&format!("/approvals/{}", ask.id)).await.body.contains("<dt>Tags</dt>"));
    let one = json!({"arn:aws:s3:::payroll": {"critical": "true", "owner": "hr"}});
    let ask = stage.open_approval_request_with(page_with(one, 2)).await;
    let page = alice.get(&format!("/approvals/{}", ask.id)).await.body;
    assert!(page.contains(">critical=true</span>") && page.contains(">owner=hr</span>"), "{page}");
    let two = json!({"arn:aws:s3:::payroll": {"critical": "true"}, "arn:aws:s3:::other": {}});
    let ask = stage.open_approval_request_with(page_with(two, 3)).await;
    let page = alice.get(&format!("/approvals/{}", ask.id)).await.body;
    assert!(page.contains("<code>arn:aws:s3:::other</code>: none"), "{page}");
    assert!(page.contains("<code>arn:aws:s3:::payroll</code>: <span"), "{page}");
}

#[tokio::test]
async fn the_history_is_described_in_words() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let mut bob = stage.sign_in_person("bob", "oncall").await;
    for person in [&mut alice, &mut bob] {
        assert_eq!(person.cast_vote(&ask, "vote=approve_once").await.status, StatusCode::SEE_OTHER);
    }
    let page = alice.get(&format!("/approvals/{}", ask.id)).await.body;
    let granted = page.split("<strong>granted</strong>: until ").nth(1).unwrap();
    assert_eq!(page.matches("approved once").count(), 2, "each answer once: {page}");
    let until = granted.split("</li>").next().unwrap();
    assert!(page.matches("<strong>approved once</strong> by corp/bob").count() == 1, "{page}");
    assert!(until.len() == "2026-11-21 12:00:00 UTC".len() && until.ends_with(" UTC"), "{until}");
}

#[tokio::test]
async fn the_other_pages_are_there() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    for (path, wanted) in [
        ("/sessions", "No caller has signed in yet"),
        ("/connections", "arn:aws:iam::123456789012:role/agents"),
        ("/health", "Everything the console can see works"),
        ("/policies", "1 policy in force"),
        ("/policies?action=connect&resource=prod", "allow: connect on prod"),
        ("/policies?action=nonsense", "role=\"alert\""),
    ] {
        let answer = alice.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.body.contains(wanted), "{path}: {}", answer.body);
    }
    std::fs::write(stage.dir.path().join("policies/b.cedar"), "permit (").unwrap();
    let page = alice.get("/policies").await.body;
    assert!(page.contains("The files do not load, and the last good set stays in force"), "{page}");
    let style = page.split("href=\"/assets/console-").nth(1).unwrap().split('"').next().unwrap();
    let answer = alice.get(&format!("/assets/console-{style}")).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(alice.get("/assets/console.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_channel_that_fails_is_on_the_health_page_and_in_the_api() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let token = stage.issue_token("alice", &["oncall"]);
    let (_status, all) = stage.call_api(Method::GET, "/api/v1/channels", &token, "").await;
    let unused = json!({"name": "oncall-chat", "kind": "slack", "waiting": 0, "last_success": null,
        "failing_since": null, "last_error": null});
    assert_eq!(all, json!({"channels": [unused]}));
    let page = alice.get("/health").await.body;
    assert!(
        page.contains("oncall-chat") && page.contains("not used yet") && page.contains("1 channel<"),
        "{page}"
    );
    let mut write = stage.store.begin_write().await.unwrap();
    write.advance_channel_cursor("oncall-chat", 0).await.unwrap();
    write
        .record_channel_failure("oncall-chat", 1_763_694_425_000, "it <b>answered</b> \u{202e}500")
        .await
        .unwrap();
    write.insert_delivery("oncall-chat", "1", "approval_request.opened", 1).await.unwrap();
    write.commit().await.unwrap();
    let page = alice.get("/health").await.body;
    for wanted in [
        "1 of 1 channels failing: oncall-chat",
        "failing</span> since 2025-11-21 03:07:05 UTC",
        "&#60;b&#62;answered",
        "\\u{202e}500",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let (_status, all) = stage.call_api(Method::GET, "/api/v1/channels", &token, "").await;
    assert_eq!(all["channels"][0]["failing_since"], "2025-11-21T03:07:05Z");
    assert_eq!(all["channels"][0]["waiting"], 1);
    assert_eq!(
        stage.call_api(Method::GET, "/api/v1/health", &token, "").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn health_says_that_the_gateway_is_nobody_to_aws() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let token = stage.issue_token("alice", &["oncall"]);
    assert!(alice.get("/health").await.body.contains("found: environment<"));
    assert_eq!(stage.call_api(Method::GET, "/api/v1/health", &token, "").await.0, StatusCode::OK);
    let since = time::OffsetDateTime::from_unix_timestamp(1_763_694_425).unwrap();
    let why = "no credential found in <b>environment".to_owned();
    *stage.aws_identity.0.lock().unwrap() = AwsIdentityState::Missing { since, reason: why };
    let page = alice.get("/health").await.body;
    for wanted in
        [">Degraded<", "none since 2025-11-21 03:07:05 UTC", "no credential found in &#60;b&#62;environment"]
    {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let (status, health) = stage.call_api(Method::GET, "/api/v1/health", &token, "").await;
    assert_eq!((status, &health["healthy"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    *stage.aws_identity.0.lock().unwrap() = AwsIdentityState::Unresolved;
    assert!(alice.get("/health").await.body.contains("none found yet"));
}

#[tokio::test]
async fn a_change_reaches_a_listening_page_and_program() {
    let stage = TestConsole::start().await;
    let alice = stage.sign_in_person("alice", "oncall").await;
    let cookie = format!("durward={}", alice.cookies["durward"]);
    let bearer = format!("Bearer {}", stage.issue_token("alice", &["oncall"]));
    let mut streams = Vec::new();
    for (path, name, value) in [("/events", "cookie", &cookie), ("/api/v1/events", "authorization", &bearer)]
    {
        let request = Request::get(path).header("host", "127.0.0.1:8600").header(name, value);
        let response = stage.console.respond(request.body(Full::new(Bytes::new())).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        streams.push(response.into_body());
    }
    let ask = stage.open_approval_request().await;
    for mut stream in streams {
        let mut text = String::new();
        while !text.contains("event: approval_request") {
            let frame = tokio::time::timeout(Duration::from_secs(5), stream.frame()).await.unwrap();
            text.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
        }
        assert!(text.contains(&format!("data: {{\"id\":\"{}\"}}", ask.id)), "{text}");
    }
}

#[tokio::test]
async fn one_person_does_not_take_the_streams_of_others() {
    let stage = TestConsole::start().await;
    let (alice, bob) =
        (stage.sign_in_person("alice", "oncall").await, stage.sign_in_person("bob", "oncall").await);
    let page = |cookie: &str| ("/events", "cookie", format!("durward={cookie}"));
    let program = |who: &str| {
        ("/api/v1/events", "authorization", format!("Bearer {}", stage.issue_token(who, &["oncall"])))
    };
    let listen = async |(path, name, value): (&str, &str, String)| {
        let request = Request::get(path).header("host", "127.0.0.1:8600").header(name, value);
        let response = stage.console.respond(request.body(Full::new(Bytes::new())).unwrap()).await;
        (response.status() == StatusCode::OK).then(|| response.into_body())
    };
    let mut streams = Vec::new();
    while let Some(stream) = listen(page(&alice.cookies["durward"])).await {
        streams.push(stream);
        assert!(streams.len() <= 16, "one person takes all");
    }
    assert_eq!(streams.len(), 16);
    assert!(listen(program("alice")).await.is_none(), "the same person with a token");
    assert!(listen(page(&bob.cookies["durward"])).await.is_some());
    assert!(listen(program("bob")).await.is_some());
    streams.pop();
    assert!(listen(program("alice")).await.is_some(), "what was given back can be taken again");
}
